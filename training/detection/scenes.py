"""Scenes with faces, read from the shared set, WIDER FACE or YOLO labels, and their parts.

A face that only another detector found (`source` is `yunet`) is mostly one that the set left out.
To call its place background would teach the network to miss faces, so it is learnt as a face. It is
no judge, though: figures are given twice, with it counted and with it neither wanted nor wrong.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.types import Pixels
from service.vision.geometry import letterbox
from training.datasets.samples import IMAGE_SUFFIXES, DatasetError, read_files
from training.datasets.splits import Part, split

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


def load(path: Path) -> list[Scene]:
    """Read `X.zip` with `X.jsonl` beside it, a WIDER FACE list, or a folder of YOLO labels.

    Raises:
        DatasetError: it is none of these, or does not keep to its format.
    """
    if path.suffix == ".zip":
        return load_lines(path)
    return load_wider(path) if path.suffix == ".txt" else load_yolo(path)


def load_lines(path: Path) -> list[Scene]:
    """A zip of photos, and beside it a `.jsonl` with a line for each: file, group, faces."""
    labels = path.with_suffix(".jsonl")
    if not labels.exists() or not zipfile.is_zipfile(path):
        raise DatasetError(f"{path} must be a zip file with {labels.name} beside it")
    scenes = []
    with zipfile.ZipFile(path) as archive:
        for line in labels.read_text().splitlines():
            row = json.loads(line)
            faces = row["faces"]
            none = [[float("nan")] * 2] * 5
            scenes.append(
                scene(
                    row["file"],
                    archive.read(row["file"]),
                    [face["xywh"] for face in faces],
                    points=[face.get("landmarks") or none for face in faces],
                    doubtful=[face["source"] == "yunet" for face in faces],
                    group=row["group"],
                )
            )
    return scenes


def load_wider(path: Path) -> list[Scene]:
    """WIDER FACE's `wider_face_{train,val}_bbx_gt.txt`, with `WIDER_*/images` beside its folder.

    Faces marked invalid, and those without width or height, are ignored ones. An event's photos
    resemble each other and are a group.
    """
    part = "val" if "val" in path.name else "train"
    folder = path.parent.parent / f"WIDER_{part}" / "images"
    scenes = []
    lines = iter(path.read_text().split("\n"))
    for name in filter(None, lines):
        try:
            count = int(next(lines))
            # A photo without faces still has one line, of zeros.
            rows = [[int(n) for n in next(lines).split()] for _ in range(max(count, 1))]
            rows = rows[:count]
            data = (folder / name).read_bytes()
        except (StopIteration, ValueError, OSError) as error:
            raise DatasetError(f"{path}: {name} is not as WIDER FACE writes it: {error}") from error
        scenes.append(
            scene(
                name,
                data,
                [row[:4] for row in rows],
                ignored=[row[7] == 1 or min(row[2:4]) <= 0 for row in rows],
                group=name.partition("/")[0],
            )
        )
    return scenes


def load_yolo(path: Path) -> list[Scene]:
    """A folder of photos, and for each a text of the same name: class, middle and size in 0..1.

    The text lies beside the photo, or in `labels` where the photo is in `images`; without one a
    photo has no face. Every class is a face.
    """
    scenes = []
    for name, data in read_files(path):
        texts = [path / name, path / name.replace("images", "labels", 1)]
        found = [text.with_suffix(".txt") for text in texts if text.with_suffix(".txt").exists()]
        rows = found[0].read_text().split("\n") if found else []
        try:
            values = [[float(n) for n in row.split()[1:5]] for row in rows if row.strip()]
            middle_size = np.array(values, np.float32).reshape(-1, 4)
        except ValueError as error:
            raise DatasetError(f"{found[0]} is no YOLO label file: {error}") from error
        bare = scene(name, data, np.zeros((0, 4)))
        if len(middle_size):
            height, width = bare.pixels().shape[:2]
            middle_size[:, :2] -= middle_size[:, 2:] / 2
            middle_size *= np.array([width, height, width, height], np.float32)
        scenes.append(scene(name, data, middle_size))
    if not scenes:
        raise DatasetError(f"{path} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return scenes


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


def parts(scenes: Sequence[Scene], name: str = "detection") -> dict[Part, list[Scene]]:
    """Train, tune and validation scenes; a group's part follows from its name alone."""
    # `split` takes numbers: the name's own hash, so that other scenes change nothing.
    numbers = np.array(
        [int.from_bytes(hashlib.sha256(s.group.encode()).digest()[:7], "big") for s in scenes],
        np.int64,
    )
    return {part: [scenes[row] for row in rows] for part, rows in split(name, numbers).items()}


def mosaics(scenes: Sequence[Scene], across: int, side: int = 1280) -> list[Scene]:
    """Large pictures of `across` x `across` scenes each, in their order; what is left over is not.

    Args:
        scenes: to put together; one larger than its place is shrunk, none is enlarged.
        across: scenes in a row, and rows.
        side: of a picture in pixels.
    """
    count, place = across**2, side // across
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
