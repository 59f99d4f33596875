"""Groups of images that are copies of one photo, so that no photo is on two sides of a split."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.samples import to_gray

HASH_BITS = 256
# Distances of unrelated UTKFace and All-Age-Faces pairs start at about 28 of 256 bits (measured:
# the counts fall to a minimum at 20-28 and rise without end from 30).
NEAR_BITS = 24
_BLOCK = 2048


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """dHash: which of two horizontal neighbours is brighter, at 17x16; bool (256,)."""
    small = cv2.resize(to_gray(image), (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.asarray(small[:, 1:] > small[:, :-1]).ravel()


def group_near(
    images: list[NDArray[np.uint8]],
    same: Iterable[tuple[int, int]] = (),
    near_bits: int = NEAR_BITS,
) -> NDArray[np.int64]:
    """Number each image by the first image that it is a copy of.

    Args:
        images: N images, grey or BGR.
        same: pairs that are known to be one photo, whatever they look like.
        near_bits: hashes at most this far apart are one photo.

    Returns:
        int64 (N,): the smallest row number of the group.
    """
    parents = np.arange(len(images))
    signs = np.array([difference_hash(image) for image in images], np.float32) * 2 - 1
    # dot = 256 - 2 * distance
    least = HASH_BITS - 2 * near_bits
    for start in range(0, len(signs), _BLOCK):
        dots = signs[start : start + _BLOCK] @ signs[start:].T
        for left, right in np.argwhere(np.triu(dots >= least, 1)):
            _join(parents, int(left) + start, int(right) + start)
    for left, right in same:
        _join(parents, left, right)
    return np.array([_root(parents, row) for row in range(len(images))], np.int64)


def _root(parents: NDArray[np.int64], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = int(parents[row])
    return row


def _join(parents: NDArray[np.int64], left: int, right: int) -> None:
    a, b = _root(parents, left), _root(parents, right)
    parents[max(a, b)] = min(a, b)
