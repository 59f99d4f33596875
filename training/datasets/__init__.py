"""Loaders of the official dataset formats, and their parts for training and for measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from training.datasets import all_age_faces, fer2013, utkface
from training.datasets.samples import DatasetError, Samples
from training.datasets.splits import Part, split

LOADERS: Mapping[str, Callable[[Path], Samples]] = {
    "fer2013": fer2013.load,
    "utkface": utkface.load,
    "all_age_faces": all_age_faces.load,
}

__all__ = [
    "LOADERS",
    "DatasetError",
    "Part",
    "Samples",
    "load_parts",
    "load_sets",
    "load_validation",
    "parts",
]


def load_parts(name: str, path: Path) -> dict[Part, Samples]:
    """Read a set and divide it, see `parts`.

    Raises:
        DatasetError: no such set, or not in its official format.
    """
    if name not in LOADERS:
        raise DatasetError(f"no dataset {name!r}; there are {', '.join(LOADERS)}")
    return parts(LOADERS[name](path))


def load_sets(items: Iterable[str]) -> dict[str, dict[Part, Samples]]:
    """Read what a command line names, `SET=PATH` each; see `load_parts`."""
    pairs = [item.partition("=") for item in items]
    return {name: load_parts(name, Path(path)) for name, _, path in pairs}


def load_validation(items: Iterable[str]) -> dict[str, Samples]:
    """The validation parts of what a command line names, `SET=PATH` each."""
    return {name: found["validation"] for name, found in load_sets(items).items()}


def parts(samples: Samples) -> dict[Part, Samples]:
    """Train, tune and validation parts.

    Where a set has official parts (FER2013), its Training rows are divided into train and tune,
    and its PublicTest is the validation part. A Training row that is a copy of a PublicTest image
    is left out of both.
    """
    if not np.any(samples.usage == "Training"):
        rows = split(samples.name, samples.groups)
        return {part: samples.take(numbers) for part, numbers in rows.items()}
    public = np.flatnonzero(samples.usage == "PublicTest")
    mine = (samples.usage == "Training") & ~np.isin(samples.groups, samples.groups[public])
    training = samples.take(np.flatnonzero(mine))
    rows = split(samples.name, training.groups, {"tune": 0.05})
    result = {part: training.take(numbers) for part, numbers in rows.items()}
    return {**result, "validation": samples.take(public)}
