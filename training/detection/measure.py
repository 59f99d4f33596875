"""How well a detector does: average precision, and recall at a rate of false faces, by size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.vision.geometry import iou
from training.errors import WorkError
from training.photos import MIN_FACE_PX

MIN_IOU = 0.5
FALSE_PER_IMAGE = 0.01
SIZES = {
    "all": (0.0, np.inf),
    "<16": (0.0, 16.0),
    "16-32": (16.0, 32.0),
    "32-96": (32.0, 96.0),
    ">96": (96.0, np.inf),
}
"""Name -> range of the side of a face in pixels."""

Floats = NDArray[np.float32]


class NothingFound(WorkError):
    """A detector that finds no face, so that no threshold can be chosen for it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One image: what is there and what was found.

    Attributes:
        truth: float32 (N, 4).
        ignored: bool (N,), faces that need not be found and are not false.
        boxes: float32 (M, 4).
        scores: float32 (M,).
    """

    truth: Floats
    ignored: NDArray[np.bool_]
    boxes: Floats
    scores: Floats


def figures(images: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Size -> faces, `ap` at IoU 0.5, and `recall` at one false face in 100 images.

    Faces of other sizes are ignored ones, and finds of other sizes are not false (as in COCO).
    """
    return {name: _figures(images, *bounds) for name, bounds in SIZES.items()}


def average_precision(right: NDArray[np.bool_], faces: int) -> float:
    """Area under precision over recall, precision made to fall only.

    Args:
        right: bool (M,), whether each find is a face, best first.
        faces: how many there are to find.
    """
    if not faces or not len(right):
        return 0.0
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    return float(precision[right].sum() / faces)


def recall_at(right: NDArray[np.bool_], faces: int, false: float) -> float:
    """Share of the faces found before the number of false finds exceeds `false`."""
    allowed = np.cumsum(~right) <= false
    return float(right[allowed].sum() / faces) if faces else 0.0


def match(image: Judged, low: float, high: float) -> NDArray[np.int8]:
    """For each find, best first as in `order`: 1 right, 0 false, -1 not counted."""
    sides = np.sqrt(image.truth[:, 2:].prod(axis=1))
    wanted = ~image.ignored & (sides >= low) & (sides < high)
    order = np.argsort(-image.scores, kind="stable")
    overlap = iou(image.boxes[order], image.truth)
    free = wanted.copy()
    verdicts = np.zeros(len(order), np.int8)
    for find, (row, box) in enumerate(zip(overlap, image.boxes[order], strict=True)):
        near = np.where(free, row, 0)
        if near.size and near.max() >= MIN_IOU:
            free[near.argmax()] = False
            verdicts[find] = 1
        elif np.any(row[~wanted] >= MIN_IOU) or not low <= np.sqrt(box[2] * box[3]) < high:
            verdicts[find] = -1
    return verdicts


def best_threshold(images: Sequence[Judged]) -> float:
    """Score above which finds have the highest F0.5: halfway between the last of them and the next.

    Precision counts twice as much as recall: what is no face gets an emotion and an age too. Of
    faces that the service reports by default: smaller ones would ask for a lower score.

    Raises:
        NothingFound: nothing that was found is a face.
    """
    right, scores, faces = _ranked(images, MIN_FACE_PX, np.inf)
    if not right.any():
        raise NothingFound("nothing that was found is a face: train longer")
    hits = np.cumsum(right)
    # F0.5 = 1.25 PR / (0.25 P + R), in numbers of finds.
    last = int(np.argmax(1.25 * hits / (0.25 * faces + np.arange(1, len(right) + 1))))
    return round(float(scores[last : last + 2].mean()), 3)


def _figures(images: Sequence[Judged], low: float, high: float) -> dict[str, Any]:
    right, _, faces = _ranked(images, low, high)
    return {
        "faces": faces,
        "ap": round(average_precision(right, faces), 4),
        "recall": round(recall_at(right, faces, FALSE_PER_IMAGE * len(images)), 4),
    }


def _ranked(
    images: Sequence[Judged], low: float, high: float
) -> tuple[NDArray[np.bool_], Floats, int]:
    """Whether each find that counts is a face, and its score, best first; how many faces there are.

    Finds of all images together.
    """
    faces, scores, verdicts = 0, [], []
    for image in images:
        sides = np.sqrt(image.truth[:, 2:].prod(axis=1))
        faces += int(np.sum(~image.ignored & (sides >= low) & (sides < high)))
        scores.append(np.sort(image.scores)[::-1])
        verdicts.append(match(image, low, high))
    every = np.concatenate([*verdicts, np.zeros(0, np.int8)])
    ranked = np.concatenate([*scores, np.zeros(0, np.float32)])
    best = np.argsort(-ranked, kind="stable")
    counted = best[every[best] >= 0]
    return every[counted] == 1, ranked[counted], faces
