"""Draws faces and what was said of them onto a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from service.types import AnalyzedFace, Box, Face, Pixels, Prediction

_COLOR = (80, 200, 60)
_INK = (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEGIBLE = 0.4


def annotate(
    pixels: Pixels, faces: Sequence[AnalyzedFace], tracks: Sequence[int] | None = None
) -> Pixels:
    """Draw boxes, landmarks and labels.

    Args:
        pixels: uint8 (H, W, 3) BGR at the scale of the faces.
        faces: as a `Result` gives them.
        tracks: the id of each face's track, to be written first; None for none.

    Returns:
        A copy with the drawing.
    """
    canvas = pixels.copy()
    thickness = max(1, round(max(canvas.shape[:2]) / 400))
    names = [[f"#{track}"] for track in tracks] if tracks is not None else [[]] * len(faces)
    for analyzed in faces:
        _draw_face(canvas, analyzed.face, thickness)
    boxes = [analyzed.face.box for analyzed in faces]
    labels: list[Box] = []
    for analyzed, name in zip(faces, names, strict=True):
        texts = [*name, *(_text(prediction) for prediction in analyzed.predictions.values())]
        if texts:
            label = _Label(texts, analyzed.face.box.width, 0.45 * thickness)
            labels.append(label.beside(analyzed.face.box, canvas.shape, labels, boxes))
            label.draw(canvas, labels[-1])
    return canvas


def _draw_face(canvas: Pixels, face: Face, thickness: int) -> None:
    box = face.box
    corner = (round(box.x), round(box.y))
    opposite = (round(box.x + box.width), round(box.y + box.height))
    cv2.rectangle(canvas, corner, opposite, _COLOR, thickness)
    if face.landmarks is not None:
        for x, y in face.landmarks:
            cv2.circle(canvas, (round(x), round(y)), 2 * thickness, _COLOR, cv2.FILLED)


def _text(prediction: Prediction) -> str:
    doubt = "?" if prediction.uncertain else ""
    return f"{prediction.label}{doubt} {prediction.probability:.0%}"


class _Label:
    """Lines of text on a ground, as wide as a face where they can be read so."""

    def __init__(self, texts: Sequence[str], width: float, largest: float) -> None:
        natural = max(cv2.getTextSize(text, _FONT, 1.0, 1)[0][0] for text in texts)
        self._texts = texts
        self._scale = min(max(width / natural, _LEGIBLE), largest)
        self._thickness = max(1, round(1.6 * self._scale))
        sizes = [cv2.getTextSize(text, _FONT, self._scale, self._thickness) for text in texts]
        (_, self._height), self._baseline = sizes[0]
        self._line = self._height + 2 * self._baseline
        self._width = max(width for (width, _), _ in sizes)

    def beside(
        self, box: Box, shape: Sequence[int], labels: Sequence[Box], boxes: Sequence[Box]
    ) -> Box:
        """Where it goes: below the box of its face, or above, or at a side, or onto it.

        Half a label that another covers reads as another word: "female" as "male". So it takes the
        place in the picture that hides least of other labels, and then of faces.
        """
        width, height = self._width, self._line * len(self._texts)
        places = (
            (box.x, box.y + box.height),
            (box.x, box.y - height),
            (box.x + box.width, box.y),
            (box.x - width, box.y),
            (box.x, box.y),
        )
        shown = [
            Box(
                max(0.0, min(left, shape[1] - width)),
                max(0.0, min(top, shape[0] - height)),
                width,
                height,
            )
            for left, top in places
        ]
        return min(shown, key=lambda place: (_hidden(place, labels), _hidden(place, boxes)))

    def draw(self, canvas: Pixels, place: Box) -> None:
        """Write it there."""
        left, top = round(place.x), round(place.y)
        opposite = (left + round(place.width), top + round(place.height))
        cv2.rectangle(canvas, (left, top), opposite, _COLOR, cv2.FILLED)
        for number, text in enumerate(self._texts):
            base = (left, top + number * self._line + self._height + self._baseline // 2)
            cv2.putText(canvas, text, base, _FONT, self._scale, _INK, self._thickness, cv2.LINE_AA)


def _hidden(place: Box, others: Sequence[Box]) -> float:
    """Square pixels of the others that lie under `place`."""
    return sum(
        max(0.0, min(place.x + place.width, other.x + other.width) - max(place.x, other.x))
        * max(0.0, min(place.y + place.height, other.y + other.height) - max(place.y, other.y))
        for other in others
    )
