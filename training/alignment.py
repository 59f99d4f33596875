"""Whether a model does better on faces that their landmarks put in place: a trial.

`box` is what is served: the square around the tight box. `levelled` is the same, turned until the
eyes are level. `aligned` takes middle, size and turn from the similarity transform that puts the
five points nearest to those of the mean face.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.card import InputSpec
from service.runtime.registry import Model
from service.types import Box, Face, Head
from service.vision.crops import crop_face
from training.framing import roll
from training.photos import Answers, Found, answer
from training.tables import table

POSES = ("box", "levelled", "aligned")
HEADER = ("model", "head", "faces", *POSES, "aligned - box")


def try_alignment(model: Model, found: Sequence[Found]) -> list[list[str]]:
    """A row for each head: accuracy in each pose, and the difference with its standard error.

    Args:
        model: what looks at the faces.
        found: faces with landmarks.
    """
    mean = mean_face([f.face for f in found])
    said = {
        pose: answer(model, [_crop(f, model.card.input, pose, mean) for f in found])
        for pose in POSES
    }
    return [
        [model.card.id, head, *_compared(found, said, head)]
        for head in model.card.heads
        if any(head in f.photo.labels for f in found)
    ]


def lines(rows: Iterable[Sequence[str]]) -> list[str]:
    """The rows as a Markdown table."""
    return table(HEADER, rows)


def mean_face(faces: Sequence[Face]) -> NDArray[np.float32]:
    """Where the five points lie, float32 (5, 2), in sides of the tight box from its middle."""
    places = [(f.landmarks - f.box.center) / f.box.side for f in faces if f.landmarks is not None]
    return np.asarray(np.mean(places, axis=0), np.float32)


def aligned(face: Face, mean: NDArray[np.float32]) -> tuple[Box, float]:
    """The box that the points speak for, square, and how far it is turned, clockwise in degrees.

    Args:
        face: with landmarks.
        mean: as `mean_face` gives it.
    """
    # As complex numbers a similarity is a x + b, and least squares have a closed form (Umeyama
    # 1991 is the same in any number of dimensions).
    assert face.landmarks is not None
    x, y = (points.astype(np.float64) @ (1, 1j) for points in (mean, face.landmarks))
    from_mean = x - x.mean()
    a = np.vdot(from_mean, y - y.mean()) / np.vdot(from_mean, from_mean).real
    middle = y.mean() - a * x.mean()
    side = float(abs(a))
    box = Box(float(middle.real) - side / 2, float(middle.imag) - side / 2, side, side)
    return box, math.degrees(float(np.angle(a)))


def _crop(found: Found, spec: InputSpec, pose: str, mean: NDArray[np.float32]) -> NDArray[np.uint8]:
    face, framing = found.face, spec.framing
    if pose == "box":
        return crop_face(found.pixels, face.box, spec)
    if pose == "levelled":
        # `crop_face` turns counter-clockwise.
        return crop_face(found.pixels, face.box, spec, rotation_deg=-roll(face))
    box, turn = aligned(face, mean)
    # The framing's shift is down the face, not down the image.
    down = math.radians(turn)
    dx, dy = (-math.sin(down) * box.side, math.cos(down) * box.side)
    moved = Box(box.x + framing.shift_y * dx, box.y + framing.shift_y * dy, box.side, box.side)
    upright = spec.model_copy(update={"framing": framing.model_copy(update={"shift_y": 0.0})})
    return crop_face(found.pixels, moved, upright, rotation_deg=-turn)


def _compared(
    found: Sequence[Found], said: Mapping[str, Sequence[Answers]], head: Head
) -> list[str]:
    rows = [row for row, f in enumerate(found) if head in f.photo.labels]
    right = {
        pose: np.array([answers[row][head] == found[row].photo.labels[head] for row in rows])
        for pose, answers in said.items()
    }
    # A face that both have right, or both wrong, says nothing of the difference.
    differ = right["aligned"] != right["box"]
    points = 100 * (right["aligned"].mean() - right["box"].mean())
    error = 100 * math.sqrt(differ.sum()) / len(rows)
    return [
        str(len(rows)),
        *(f"{right[pose].mean():.1%}" for pose in POSES),
        f"{points:+.1f} ± {error:.1f}",
    ]
