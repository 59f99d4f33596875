"""Scenes of a set on disk: the shared set's lines, WIDER FACE's list, or YOLO labels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from training.datasets.samples import DatasetError, read_files
from training.detection.scenes import Scene, scene

_FAULTS = (
    ArithmeticError,
    LookupError,
    ValueError,
    OSError,
    EOFError,
    RuntimeError,  # A zip's member that is encrypted, or packed in a way that Python lacks.
    zipfile.BadZipFile,
    zlib.error,
)
_ROUNDING = 0.01
"""How far a YOLO label may lie outside of 0..1: tools write rounded numbers."""
_WIDER_COLUMNS = 10

Number = Annotated[float, Field(allow_inf_nan=False)]
Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Point = tuple[Number, Number]


class _Face(BaseModel):
    xywh: tuple[Number, Number, Length, Length]
    landmarks: tuple[Point, Point, Point, Point, Point] | None = None
    source: str


class _Line(BaseModel):
    file: str
    group: str
    faces: tuple[_Face, ...]


def load(path: Path) -> list[Scene]:
    """Read `X.zip` with `X.jsonl` beside it, a WIDER FACE list, or a folder of YOLO labels.

    Raises:
        DatasetError: it is none of these, does not keep to its format, or holds no photo.
    """
    readers = {".zip": load_lines, ".txt": load_wider}
    scenes = readers.get(path.suffix.lower(), load_yolo)(path)
    if not scenes:
        raise DatasetError(f"{path} holds no photo")
    return scenes


def load_lines(path: Path) -> list[Scene]:
    """A zip of photos, and beside it a `.jsonl` with a line for each: file, group, faces."""
    labels = path.with_suffix(".jsonl")
    if not labels.exists() or not zipfile.is_zipfile(path):
        raise DatasetError(f"{path} must be a zip file with {labels.name} beside it")
    scenes = []
    none = [[float("nan")] * 2] * 5
    with _told(str(path)), zipfile.ZipFile(path) as archive:
        for number, text in _lines(labels):
            with _told(f"{labels}, line {number}"):
                line = _Line.model_validate_json(text)
                scenes.append(
                    scene(
                        line.file,
                        archive.read(line.file),
                        [face.xywh for face in line.faces],
                        points=[face.landmarks or none for face in line.faces],
                        doubtful=[face.source == "yunet" for face in line.faces],
                        group=line.group,
                    )
                )
    return scenes


def load_wider(path: Path) -> list[Scene]:
    """WIDER FACE's `wider_face_{train,val}_bbx_gt.txt`, with `WIDER_*` beside it or its folder.

    Faces marked invalid, and those without width or height, are ignored ones. An event's photos
    resemble each other and are a group.
    """
    lines = (line for _, line in _lines(path))
    folder = _wider_photos(path)
    scenes = []
    for name in lines:
        with _told(f"{path}, {name}"):
            rows = _wider_rows(lines)
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"it is not below {folder}")
            scenes.append(
                scene(
                    name,
                    (folder / name).read_bytes(),
                    [[x, y, max(width, 0), max(height, 0)] for x, y, width, height, *_ in rows],
                    ignored=[row[7] == 1 or min(row[2:4]) <= 0 for row in rows],
                    group=name.partition("/")[0],
                )
            )
    return scenes


def load_yolo(path: Path) -> list[Scene]:
    """A folder of photos, and for each a text of the same name: class, middle and size in 0..1.

    The text lies beside the photo, or in `labels` where the photo is in `images`; without one a
    photo has no face, but some must have one. Every class is a face.
    """
    scenes, labelled = [], False
    with _told(str(path)):
        for name, data in read_files(path):
            text = _yolo_text(path / name)
            labelled |= text is not None
            boxes = _yolo_boxes(text) if text else np.zeros((0, 4))
            if len(boxes):
                height, width = scene(name, data, []).pixels().shape[:2]
                boxes = boxes * (width, height, width, height)
            scenes.append(scene(name, data, boxes))
    if scenes and not labelled:
        raise DatasetError(
            f"{path}: no photo has YOLO labels, a .txt beside it or in `labels` beside `images`"
        )
    return scenes


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Whatever is wrong with a file, told as the set's fault and with its place."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = [".".join(str(part) for part in first["loc"])] if first["loc"] else []
        raise DatasetError(": ".join([place, *field, first["msg"]])) from error
    except _FAULTS as error:
        raise DatasetError(f"{place}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not empty, and their numbers."""
    with _told(str(path)):
        text = path.read_text(encoding="utf-8")
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _wider_photos(list_file: Path) -> Path:
    part = "val" if "val" in list_file.name else "train"
    above = list_file.absolute().parent
    places = [folder / f"WIDER_{part}" / "images" for folder in (above.parent, above)]
    for place in places:
        if place.is_dir():
            return place
    raise DatasetError(f"{list_file}: its photos are neither in {places[0]} nor in {places[1]}")


def _wider_rows(lines: Iterator[str]) -> list[list[int]]:
    """The faces of the photo whose name was the line before."""
    count = int(next(lines, ""))
    # A photo without faces still has one line, of zeros.
    rows = [[int(n) for n in line.split()] for line in islice(lines, max(count, 1))]
    faces = rows[: max(count, 0)]
    if len(faces) != count or any(len(row) != _WIDER_COLUMNS for row in faces):
        raise ValueError(f"it must have {count} lines of {_WIDER_COLUMNS} numbers")
    return faces


def _yolo_text(photo: Path) -> Path | None:
    folders = photo.absolute().parts[:-1]
    places = [photo]
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        places.append(Path(*folders[:last], "labels", *folders[last + 1 :], photo.name))
    texts = (place.with_suffix(".txt") for place in places)
    return next((text for text in texts if text.exists()), None)


def _yolo_boxes(text: Path) -> NDArray[np.float64]:
    """float64 (N, 4) of x, y, width, height in 0..1."""
    boxes = []
    for number, line in _lines(text):
        with _told(f"{text}, line {number}"):
            boxes.append(_yolo_box(line))
    return np.array(boxes).reshape(-1, 4)


def _yolo_box(line: str) -> tuple[float, float, float, float]:
    numbers = [float(n) for n in line.split()[1:]]
    inside = all(-_ROUNDING <= n <= 1 + _ROUNDING for n in numbers)
    if len(numbers) not in (4, 5) or not inside or min(numbers[2:4]) <= 0:
        raise ValueError("not a class, the middle and size in 0..1, and perhaps a score")
    x, y, width, height = numbers[:4]
    return x - width / 2, y - height / 2, width, height
