"""Why a model said what it said: a map of what in a crop counted, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.card import InputSpec, ModelCard
from service.core.batcher import Served
from service.core.ports import Gradients, Runner
from service.core.prepare import Prepared
from service.errors import InferenceError, InvalidOption
from service.types import Box, CropItem, Head, Method, Pixels, Probabilities, Result
from service.vision.crops import square_of
from service.vision.saliency import (
    Map,
    draw,
    draw_over,
    occlusion_count,
    occlusion_map,
    occlusions,
)

_VIEW_SIDE = 256


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """How one caller wants an image explained."""

    method: Method = "guided"
    labels: tuple[str, ...] = ()
    """Explained in place of what was predicted, by the heads that have them."""
    overlay: bool = False
    """Whether a map is drawn over the photo, instead of alone."""


@dataclass(frozen=True, slots=True)
class ExplainItem:
    """One head's answer for one face."""

    crop: NDArray[np.uint8]
    """(S, S, C), as the card's input says."""
    head: Head
    place: int
    """Of the class among the head's labels."""
    method: Method
    view: Pixels | None
    """(V, V, 3) RGB, the same part of the photo, to be drawn over; None to draw the map alone."""

    @property
    def cost(self) -> float:
        """In runs of the model on one crop; a gradient takes as long as about four of them."""
        return 1.0 + occlusion_count(len(self.crop)) if self.method == "occlusion" else 4.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What counted for one class of one face."""

    label: str
    area: Box
    """What the picture shows, in pixels of the full upright image; may reach beyond it."""
    png: bytes


@dataclass(frozen=True, slots=True)
class Explained:
    """An analysed image with an explanation for each head of each face, in the faces' order."""

    result: Result
    explanations: tuple[Mapping[Head, Explanation], ...]


class Explainer:
    """A `Runner` over `ExplainItem`s: the pictures, as PNG files."""

    def __init__(
        self,
        model: Runner[CropItem, Probabilities],
        gradients: Gradients | None,
        max_batch_size: int,
    ) -> None:
        """Put the parts together.

        Args:
            model: answers for crops that are partly covered.
            gradients: of the same model; None where it has none.
            max_batch_size: crops that `model` takes at a time.
        """
        self._model = model
        self._gradients = gradients
        self._max_batch_size = max_batch_size

    def run(self, items: Sequence[ExplainItem]) -> list[bytes]:
        """Explain each item.

        Raises:
            InferenceError: a model run failed, or a gradient is asked of a model that has none.
        """
        maps = self._by_gradient(items, guided=True) | self._by_gradient(items, guided=False)
        return [
            _picture(item, maps[place] if place in maps else self._by_occlusion(item))
            for place, item in enumerate(items)
        ]

    def _by_gradient(self, items: Sequence[ExplainItem], *, guided: bool) -> dict[int, Map]:
        method = "guided" if guided else "gradient"
        own = {place: item for place, item in enumerate(items) if item.method == method}
        if not own:
            return {}
        if self._gradients is None:
            raise InferenceError("the model has no explain graph")
        maps = self._gradients.maps(
            [item.crop for item in own.values()],
            [(item.head, item.place) for item in own.values()],
            guided=guided,
        )
        return dict(zip(own, maps, strict=True))

    def _by_occlusion(self, item: ExplainItem) -> Map:
        crops = [CropItem(crop, (item.head,)) for crop in (item.crop, *occlusions(item.crop))]
        answers: list[Probabilities] = []
        for start in range(0, len(crops), self._max_batch_size):
            answers += self._model.run(crops[start : start + self._max_batch_size])
        whole, *covered = (answer[item.head][item.place] for answer in answers)
        return occlusion_map(whole - np.array(covered, np.float32), len(item.crop))


def check_method(method: Method, cards: Mapping[Head, ModelCard]) -> None:
    """Hold a method against the models that are to be explained.

    Raises:
        InvalidOption: one of them has no gradient graph, and the method needs it.
    """
    for card in cards.values():
        if method != "occlusion" and card.explain_sha256 is None:
            raise InvalidOption(
                f"model {card.name!r} cannot be explained by method={method}: it has no explain "
                "graph; take method=occlusion"
            )


def wished_labels(labels: Sequence[str], cards: Mapping[Head, ModelCard]) -> dict[Head, str]:
    """Which head is to explain which label; the others explain what they predict.

    Raises:
        InvalidOption: no head has a label, or one has two of them.
    """
    wished: dict[Head, str] = {}
    for label in labels:
        owners = [head for head, card in cards.items() if label in card.heads[head].labels]
        if not owners:
            known = [name for head, card in cards.items() for name in card.heads[head].labels]
            raise InvalidOption(f"no label {label!r}; there are {', '.join(known) or 'none'}")
        if twice := [head for head in owners if head in wished]:
            raise InvalidOption(f"{twice[0]} can be explained for one label only")
        wished |= dict.fromkeys(owners, label)
    return wished


def with_views(specs: Mapping[str, InputSpec]) -> dict[str, InputSpec]:
    """Crops to be cut for the models, and the same parts of the photo, in colour, to draw over."""
    views = {
        _view(name): InputSpec(size=_VIEW_SIDE, color="rgb", framing=spec.framing)
        for name, spec in specs.items()
    }
    return {**specs, **views}


def items(
    prepared: Prepared, card: ModelCard, head: Head, labels: Sequence[str], wanted: ExplainOptions
) -> list[ExplainItem]:
    """What is to be explained of one head: for each face the label that is named."""
    crops = prepared.crops[card.name]
    views = prepared.crops[_view(card.name)] if wanted.overlay else [None] * len(crops)
    places = [card.heads[head].labels.index(label) for label in labels]
    return [
        ExplainItem(crop, head, place, wanted.method, view)
        for crop, place, view in zip(crops, places, views, strict=True)
    ]


def explanations(
    prepared: Prepared,
    card: ModelCard,
    labels: Sequence[str],
    pictures: Sequence[Served[bytes]],
    *,
    detect: bool,
) -> list[Explanation]:
    """The pictures of one head, each with its label and the place that it has in the image."""
    framing = card.input.framing
    return [
        Explanation(label, square_of(face.box, framing) if detect else face.box, picture.output)
        for label, face, picture in zip(labels, prepared.faces, pictures, strict=True)
    ]


def by_face(
    by_head: Mapping[Head, Sequence[Explanation]], count: int
) -> tuple[Mapping[Head, Explanation], ...]:
    """The same, turned round."""
    return tuple({head: found[index] for head, found in by_head.items()} for index in range(count))


def _view(name: str) -> str:
    # No model's name has a space.
    return f"{name} view"


def _picture(item: ExplainItem, values: Map) -> bytes:
    return draw(values) if item.view is None else draw_over(values, item.view)
