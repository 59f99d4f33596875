"""UTKFace, a folder or zip of `[age]_[gender]_[race]_[date]` images, aligned and cropped."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from service.card import Framing
from service.types import GENDERS, Box
from training.datasets.duplicates import group_near
from training.datasets.samples import (
    DatasetError,
    Samples,
    gender_and_age,
    named_attributes,
    read_images,
)

# Measured with YuNet over the set: side of the tight box and height of its centre.
FACE_SIDE, FACE_Y = 0.986, 0.378
FRAMING = Framing(scale=1.014, shift_y=0.124)
RACES = ("White", "Black", "Asian", "Indian", "other")
# gender 0 is male, 1 is female.
_NAME = re.compile(r"^(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_(?P<date>\d{8,20})\.")
_INDEX = {"0": GENDERS.index("male"), "1": GENDERS.index("female")}


def load(path: Path) -> Samples:
    """Read names and pixels; photos that come twice (by date or look) share a group.

    Raises:
        DatasetError: a file whose name is not in the official form, or is no image.
    """
    images, ages, genders, races, dates = [], [], [], [], []
    for name, pixels in read_images(path):
        match = _NAME.match(name)
        if match is None:
            raise DatasetError(f"{path}: {name} is not [age]_[gender]_[race]_[date].EXT")
        images.append(pixels)
        ages.append(int(match["age"]))
        genders.append(_INDEX[match["gender"]])
        races.append(RACES[int(match["race"])])
        dates.append(match["date"])
    labels, targets = gender_and_age(genders, ages)
    return Samples(
        name="utkface",
        images=images,
        boxes=[_box(image.shape[1], image.shape[0]) for image in images],
        framing=FRAMING,
        labels=labels,
        targets=targets,
        groups=group_near(images, _same(dates)),
        usage=np.full(len(images), ""),
        attributes={"race": np.array(races), **named_attributes(labels)},
    )


def _box(width: int, height: int) -> Box:
    side = FACE_SIDE * max(width, height)
    return Box(width / 2 - side / 2, FACE_Y * height - side / 2, side, side)


def _same(keys: Iterable[str]) -> Iterator[tuple[int, int]]:
    rows = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    for group in rows.values():
        yield from pairwise(group)
