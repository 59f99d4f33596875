"""How sure a model made elsewhere may be: temperature and threshold of each head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.foreign.graph import Foreign, as_logits
from service.card import Framing
from service.types import Head
from training import calibrate
from training.batches import whole_crops
from training.datasets import Samples
from training.datasets.splits import fold_numbers
from training.evaluate import open_session, run
from training.labels import narrowed

FEWEST = 100
"""Images that a set must have: of fewer, chance would choose."""

NEAR = 0.1
"""In sides of a face, how far the framing of a set of whole images may be from the card's; of our
own cards none is farther. A published gender model whose card says 1.6 is right in 60 % of
UTKFace's images, whose framing is 1.014: a temperature fitted there is of no face that is served.
"""


def fit_calibration(
    foreign: Foreign, path: Path, validation: Mapping[str, Samples]
) -> dict[Head, calibrate.Calibration]:
    """Fit each head on all sets that label it and show faces as it is served them.

    Heads without such a set are not in the result.

    Args:
        foreign: the model.
        path: its graph without temperatures.
        validation: dataset -> its validation part.
    """
    session = open_session(path)
    found: dict[Head, list[Any]] = {head: [] for head in foreign.labels}
    for samples in validation.values():
        known = narrowed(samples, foreign.labels)
        heads = [head for head in foreign.labels if head in known.labels]
        if not heads or len(known) < FEWEST or not _as_served(known, foreign.input.framing):
            continue
        outputs = run(session, whole_crops(known, foreign.input))
        folds = fold_numbers(known.name, known.groups, calibrate.FOLDS)
        for head in heads:
            found[head].append((as_logits(outputs[head]), known.labels[head], folds))
    return {
        head: calibrate.fit(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        for head, rows in found.items()
        if rows
    }


def _as_served(samples: Samples, wanted: Framing) -> bool:
    own = samples.framing or wanted  # a set with a margin is cut as the card says
    return max(abs(own.scale - wanted.scale), abs(own.shift_y - wanted.shift_y)) <= NEAR
