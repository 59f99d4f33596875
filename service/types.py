"""The nouns that every layer speaks of: frozen values, no behaviour beyond their own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Head = Literal["emotion", "gender", "age"]
HEADS: tuple[Head, ...] = ("emotion", "gender", "age")

Method = Literal["guided", "gradient", "occlusion"]
"""How an answer is explained; docs/explain.md says what each shows."""

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
GENDERS = ("female", "male")
AGE_BANDS = ("0-18", "19-30", "31-80", "80+")

Pixels = NDArray[np.uint8]
"""An image as OpenCV holds it: uint8 (H, W, 3), channels blue, green, red."""


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle in pixels; it may reach beyond the image."""

    x: float
    y: float
    width: float
    height: float

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box, (x, y)."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def side(self) -> float:
        """The side of the square of equal area: how large a face is, whatever its aspect."""
        return float(np.sqrt(self.width * self.height))

    def scaled(self, factor: float) -> Box:
        """The same box in an image resized by `factor`."""
        return Box(self.x * factor, self.y * factor, self.width * factor, self.height * factor)


@dataclass(frozen=True, slots=True)
class Face:
    """A detected face.

    Every detector reports the *tight* box (YuNet's convention: brow to chin, cheek to cheek), so
    that framing does not depend on which detector found the face.
    """

    box: Box
    score: float
    landmarks: NDArray[np.float32] | None = None
    """(5, 2) x, y of right eye, left eye, nose, right and left mouth corner; None if unknown."""

    def scaled(self, factor: float) -> Face:
        """The same face in an image resized by `factor`."""
        points = None if self.landmarks is None else self.landmarks * np.float32(factor)
        return Face(self.box.scaled(factor), self.score, points)


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded, upright image, possibly at a reduced scale."""

    pixels: Pixels
    width: int
    """Of the upright image at full scale, in pixels."""
    height: int
    orientation: int
    """EXIF orientation 1-8 that was undone; 1 when there was none."""
    scale: float = 1.0
    """Side of `pixels` divided by the side of the full image."""


@dataclass(frozen=True, slots=True)
class CropItem:
    """One face for one model."""

    crop: NDArray[np.uint8]
    """(S, S, C), as the card's input says."""
    heads: tuple[Head, ...]


Probabilities = Mapping[Head, NDArray[np.float32]]
"""By head, float32 (K,): one face's probabilities."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one head says of one face; the probabilities are complete and sum to 1."""

    label: str
    probability: float
    uncertain: bool
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Quality:
    """How much picture there is to judge a face by."""

    size_px: int
    """Side of the face in pixels of the full image."""
    sharpness: float
    """0 (no detail) to 1; see `service.vision.crops.sharpness`."""


@dataclass(frozen=True, slots=True)
class AnalyzedFace:
    """A face with what the models say of it; coordinates are pixels of the full upright image."""

    face: Face
    predictions: Mapping[Head, Prediction]
    quality: Quality


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one analysis went, in seconds."""

    decode: float
    detect: float
    queue: float
    infer: float
    total: float


@dataclass(frozen=True, slots=True)
class Result:
    """One analysed image, faces largest first."""

    width: int
    height: int
    orientation: int
    faces: tuple[AnalyzedFace, ...]
    models: Mapping[str, str]
    """Which `name@version` served as detector and for each head."""
    timings: Timings
