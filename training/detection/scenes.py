"""Scenes with faces, and their parts.

A face that only another detector found (`source` is `yunet`) is mostly one that the set left out.
To call its place background would teach the network to miss faces, so it is learnt as a face. It is
no judge, though: figures are given twice, with it counted and with it neither wanted nor wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from service.types import Pixels
from service.vision.geometry import letterbox
from training.datasets.samples import DatasetError
from training.datasets.splits import PARTS, Part, split

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """A photo, still encoded, and its N faces.

    Attributes:
        name: of the file.
        data: content of the file.
        boxes: float32 (N, 4) of x, y, width, height; tight, they may reach beyond the photo.
        points: float32 (N, 5, 2) as in `service.types.Face`, NaN where a face has none.
        ignored: bool (N,), faces too unclear to be learnt or counted.
        doubtful: bool (N,), faces that only another detector found.
        group: scenes of one group never lie on two sides of a split.
    """

    name: str
    data: bytes = field(repr=False)
    boxes: Floats
    points: Floats
    ignored: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    group: str

    def pixels(self) -> Pixels:
        """uint8 (H, W, 3) BGR.

        Raises:
            DatasetError: it is no image.
        """
        pixels = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise DatasetError(f"{self.name} is not a readable image")
        return np.asarray(pixels, np.uint8)


def scene(
    name: str,
    data: bytes,
    boxes: object,
    *,
    points: object = None,
    ignored: object = None,
    doubtful: object = None,
    group: str | None = None,
) -> Scene:
    """A scene of lists; what is left out is unknown or false, the group the file's own content."""
    placed = np.asarray(boxes, np.float32).reshape(-1, 4)
    count = len(placed)
    unknown = np.full((count, 5, 2), np.nan, np.float32)
    no = np.zeros(count, bool)
    return Scene(
        name,
        data,
        placed,
        unknown if points is None else np.asarray(points, np.float32).reshape(-1, 5, 2),
        no if ignored is None else np.asarray(ignored, bool).reshape(-1),
        no if doubtful is None else np.asarray(doubtful, bool).reshape(-1),
        hashlib.sha256(data).hexdigest()[:10] if group is None else group,
    )


def parts(scenes: Sequence[Scene], needed: Collection[Part] = PARTS) -> dict[Part, list[Scene]]:
    """Train, tune and validation scenes; a group's part follows from its name alone.

    Raises:
        DatasetError: a part that is needed is empty.
    """
    # `split` takes numbers: the name's own hash, so that other scenes change nothing.
    numbers = np.array(
        [int.from_bytes(hashlib.sha256(s.group.encode()).digest()[:7], "big") for s in scenes],
        np.int64,
    )
    rows = split("detection", numbers)
    found = {part: [scenes[row] for row in places] for part, places in rows.items()}
    for part in needed:
        if not found[part]:
            groups = len(np.unique(numbers))
            raise DatasetError(f"the {part} part is empty: {len(scenes)} scenes in {groups} groups")
    return found


def mosaics(scenes: Sequence[Scene], across: int, side: int = 1280) -> list[Scene]:
    """Large pictures of `across` x `across` scenes each, in their order; what is left over is not.

    Args:
        scenes: to put together; one larger than its place is shrunk, none is enlarged.
        across: scenes in a row, and rows.
        side: of a picture in pixels.

    Raises:
        DatasetError: there are too few for one picture.
    """
    count, place = across**2, side // across
    if len(scenes) < count:
        raise DatasetError(f"a picture of {count} scenes cannot be made of {len(scenes)}")
    return [
        _mosaic(scenes[start : start + count], across, place)
        for start in range(0, len(scenes) - count + 1, count)
    ]


def _mosaic(scenes: Sequence[Scene], across: int, place: int) -> Scene:
    picture = np.zeros((across * place, across * place, 3), np.uint8)
    boxes, points = [], []
    for number, one in enumerate(scenes):
        boxed = letterbox(one.pixels(), (place, place))
        x, y = number % across * place, number // across * place
        height, width = boxed.pixels.shape[:2]
        picture[y : y + height, x : x + width] = boxed.pixels
        corner, scale = np.array([x, y], np.float32), np.array(boxed.scale, np.float32)
        boxes.append(np.hstack((one.boxes[:, :2] * scale + corner, one.boxes[:, 2:] * scale)))
        points.append(one.points * scale + corner)
    return Scene(
        scenes[0].name,
        cv2.imencode(".png", picture)[1].tobytes(),
        np.concatenate(boxes),
        np.concatenate(points),
        np.concatenate([one.ignored for one in scenes]),
        np.concatenate([one.doubtful for one in scenes]),
        scenes[0].group,
    )


def fingerprints(found: Iterable[tuple[str, Sequence[Scene]]]) -> dict[str, dict[str, int | str]]:
    """Name -> number of scenes and of faces, and sha256 of the files."""

    def digest(scenes: Sequence[Scene]) -> str:
        return hashlib.sha256(b"".join(_digests(scenes))).hexdigest()

    return {
        part: {
            "scenes": len(scenes),
            "faces": sum(len(s.boxes) for s in scenes),
            "sha256": digest(scenes),
        }
        for part, scenes in found
    }


def _digests(scenes: Sequence[Scene]) -> Iterator[bytes]:
    return (hashlib.sha256(s.data).digest() for s in scenes)
