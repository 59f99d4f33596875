"""name -> verified card and loaded model; and the runner that feeds crops to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.card import MODEL_FILE, ModelCard, find_models, load_card
from service.errors import CardInvalid, InvalidItem, ModelError
from service.runtime.explain import GradientGraph
from service.runtime.files import read_checked
from service.runtime.session import OrtSession, SessionOptions, buckets, pad_to_bucket
from service.types import CropItem, Head, Probabilities


class Model:
    """A verified model folder with its session: crops in, probabilities out."""

    def __init__(self, folder: Path, options: SessionOptions) -> None:
        """Read the card, verify the file against it and load it.

        Raises:
            CardInvalid: no card, a wrong field, or a graph that is not as the card says.
            HashMismatch: the file is not the one that the card describes.
            ModelError: ONNX Runtime cannot load the file; or it is a variant, and what it was
                made of is not beside it.
        """
        self.card: ModelCard = load_card(folder)
        path = folder / MODEL_FILE
        self._session = OrtSession(path, options, read_checked(path, self.card.sha256))
        _check_graph(self.card, self._session)
        self.gradients = self._gradients(folder, options)
        self._buckets = buckets(options.max_batch_size)
        self._shape = (self.card.input.size, self.card.input.size, self.card.input.channels)

    def _gradients(self, folder: Path, options: SessionOptions) -> GradientGraph | None:
        # The explain graph takes its weights from a float32 file: for a variant, its model's.
        card = self.card
        if card.variant_of is not None:
            folder = folder.with_name(card.variant_of)
            card = _base_card(card, folder)
        if card.explain_sha256 is None:
            return None
        return GradientGraph(folder, card, options, _first_classes(self._session))

    @property
    def provider(self) -> str:
        """The execution provider in use: `cpu` or `cuda`."""
        return self._session.provider

    def warm_up(self) -> None:
        """Run every bucket once, so that no request pays for a first run."""
        for size in self._buckets:
            self._infer(np.zeros((size, *self._shape), np.uint8), tuple(self.card.heads))

    def run(self, items: Sequence[CropItem]) -> list[Probabilities]:
        """Run one batch; see `service.core.ports.Runner`."""
        for item in items:
            if item.crop.shape != self._shape or item.crop.dtype != np.uint8:
                raise InvalidItem(f"{self.card.name} takes uint8 {self._shape} crops")
        wanted = {head for item in items for head in item.heads}
        heads = tuple(head for head in self.card.heads if head in wanted)
        batch = np.stack([item.crop for item in items])  # (N, S, S, C)
        if self.provider == "cuda":
            batch = pad_to_bucket(batch, self._buckets)
        outputs = self._infer(batch, heads)
        return [{head: outputs[head][row] for head in item.heads} for row, item in enumerate(items)]

    def _infer(
        self, batch: NDArray[np.uint8], heads: tuple[Head, ...]
    ) -> dict[Head, NDArray[np.float32]]:
        outputs = self._session.run(self.card.input.name, batch, heads)
        return dict(zip(heads, outputs, strict=True))


def load_models(folder: Path, names: Sequence[str], options: SessionOptions) -> dict[str, Model]:
    """Load the named models of a models folder, or all of them when `names` is empty.

    Raises:
        ModelError: the folder or a model is missing or cannot be served.
    """
    found = find_models(folder)
    if not found:
        raise ModelError(f"no model folder with a card in {folder}")
    if unknown := [name for name in names if name not in found]:
        raise ModelError(f"no model {unknown[0]!r} in {folder}; there are {', '.join(found)}")
    return {name: Model(folder / name, options) for name in names or found}


def _base_card(variant: ModelCard, folder: Path) -> ModelCard:
    needed = f"model {variant.name!r} is a variant of {folder.name!r}"
    try:
        base = load_card(folder)
    except CardInvalid as error:
        raise ModelError(f"{needed} and needs it beside it: {error}") from error
    if base.sha256 != variant.variant_of_sha256:
        raise ModelError(
            f"{needed}, but of another {MODEL_FILE} than is there now: make it anew by "
            f"`python -m export quantize {folder.name}`, or remove its folder"
        )
    return base


def _first_classes(session: OrtSession) -> dict[str, int]:
    """Where each output's labels begin, counted through all outputs in their order."""
    counts = [int(shape[-1] or 0) for shape in session.outputs.values()]
    return dict(zip(session.outputs, accumulate(counts, initial=0), strict=False))


def _check_graph(card: ModelCard, session: OrtSession) -> None:
    spec = card.input
    expected = (spec.size, spec.size, spec.channels)
    shape, kind = session.inputs.get(spec.name, ()), session.input_types.get(spec.name)
    if shape[1:] != expected or isinstance(shape[0], int) or kind != "tensor(uint8)":
        raise CardInvalid(
            f"model {card.name!r}: the graph takes {spec.name} {kind} {shape}, "
            f"its card says tensor(uint8) {('N', *expected)}"
        )
    for head, head_spec in card.heads.items():
        output = session.outputs.get(head)
        if output is None or output[-1] != len(head_spec.labels):
            raise CardInvalid(
                f"model {card.name!r}: output {head} is {output}, "
                f"its card has {len(head_spec.labels)} labels"
            )
