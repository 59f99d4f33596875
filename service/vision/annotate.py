"""Draws faces and what was said of them onto a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from service.types import AnalyzedFace, Pixels, Prediction

_COLOR = (80, 200, 60)
_INK = (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


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
    names = [[f"#{track}"] for track in tracks] if tracks is not None else [[]] * len(faces)
    for analyzed, name in zip(faces, names, strict=True):
        _draw(canvas, analyzed, name)
    return canvas


def _draw(canvas: Pixels, analyzed: AnalyzedFace, name: Sequence[str]) -> None:
    box = analyzed.face.box
    thickness = max(1, round(max(canvas.shape[:2]) / 400))
    corner = (round(box.x), round(box.y))
    opposite = (round(box.x + box.width), round(box.y + box.height))
    cv2.rectangle(canvas, corner, opposite, _COLOR, thickness)
    if analyzed.face.landmarks is not None:
        for x, y in analyzed.face.landmarks:
            cv2.circle(canvas, (round(x), round(y)), 2 * thickness, _COLOR, cv2.FILLED)
    texts = [*name, *(_text(prediction) for prediction in analyzed.predictions.values())]
    _label(canvas, texts, corner, opposite, thickness)


def _text(prediction: Prediction) -> str:
    doubt = "?" if prediction.uncertain else ""
    return f"{prediction.label}{doubt} {prediction.probability:.0%}"


def _label(
    canvas: Pixels,
    texts: Sequence[str],
    corner: tuple[int, int],
    opposite: tuple[int, int],
    thickness: int,
) -> None:
    """Write line by line below the box, or above it where there is no room."""
    scale = 0.45 * thickness
    sizes = [cv2.getTextSize(text, _FONT, scale, thickness) for text in texts]
    if not sizes:
        return
    height, baseline = sizes[0][0][1], sizes[0][1]
    line = height + 2 * baseline
    top = opposite[1]
    if top + line * len(texts) > canvas.shape[0]:
        top = max(0, corner[1] - line * len(texts))
    for text, ((width, _), _) in zip(texts, sizes, strict=True):
        left = max(0, min(corner[0], canvas.shape[1] - width))
        cv2.rectangle(canvas, (left, top), (left + width, top + line), _COLOR, cv2.FILLED)
        base = (left, top + height + baseline // 2)
        cv2.putText(canvas, text, base, _FONT, scale, _INK, thickness, cv2.LINE_AA)
        top += line
