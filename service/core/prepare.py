"""bytes -> image -> faces -> crops: the part of an analysis that one worker thread does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.card import InputSpec
from service.core.batcher import Served
from service.core.ports import Detector
from service.types import Box, Face, Image, Probabilities, Quality
from service.vision.codec import ImageLimits, decode
from service.vision.crops import SHARPNESS, crop_face, crop_whole, sharpness

Answers: TypeAlias = Mapping[str, Sequence[Served[Probabilities]]]
"""By model, one for each face."""

Crops: TypeAlias = Mapping[str, Sequence[NDArray[np.uint8]]]
"""By model, one for each face."""


@dataclass(frozen=True, slots=True)
class PrepareJob:
    """One image to be made ready for the models."""

    data: bytes
    detect: bool
    detection_threshold: float | None
    min_face_px: float
    max_faces: int
    specs: Mapping[str, InputSpec]
    """The models that need crops, by name."""
    answer: Callable[[Crops], Answers | None]
    """Has the models answer on the same thread, where nothing else waits; else None."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Faces, largest first, in pixels of the full upright image, and their crops by model.

    The image itself is let go: up to 150 MB would be kept for as long as the models are waited for.
    """

    width: int
    height: int
    orientation: int
    faces: tuple[Face, ...]
    qualities: tuple[Quality, ...]
    crops: Crops
    answers: Answers | None
    """Where the models have answered already."""
    decode_s: float
    detect_s: float


class Preparer:
    """A `Runner` over `PrepareJob`s."""

    def __init__(self, detector: Detector, limits: ImageLimits) -> None:
        self._detector = detector
        self._limits = limits

    def run(self, items: Sequence[PrepareJob]) -> list[Prepared]:
        """Prepare each job.

        Raises:
            ImageError: the bytes are no image that we can use.
        """
        return [self._prepare(job) for job in items]

    def _prepare(self, job: PrepareJob) -> Prepared:
        if not job.detect:
            return self._whole(job)
        started = perf_counter()
        image = decode(job.data, self._limits, min_side=self._detector.max_side)
        decoded = perf_counter()
        found = self._detector.detect(
            image.pixels,
            threshold=job.detection_threshold,
            min_face_px=job.min_face_px * image.scale,
        )
        found.sort(key=lambda face: face.box.side, reverse=True)
        faces = tuple(face.scaled(1 / image.scale) for face in found[: job.max_faces])
        detected = perf_counter()
        image = self._sharpen(job, image, faces)
        again_s = perf_counter() - detected
        boxes = [face.box.scaled(image.scale) for face in faces]
        crops = {
            name: [crop_face(image.pixels, box, spec) for box in boxes]
            for name, spec in job.specs.items()
        }
        return Prepared(
            image.width,
            image.height,
            image.orientation,
            faces,
            tuple(_quality(image, box) for box in boxes),
            crops,
            job.answer(crops),
            decode_s=decoded - started + again_s,
            detect_s=detected - decoded,
        )

    def _sharpen(self, job: PrepareJob, image: Image, faces: Sequence[Face]) -> Image:
        """Decode again, larger, when a face has fewer pixels than a model or its quality takes."""
        if image.scale == 1.0 or not faces:
            return image
        smallest = min(face.box.side for face in faces)
        specs = [SHARPNESS, *job.specs.values()]
        wanted = max(spec.size / (smallest * spec.framing.scale) for spec in specs)
        if image.scale >= min(wanted, 1.0):
            return image
        longer = max(image.width, image.height)
        return decode(job.data, self._limits, min_side=int(np.ceil(longer * min(wanted, 1.0))))

    def _whole(self, job: PrepareJob) -> Prepared:
        """The whole image is one face crop: no detector runs, its box is the image."""
        started = perf_counter()
        largest = max(spec.size for spec in [SHARPNESS, *job.specs.values()])
        image = decode(job.data, self._limits, min_side=2 * largest)
        decode_s = perf_counter() - started
        face = Face(Box(0.0, 0.0, float(image.width), float(image.height)), 1.0)
        crops = {name: [crop_whole(image.pixels, spec)] for name, spec in job.specs.items()}
        return Prepared(
            image.width,
            image.height,
            image.orientation,
            (face,),
            (_quality(image, face.box.scaled(image.scale)),),
            crops,
            job.answer(crops),
            decode_s=decode_s,
            detect_s=0.0,
        )


def _quality(image: Image, box: Box) -> Quality:
    return Quality(round(box.side / image.scale), sharpness(image.pixels, box))
