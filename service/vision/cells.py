"""What the detector's network says of a picture: one row of 15 numbers for each cell.

Cells are the grids of strides 8, 16 and 32, one after another, each row by row. A cell's numbers,
lengths in strides and places from the cell's centre: the score's logit; x and y of the middle of a
box and the logarithms of its width and height; x and y of five points.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)
CHANNELS = 15
MULTIPLE = STRIDES[-1]
"""Width and height of a frame are multiples of it."""

Floats = NDArray[np.float32]


@lru_cache(maxsize=64)
def grid(width: int, height: int) -> Floats:
    """Centre and stride of every cell of a frame: float32 (A, 3) of x, y, stride in pixels.

    Raises:
        ValueError: a side is no multiple of 32.
    """
    if width % MULTIPLE or height % MULTIPLE:
        raise ValueError(f"{width} x {height} are no multiples of {MULTIPLE}")
    parts = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        centers = (np.stack((columns, rows), axis=-1).reshape(-1, 2) + 0.5) * stride
        parts.append(np.hstack((centers, np.full((len(centers), 1), stride))))
    cells = np.concatenate(parts).astype(np.float32)
    cells.flags.writeable = False  # Shared by all callers.
    return cells


def decode(
    cells: Floats, width: int, height: int, threshold: float
) -> tuple[Floats, Floats, Floats]:
    """Faces of the cells whose score is at least `threshold`; one face has several.

    Args:
        cells: (A, 15).
        width: of the frame in pixels, as for `grid`.
        height: of the frame in pixels.
        threshold: 0..1.

    Returns:
        Boxes (N, 4), points (N, 5, 2) and scores (N,), in pixels of the frame.
    """
    # The logit of the threshold spares the exponentials of all other cells.
    least = -np.inf if threshold <= 0 else np.log(threshold) - np.log1p(-min(threshold, 1 - 1e-7))
    rows = np.flatnonzero(cells[:, 0] >= least)
    found, places = cells[rows], grid(width, height)[rows]
    centers, stride = places[:, :2], places[:, 2:]
    size = np.exp(np.clip(found[:, 3:5], -8, 8)) * stride
    boxes = np.hstack((centers + found[:, 1:3] * stride - size / 2, size))
    points = centers[:, np.newaxis] + found[:, 5:].reshape(-1, 5, 2) * stride[:, np.newaxis]
    scores = 1 / (1 + np.exp(-np.clip(found[:, 0], -60, 60)))
    return boxes.astype(np.float32), points.astype(np.float32), scores.astype(np.float32)
