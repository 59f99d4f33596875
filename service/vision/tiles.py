"""A large picture as tiles that overlap, each searched by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.types import Pixels
from service.vision.candidates import Candidates
from service.vision.geometry import Letterbox

OVERLAP = 0.2
"""Of a tile's side. A smaller face lies whole in some tile; a larger one is for the whole picture
to show, in which it has more than 16 pixels if there are at most 8 tiles of 640 along a side."""
_EDGE_PX = 2.0
"""A face that a tile's edge cuts has its box end about there."""


def tiles(boxed: Letterbox, side: int) -> list[Letterbox]:
    """Tiles of at most `side` x `side` of a frame; one of them if it is no larger.

    Args:
        boxed: an image without a border.
        side: of a tile in pixels.
    """
    height, width = boxed.pixels.shape[:2]
    return [
        Letterbox(boxed.pixels[y : y + side, x : x + side], boxed.scale, (-float(x), -float(y)))
        for y in _starts(height, side)
        for x in _starts(width, side)
    ]


def uncut(found: Candidates, tile: Letterbox, whole: Pixels) -> Candidates:
    """Those of a tile that none of its edges cuts; the edges of the whole picture cut nothing.

    Args:
        found: in pixels of the tile.
        tile: as `tiles` gave it.
        whole: the picture that it is a tile of.
    """
    near = np.array(tile.offset, np.float32)  # of the picture's corner, seen from the tile
    far = near + _size(whole)
    low = np.where(near < 0, _EDGE_PX, -np.inf)
    high = np.where(far > _size(tile.pixels), _size(tile.pixels) - _EDGE_PX, np.inf)
    corner, opposite = found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]
    inside = (corner >= low) & (opposite <= high)
    return found.take(np.asarray(inside.all(axis=1), np.bool_))


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = int(np.ceil((length - OVERLAP * side) / (side - OVERLAP * side)))
    return [int(n) for n in np.linspace(0, length - side, count).round()]


def _size(pixels: Pixels) -> NDArray[np.float32]:
    return np.array(pixels.shape[1::-1], np.float32)
