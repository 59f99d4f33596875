"""FairFace photos, a folder or zip of `<age band>_<gender>_<id>`; the central face is labelled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.types import Head
from training.datasets.samples import DatasetError, read_files

AGES: Mapping[str, str | None] = {
    "0-2": "0-18",
    "3-9": "0-18",
    "10-19": None,
    "20-29": "19-30",
    "30-39": None,
    "40-49": "31-80",
    "50-59": "31-80",
    "60-69": "31-80",
    "70+": None,
}
"""FairFace's bands in ours; None where one lies across the edge of two of ours."""
_NAME = re.compile(r"^(?P<age>[0-9]+(?:-[0-9]+|\+))_(?P<gender>female|male)_")


@dataclass(frozen=True, slots=True)
class Photo:
    """An image file whose central face is labelled."""

    name: str
    data: bytes
    labels: Mapping[Head, str]
    """Head -> label; no age where FairFace's band has no counterpart."""


def load_photos(path: Path) -> list[Photo]:
    """Read every photo, in the order of their names.

    Raises:
        DatasetError: no photo, or a name that is not in FairFace's form.
    """
    photos = [Photo(name, data, _labels(path, Path(name).name)) for name, data in read_files(path)]
    if not photos:
        raise DatasetError(f"{path} holds no photo")
    return photos


def _labels(path: Path, name: str) -> dict[Head, str]:
    match = _NAME.match(name)
    if match is None or match["age"] not in AGES:
        raise DatasetError(f"{path}: {name} is not <age band>_<gender>_<id>.EXT")
    labels: dict[Head, str] = {"gender": match["gender"]}
    if age := AGES[match["age"]]:
        labels["age"] = age
    return labels
