"""From a loaded model to what is served: preprocessing, softmax and our order of the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.convert import write_onnx
from export.foreign.errors import ConversionError, ShapeRefused, WishError
from export.foreign.source import Source
from export.foreign.wish import OURS, Preprocessing, Wish
from service.card import InputSpec
from service.types import Head
from training.calibrate import softmax
from training.metrics import Floats

Answers = Literal["probabilities", "logits"]
SLACK = 1e-3
"""How far the sum of a distribution may be from 1: the service allows the same."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model made elsewhere with all that is known of it; `export.convert.Described`.

    Attributes:
        wish: what its owner says of it.
        model: the network.
        input: what the graph takes.
        labels: head -> labels in the order of the graph: ours.
        answers: head -> what the model itself gives.
    """

    wish: Wish
    model: Source
    input: InputSpec
    labels: Mapping[Head, tuple[str, ...]]
    answers: Mapping[Head, Answers]

    @property
    def name(self) -> str:
        """The folder's."""
        return self.wish.name

    @property
    def version(self) -> str:
        """As its owner counts."""
        return self.wish.version

    @property
    def source(self) -> str:
        """Where its owner has it from."""
        return self.wish.source

    @property
    def summary(self) -> str:
        """One line, made where the owner gave none."""
        return self.wish.summary or f"{' and '.join(self.labels).capitalize()}, made elsewhere"

    def write(self, folder: Path) -> Path:
        """Write `folder/model.onnx`; see `export.convert.write_onnx`."""
        return write_onnx(self._serve, self, folder)

    def reference(
        self, crops: NDArray[np.uint8], temperatures: Mapping[Head, float]
    ) -> dict[Head, NDArray[np.float64]]:
        """What the graph must answer: the model itself, and numpy around it.

        Args:
            crops: uint8 (N, S, S, C).
            temperatures: of the heads that have one.

        Returns:
            By head, (N, K) probabilities.
        """
        outputs = self.model.call(_scaled(crops, self.wish.input))
        result: dict[Head, NDArray[np.float64]] = {}
        for head, values in zip(self.labels, outputs, strict=True):
            answer = np.asarray(values, np.float32)
            probabilities = softmax(answer) if self.answers[head] == "logits" else answer
            if head in temperatures:
                probabilities = softmax(as_logits(probabilities), temperatures[head])
            result[head] = np.asarray(probabilities[:, self._places(head)], np.float64)
        return result

    def _serve(self, image: Any) -> list[Any]:
        import tensorflow as tf

        statistics = self.wish.input.statistics
        pictures = tf.cast(image, tf.float32)
        if self.wish.input.color == "bgr":
            pictures = tf.gather(pictures, [2, 1, 0], axis=3)
        mean, std = tf.constant(statistics.mean), tf.constant(statistics.std)
        outputs = self.model.call((pictures - mean) / std)
        result = []
        for head, values in zip(self.labels, outputs, strict=True):
            answer = tf.nn.softmax(values) if self.answers[head] == "logits" else values
            places = self._places(head)
            sorted_already = places == sorted(places)
            result.append(answer if sorted_already else tf.gather(answer, places, axis=1))
        return result

    def _places(self, head: Head) -> list[int]:
        # Where the labels of the graph stand in the output of the network.
        return [self.wish.labels[head].index(name) for name in self.labels[head]]


def as_logits(probabilities: Floats) -> NDArray[np.float32]:
    """Logits whose softmax they are, float32 (N, K)."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32)


def fit(source: Source, wish: Wish) -> Foreign:
    """Hold what the owner says against what the model is.

    Raises:
        WishError: colour or labels do not fit.
        ShapeRefused: the model takes or gives what cannot be served.
    """
    size, channels = source.crop()
    color: Literal["gray", "rgb"] = "gray" if wish.input.color == "gray" else "rgb"
    spec = InputSpec(size=size, color=color, framing=wish.input.framing)
    if spec.channels != channels:
        raise WishError(
            f"the model takes pictures of {channels} channels, {wish.input.color} has "
            f"{spec.channels}"
        )
    statistics = wish.input.statistics
    for numbers in (statistics.mean, statistics.std):
        if len(numbers) not in (1, channels):
            raise WishError(f"{len(numbers)} numbers of scaling for {channels} channels")
    _check_outputs(source, wish)
    labels = {head: _ordered(head, names) for head, names in wish.labels.items()}
    answers = _answers(source, wish, spec)
    return Foreign(wish, source, spec, labels, answers)


def _check_outputs(source: Source, wish: Wish) -> None:
    names = ", ".join(source.outputs)
    if len(source.outputs) != len(wish.labels):
        raise WishError(
            f"the model has {len(source.outputs)} outputs ({names}), labels are given for "
            f"{len(wish.labels)} ({', '.join(wish.labels)}): one head for each output, in order"
        )
    for (name, shape), (head, labels) in zip(
        source.outputs.items(), wish.labels.items(), strict=True
    ):
        if len(shape) != 2 or shape[1] is None:
            raise ShapeRefused(f"output {name!r} has the shape {shape}; one row (N, K) is needed")
        if shape[1] != len(labels):
            raise WishError(
                f"output {name!r} gives {shape[1]} values, {head} has {len(labels)} labels: "
                f"{', '.join(labels)}"
            )


def _answers(source: Source, wish: Wish, spec: InputSpec) -> dict[Head, Answers]:
    if wish.output == "logits":  # any numbers may be
        return dict.fromkeys(wish.labels, wish.output)
    shape = (16, spec.size, spec.size, spec.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    try:
        outputs = source.call(_scaled(noise, wish.input))
    except Exception as error:  # TensorFlow and Keras let through whatever an op raises.
        reason = " ".join(str(error).split())[:300]
        raise ConversionError(f"the model fails on {shape} of noise: {reason}") from error
    kinds = {
        head: _kind(head, np.asarray(values, np.float64))
        for head, values in zip(wish.labels, outputs, strict=True)
    }
    if wish.output == "probabilities" and "logits" in kinds.values():
        head = next(head for head, kind in kinds.items() if kind == "logits")
        raise WishError(
            f"{head}: --output says probabilities, but the answers to noise leave 0..1; they are "
            "taken for logits without it"
        )
    return kinds


def _kind(head: Head, values: NDArray[np.float64]) -> Answers:
    if not np.isfinite(values).all():
        raise ShapeRefused(f"{head}: the model answers noise with numbers that are not finite")
    if values.min() < 0 or values.max() > 1:
        return "logits"
    if np.abs(values.sum(axis=1) - 1).max() <= SLACK:
        return "probabilities"
    raise WishError(
        f"{head}: the answers to noise lie in 0..1, but do not sum to 1: a sigmoid for each label "
        "cannot be served; say --output logits if they are logits all the same"
    )


def _scaled(crops: NDArray[np.uint8], wanted: Preprocessing) -> NDArray[np.float32]:
    pictures = crops[..., ::-1] if wanted.color == "bgr" else crops
    mean, std = np.array(wanted.statistics.mean), np.array(wanted.statistics.std)
    return np.asarray((pictures - mean) / std, np.float32)


def _ordered(head: Head, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in OURS[head] if name in names)
