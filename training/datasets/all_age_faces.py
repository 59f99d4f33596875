"""All-Age-Faces, a folder or zip of `<id>A<age>` images, aligned, with a margin around the face."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from service.types import GENDERS, Box
from training.datasets.duplicates import group_near
from training.datasets.samples import (
    DatasetError,
    Samples,
    gender_and_age,
    named_attributes,
    read_images,
)

# Measured with YuNet over the set, as fractions of the longer side, image centred in its square.
FACE_SIDE, FACE_X, FACE_Y = 0.524, 0.493, 0.579
LAST_FEMALE = 7380
_NAME = re.compile(r"^(?P<id>\d{5})A(?P<age>\d{1,3})\.")


def load(path: Path) -> Samples:
    """Read names and pixels; the names carry no identity, so copies are grouped by their look.

    Raises:
        DatasetError: a file whose name is not in the official form, or is no image.
    """
    images, ages, genders = [], [], []
    for name, pixels in read_images(path):
        match = _NAME.match(name)
        if match is None:
            raise DatasetError(f"{path}: {name} is not <id>A<age>.EXT")
        images.append(pixels)
        ages.append(int(match["age"]))
        female = int(match["id"]) <= LAST_FEMALE
        genders.append(GENDERS.index("female" if female else "male"))
    labels, targets = gender_and_age(genders, ages)
    return Samples(
        name="all_age_faces",
        images=images,
        boxes=[_box(image.shape[1], image.shape[0]) for image in images],
        framing=None,
        labels=labels,
        targets=targets,
        groups=group_near(images),
        usage=np.full(len(images), ""),
        attributes=named_attributes(labels),
    )


def _box(width: int, height: int) -> Box:
    longer = max(width, height)
    center_x = width / 2 + (FACE_X - 0.5) * longer
    center_y = height / 2 + (FACE_Y - 0.5) * longer
    side = FACE_SIDE * longer
    return Box(center_x - side / 2, center_y - side / 2, side, side)
