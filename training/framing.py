"""Which square around the tight box a model does best with: size, height and turn, by trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from service.card import Framing
from service.runtime.registry import Model
from service.types import Face
from service.vision.crops import crop_face
from training.photos import Found, accuracy, answer

SCALES = tuple(round(1.0 + step / 10, 1) for step in range(9))
SHIFTS = (0.0, 0.06, 0.12, 0.18)


def try_framings(model: Model, found: Sequence[Found]) -> list[dict[str, Any]]:
    """Gender accuracy at every scale and shift, upright and levelled; of the card's framing too.

    Args:
        model: one with a gender head.
        found: faces with landmarks.

    Returns:
        Rows of `scale`, `shift_y`, `levelled` (the square is turned about its middle until the
        eyes are level) and `accuracy`; the card's own framing first.
    """
    grid = [Framing(scale=scale, shift_y=shift) for scale in SCALES for shift in SHIFTS]
    return [
        {
            "scale": framing.scale,
            "shift_y": framing.shift_y,
            "levelled": levelled,
            "accuracy": _gender_accuracy(model, found, framing, levelled),
        }
        for framing in (model.card.input.framing, *grid)
        for levelled in (False, True)
    ]


def roll(face: Face) -> float:
    """Degrees by which the line through the eyes falls to the right; 0 without landmarks."""
    if face.landmarks is None:
        return 0.0
    dx, dy = (face.landmarks[1] - face.landmarks[0]).tolist()
    return math.degrees(math.atan2(dy, dx))


def _gender_accuracy(
    model: Model, found: Sequence[Found], framing: Framing, levelled: bool
) -> float:
    spec = model.card.input.model_copy(update={"framing": framing})
    crops = [
        # `crop_face` turns counter-clockwise.
        crop_face(f.pixels, f.face.box, spec, rotation_deg=-roll(f.face) if levelled else 0.0)
        for f in found
    ]
    figures = accuracy([f.photo for f in found], answer(model, crops))
    return float(figures["gender"]["accuracy"])
