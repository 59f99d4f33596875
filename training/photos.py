"""Labelled faces in whole photos: where they are, and how often a model's answers are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from service.core.ports import Detector
from service.runtime.registry import Model
from service.types import CropItem, Face, Head, Pixels
from service.vision.codec import ImageLimits, decode
from service.vision.postprocess import to_prediction
from training.datasets import Samples
from training.datasets.fairface import Photo
from training.labels import NAMES
from training.metrics import rounded

PHOTOS_FILE = "photos.json"
BATCH = 32
MIN_FACE_PX = 20.0
"""As the service has it by default."""

Answers = Mapping[Head, str]
"""Head -> label, of one face."""


@dataclass(frozen=True, slots=True)
class Found:
    """A photo, decoded, with the best box of its labelled face."""

    photo: Photo
    pixels: Pixels
    face: Face


def find(photos: Iterable[Photo], detector: Detector) -> list[Found]:
    """The photos whose central face a detector finds, with its box."""
    result = []
    for photo in photos:
        image = decode(photo.data, ImageLimits())
        faces = detector.detect(image.pixels, threshold=None, min_face_px=MIN_FACE_PX)
        if face := central(faces, image.width, image.height):
            result.append(Found(photo, image.pixels, face))
    return result


def find_in(samples: Samples, detector: Detector, limit: int) -> Iterator[Found]:
    """The faces of a dataset's images that a detector finds, of `limit` images; 0 for all."""
    step = max(len(samples) // limit, 1) if limit else 1
    for row in range(0, len(samples), step)[: limit or None]:
        image = samples.images[row]
        pixels: Pixels = image
        if image.ndim == 2:
            pixels = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
        height, width = pixels.shape[:2]
        faces = detector.detect(pixels, threshold=None, min_face_px=MIN_FACE_PX)
        labels = {head: NAMES[head][int(values[row])] for head, values in samples.labels.items()}
        if face := central(faces, width, height):
            yield Found(Photo("", b"", labels), pixels, face)


def central(faces: Iterable[Face], width: int, height: int) -> Face | None:
    """Of the faces whose box holds the photo's middle, the one whose own middle is nearest."""
    middle_x, middle_y = width / 2, height / 2
    held = [
        face
        for face in faces
        if 0 <= middle_x - face.box.x <= face.box.width
        and 0 <= middle_y - face.box.y <= face.box.height
    ]

    def distance(face: Face) -> float:
        x, y = face.box.center
        return (x - middle_x) ** 2 + (y - middle_y) ** 2

    return min(held, key=distance, default=None)


def answer(model: Model, crops: Sequence[NDArray[np.uint8]]) -> list[Answers]:
    """What a model says of crops uint8 (S, S, C), as the service runs and reads it."""
    heads = tuple(model.card.heads)
    items = [CropItem(crop, heads) for crop in crops]
    outputs = [
        probabilities
        for start in range(0, len(items), BATCH)
        for probabilities in model.run(items[start : start + BATCH])
    ]
    return [
        {head: to_prediction(values[head], model.card.heads[head]).label for head in heads}
        for values in outputs
    ]


def accuracy(photos: Sequence[Photo], answers: Sequence[Answers]) -> dict[Head, dict[str, Any]]:
    """`samples` and `accuracy` of each head that both the photos and the answers have."""
    result: dict[Head, dict[str, Any]] = {}
    for head in answers[0] if answers else ():
        right = [
            given[head] == photo.labels[head]
            for photo, given in zip(photos, answers, strict=True)
            if head in photo.labels
        ]
        if right:
            result[head] = {"samples": len(right), "accuracy": rounded(np.mean(right))}
    return result
