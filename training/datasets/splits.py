"""Seeded splits by group: a group's part follows from a hash of its number and the seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from training.datasets.samples import DatasetError, to_gray

Part = Literal["train", "tune", "validation"]
"""`tune` chooses epochs and recipes; `validation` is measured, and calibrates."""
PARTS: tuple[Part, ...] = get_args(Part)

SPLIT_SEED = 20
SHARES: Mapping[Part, float] = {"tune": 0.05, "validation": 0.10}


def split(
    name: str,
    groups: NDArray[np.int64],
    shares: Mapping[Part, float] = SHARES,
    seed: int = SPLIT_SEED,
) -> dict[Part, NDArray[np.int64]]:
    """Row numbers of each part; what the shares leave is `train`.

    Args:
        name: of the dataset, so that two sets are split independently.
        groups: int (N,); a group is never divided.
        shares: part -> share of the groups.
        seed: another seed is another split.
    """
    unique, inverse = np.unique(groups, return_inverse=True)
    places = np.array([_place(f"{seed}:{name}:{group}") for group in unique])[inverse]
    rows: dict[Part, NDArray[np.int64]] = {}
    low = 0.0
    for part, share in shares.items():
        rows[part] = np.flatnonzero((places >= low) & (places < low + share))
        low += share
    rows["train"] = np.flatnonzero(places >= low)
    return rows


def fold_numbers(
    name: str, groups: NDArray[np.int64], count: int, seed: int = SPLIT_SEED
) -> NDArray[np.int64]:
    """The fold of each row, int (N,): `count` folds with an equal number of groups, up to one.

    Args:
        name: of the dataset.
        groups: int (N,); a group is never divided.
        count: of folds, at least 2.
        seed: another seed is another division.

    Raises:
        DatasetError: fewer groups than folds, or fewer than two folds.
    """
    unique, inverse = np.unique(groups, return_inverse=True)
    if not 2 <= count <= len(unique):
        raise DatasetError(f"{name}: {len(unique)} groups cannot be divided into {count} folds")
    places = [_place(f"fold:{seed}:{name}:{group}") for group in unique]
    folds = np.empty(len(unique), np.int64)
    folds[np.argsort(places)] = np.arange(len(unique)) % count
    return folds[inverse]


def fingerprint(images: Sequence[NDArray[np.uint8]]) -> dict[str, int | str]:
    """Size and sha256 of the grey pixels of a part, to be recorded beside a run."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(to_gray(image).tobytes())
    return {"samples": len(images), "sha256": digest.hexdigest()}


def _place(key: str) -> float:
    # 0 <= place < 1
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
