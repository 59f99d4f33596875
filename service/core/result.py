"""What the stages gave, put together: faces with their predictions, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from service.card import ModelCard
from service.core.batcher import Served
from service.core.prepare import Answers, Prepared
from service.types import AnalyzedFace, Head, Timings
from service.vision.postprocess import to_prediction

Round = Mapping[Any, Sequence[Served[Any]]]
"""What several batchers gave, side by side."""


def faces_of(
    prepared: Prepared,
    heads: Mapping[Head, ModelCard],
    answers: Answers,
) -> tuple[AnalyzedFace, ...]:
    """Each face with what the models say of it.

    Args:
        prepared: the faces.
        heads: which model serves which head.
        answers: by model, one for each face.

    Raises:
        InferenceError: a model gave numbers that are no distribution.
    """
    return tuple(
        AnalyzedFace(
            face,
            {
                head: to_prediction(answers[card.name][index].output[head], card.heads[head])
                for head, card in heads.items()
            },
            prepared.qualities[index],
        )
        for index, face in enumerate(prepared.faces)
    )


def timings_of(prepare: Served[Prepared], rounds: Sequence[Round], started: float) -> Timings:
    """Where the time since `started`, of `perf_counter`, went."""
    # Models run side by side: the slowest item of a round is what the caller waited for.
    queue, infer = prepare.queue_s, 0.0
    for groups in rounds:
        items = [served for group in groups.values() for served in group]
        queue += max((served.queue_s for served in items), default=0.0)
        infer += max((served.run_s for served in items), default=0.0)
    return Timings(
        decode=prepare.output.decode_s,
        detect=prepare.output.detect_s,
        queue=queue,
        infer=infer,
        total=perf_counter() - started,
    )
