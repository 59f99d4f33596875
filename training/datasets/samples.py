"""What every dataset gives: images, a tight face box, and targets for the heads it labels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.card import Framing
from service.types import AGE_BANDS, GENDERS, Box, Head
from training.errors import WorkError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class DatasetError(WorkError):
    """A dataset that is not in its official format; names the row or file at fault."""


@dataclass(frozen=True, slots=True)
class Samples:
    """N faces of one dataset.

    Attributes:
        name: of the dataset.
        images: N uint8, (H, W) of a grey set or (H, W, 3) BGR.
        boxes: N tight face boxes, in pixels of their image.
        framing: the square that the whole image is, in units of the tight box; None where images
            have a margin and any framing can be cut from them.
        labels: head -> int (N,), the official label.
        targets: head -> float32 (N, K), what the loss is measured against.
        groups: int (N,); images of one group never lie on two sides of a split.
        usage: the official part of each image, or `""`.
        attributes: what the set says of each face, str (N,) by name (`race`, `gender`, `age`):
            figures are given for each value of it apart.
    """

    name: str
    images: list[NDArray[np.uint8]]
    boxes: list[Box]
    framing: Framing | None
    labels: Mapping[Head, NDArray[np.int64]]
    targets: Mapping[Head, NDArray[np.float32]]
    groups: NDArray[np.int64]
    usage: NDArray[np.str_]
    attributes: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> Samples:
        """The samples of these row numbers."""
        return replace(
            self,
            images=[self.images[row] for row in rows],
            boxes=[self.boxes[row] for row in rows],
            labels={head: values[rows] for head, values in self.labels.items()},
            targets={head: values[rows] for head, values in self.targets.items()},
            groups=self.groups[rows],
            usage=self.usage[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
        )


def to_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W) of an image that is grey, (H, W), or BGR, (H, W, 3)."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """float32 (N, classes) with a single 1 in each row."""
    return np.eye(classes, dtype=np.float32)[labels]


def age_band(age: int) -> int:
    """Index into `AGE_BANDS`; a person of 80 is in `31-80`."""
    return int(np.searchsorted([18, 30, 80], age, side="left"))


def age_targets(ages: NDArray[np.int64], spread: float = 0.05) -> NDArray[np.float32]:
    """Shares of the age bands when an age is uncertain by 0.5 years + `spread` of it (one sigma).

    Labels near the edge of a band are a matter of a birthday; half-soft targets say so.

    Returns:
        float32 (N, 4), each row sums to 1.
    """
    grid = np.arange(-40, 161)[None, :] + 0.5
    middle = ages[:, None] + 0.5
    sigma = 0.5 + spread * ages[:, None]
    density = np.exp(-0.5 * ((grid - middle) / sigma) ** 2)
    density /= density.sum(axis=1, keepdims=True)
    edges = (grid > 19).astype(int) + (grid > 31) + (grid > 81)
    return np.stack(
        [np.where(edges == band, density, 0).sum(axis=1) for band in range(len(AGE_BANDS))], axis=1
    ).astype(np.float32)


def read_images(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and BGR pixels of every image in a folder or zip, in the order of their names.

    Raises:
        DatasetError: nothing is there, it holds no image, or one cannot be decoded.
    """
    count = 0
    for name, data in read_files(path):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise DatasetError(f"{path}: {name} is not a readable image")
        count += 1
        yield Path(name).name, np.asarray(pixels, np.uint8)
    if not count:
        raise DatasetError(f"{path} holds no image ({', '.join(IMAGE_SUFFIXES)})")


def read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and content of every image file in a folder or zip, in the order of their names.

    Raises:
        DatasetError: it is neither, or the zip is damaged.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES:
                yield str(file.relative_to(path)), file.read_bytes()
        return
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path} is neither a folder nor a zip file")
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield name, _unpacked(archive, name)


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"{archive.filename}: {name} is damaged: {error}") from error


def gender_and_age(
    genders: Sequence[int], ages: Sequence[int]
) -> tuple[dict[Head, NDArray[np.int64]], dict[Head, NDArray[np.float32]]]:
    """Labels and targets of a set that names gender (index into `GENDERS`) and age in years."""
    gender, years = np.array(genders, np.int64), np.array(ages, np.int64)
    bands = np.array([age_band(age) for age in ages], np.int64)
    targets: dict[Head, NDArray[np.float32]] = {
        "gender": one_hot(gender, len(GENDERS)),
        "age": age_targets(years),
    }
    return {"gender": gender, "age": bands}, targets


def named_attributes(labels: Mapping[Head, NDArray[np.int64]]) -> dict[str, NDArray[np.str_]]:
    """Gender and age band of each sample by name, from the labels of such a set."""
    return {
        "gender": np.array(GENDERS)[labels["gender"]],
        "age": np.array(AGE_BANDS)[labels["age"]],
    }
