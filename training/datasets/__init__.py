"""Loaders of the official dataset formats, and their parts for training and for measuring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from training.datasets import all_age_faces, fer2013, utkface
from training.datasets.samples import DatasetError, Samples
from training.datasets.splits import PARTS, Part, split

LOADERS: Mapping[str, Callable[[Path], Samples]] = {
    "fer2013": fer2013.load,
    "utkface": utkface.load,
    "all_age_faces": all_age_faces.load,
}

__all__ = [
    "LOADERS",
    "PARTS",
    "DatasetError",
    "Part",
    "Samples",
    "load_parts",
    "load_sets",
    "load_validation",
    "named_paths",
    "parts",
]


def load_parts(name: str, path: Path, needed: Collection[Part] = ()) -> dict[Part, Samples]:
    """Read a set and divide it, see `parts`.

    Args:
        name: of the set.
        path: where it is.
        needed: parts that must hold an image.

    Raises:
        DatasetError: not in its official format, or a part that is needed is empty.
    """
    found = parts(LOADERS[name](path))
    for part in needed:
        if not len(found[part]):
            raise DatasetError(f"{path}: the {part} part of {name} is empty")
    return found


def named_paths(items: Iterable[str]) -> dict[str, Path]:
    """The sets that a command line names, `SET=PATH` each.

    Raises:
        DatasetError: one is not in this form, is named twice, or is not there.
    """
    paths: dict[str, Path] = {}
    for item in items:
        name, _, path = item.partition("=")
        if not path:
            raise DatasetError(f"--data {item!r} is not SET=PATH")
        if name not in LOADERS:
            raise DatasetError(f"no dataset {name!r}; there are {', '.join(LOADERS)}")
        if name in paths:
            raise DatasetError(f"--data names {name} twice")
        if not Path(path).exists():
            raise DatasetError(f"{name}: there is no {path}")
        paths[name] = Path(path)
    return paths


def load_sets(
    items: Iterable[str], needed: Collection[Part] = ("train", "validation")
) -> dict[str, dict[Part, Samples]]:
    """Read what a command line names; see `named_paths` and `load_parts`."""
    return {name: load_parts(name, path, needed) for name, path in named_paths(items).items()}


def load_validation(items: Iterable[str]) -> dict[str, Samples]:
    """The validation parts of what a command line names; see `named_paths`."""
    return {name: found["validation"] for name, found in load_sets(items, ["validation"]).items()}


def parts(samples: Samples) -> dict[Part, Samples]:
    """Train, tune and validation parts.

    Where a set has official parts (FER2013), its Training rows are divided into train and tune,
    and its PublicTest is the validation part. A Training row that is a copy of a PublicTest image
    is left out of both.
    """
    if not np.any(samples.usage != ""):
        rows = split(samples.name, samples.groups)
        return {part: samples.take(numbers) for part, numbers in rows.items()}
    public = np.flatnonzero(samples.usage == "PublicTest")
    mine = (samples.usage == "Training") & ~np.isin(samples.groups, samples.groups[public])
    training = samples.take(np.flatnonzero(mine))
    rows = split(samples.name, training.groups, {"tune": 0.05})
    result = {part: training.take(numbers) for part, numbers in rows.items()}
    return {**result, "validation": samples.take(public)}
