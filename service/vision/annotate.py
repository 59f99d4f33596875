"""Draws faces and what was said of them onto a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from service.types import AnalyzedFace, Pixels, Prediction

_COLOR = (80, 200, 60)
_INK = (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(pixels: Pixels, faces: Sequence[AnalyzedFace]) -> Pixels:
    """Draw boxes, landmarks and labels.

    Args:
        pixels: uint8 (H, W, 3) BGR at the scale of the faces.
        faces: as a `Result` gives them.

    Returns:
        A copy with the drawing.
    """
    canvas = pixels.copy()
    for analyzed in faces:
        _draw(canvas, analyzed)
    return canvas


def _draw(canvas: Pixels, analyzed: AnalyzedFace) -> None:
    box = analyzed.face.box
    thickness = max(1, round(max(canvas.shape[:2]) / 400))
    corner = (round(box.x), round(box.y))
    cv2.rectangle(
        canvas, corner, (round(box.x + box.width), round(box.y + box.height)), _COLOR, thickness
    )
    if analyzed.face.landmarks is not None:
        for x, y in analyzed.face.landmarks:
            cv2.circle(canvas, (round(x), round(y)), 2 * thickness, _COLOR, cv2.FILLED)
    scale = 0.45 * thickness
    for row, prediction in enumerate(analyzed.predictions.values()):
        _label(canvas, _text(prediction), corner, row, scale, thickness)


def _text(prediction: Prediction) -> str:
    doubt = "?" if prediction.uncertain else ""
    return f"{prediction.label}{doubt} {prediction.probability:.0%}"


def _label(
    canvas: Pixels, text: str, corner: tuple[int, int], row: int, scale: float, thickness: int
) -> None:
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    line = height + 2 * baseline
    left = max(0, min(corner[0], canvas.shape[1] - width))
    top = max(0, corner[1]) + row * line
    cv2.rectangle(canvas, (left, top), (left + width, top + line), _COLOR, cv2.FILLED)
    cv2.putText(
        canvas,
        text,
        (left, top + height + baseline // 2),
        _FONT,
        scale,
        _INK,
        thickness,
        cv2.LINE_AA,
    )
