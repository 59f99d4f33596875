"""Which cells answer for which face: by its size and its middle, before any training step.

Centre sampling of FCOS (arXiv:1904.01355) with ranges of sizes that overlap. SimOTA (YOLOX,
arXiv:2107.08430) chooses by the predictions instead, which costs a matrix of faces x cells within
each step; this takes 0.7 ms for a picture of four faces in NumPy, ahead of the step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.vision.cells import CHANNELS, STRIDES, grid

RANGES = {8: (0.0, 44.0), 16: (30.0, 116.0), 32: (80.0, np.inf)}
"""Stride -> sides of the faces that it answers for, in pixels of the frame."""
RADIUS = 1.25
"""Half side, in strides, of the square about a face's middle whose cells are its own."""
REACH = 0.35
"""The same in widths and heights of the face: small faces have fewer cells."""
SMALLEST = 7.0
"""Side in pixels below which a face is not learnt: its place is ignored."""
COLUMNS = CHANNELS + 1
"""Of a target: 1 face, 0 none or -1 ignored; box and points as a cell has them; 1 with points."""

Floats = NDArray[np.float32]


def assign(
    boxes: Floats, points: Floats, ignored: NDArray[np.bool_], width: int, height: int
) -> Floats:
    """Targets float32 (A, 16) of a frame's cells.

    A cell that lies in the middle of several faces is the smallest one's, and the cell nearest to a
    face's middle at its stride is always its own.

    Args:
        boxes: (N, 4).
        points: (N, 5, 2), NaN where there are none.
        ignored: (N,): cells within these are no background either.
        width: of the frame in pixels.
        height: of the frame in pixels.
    """
    cells = grid(width, height)
    targets = np.zeros((len(cells), COLUMNS), np.float32)
    sides = np.sqrt(boxes[:, 2:].prod(axis=1))
    learnt = ~ignored & (sides >= SMALLEST)
    for x, y, w, h in boxes[~learnt]:
        dx, dy = cells[:, 0] - x, cells[:, 1] - y
        targets[(dx >= 0) & (dx <= w) & (dy >= 0) & (dy <= h), 0] = -1
    owners = np.full(len(cells), -1)
    order = [int(row) for row in np.argsort(-sides, kind="stable") if learnt[row]]
    for row in order:
        owners[_around(cells, boxes[row], sides[row])] = row
    for row in order:
        owners[_nearest(cells, boxes[row], sides[row])] = row
    taken = np.flatnonzero(owners >= 0)
    targets[taken] = _targets(cells[taken], boxes[owners[taken]], points[owners[taken]])
    return targets


def _strides(side: float) -> list[int]:
    return [s for s in STRIDES if RANGES[s][0] <= side < RANGES[s][1]]


def _around(cells: Floats, box: Floats, side: float) -> NDArray[np.bool_]:
    away = np.abs(cells[:, :2] - (box[:2] + box[2:] / 2))
    near = away <= np.minimum(cells[:, 2:] * RADIUS, box[2:] * REACH)
    return near.all(axis=1) & np.isin(cells[:, 2], _strides(side))


def _nearest(cells: Floats, box: Floats, side: float) -> list[int]:
    distance = ((cells[:, :2] - (box[:2] + box[2:] / 2)) ** 2).sum(axis=1)
    return [
        int(np.where(cells[:, 2] == stride, distance, np.inf).argmin()) for stride in _strides(side)
    ]


def _targets(cells: Floats, boxes: Floats, points: Floats) -> Floats:
    centers, strides = cells[:, :2], cells[:, 2:]
    middle = (boxes[:, :2] + boxes[:, 2:] / 2 - centers) / strides
    size = np.log(boxes[:, 2:] / strides)
    places = ((points - centers[:, np.newaxis]) / strides[:, np.newaxis]).reshape(-1, 10)
    known = np.isfinite(places).all(axis=1, keepdims=True)
    columns = (np.ones((len(cells), 1)), middle, size, np.where(known, places, 0), known)
    return np.hstack(columns).astype(np.float32)
