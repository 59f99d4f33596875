from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.vision.candidates import Candidates
from service.vision.geometry import Letterbox
from service.vision.tiles import OVERLAP, tiles, uncut


def frame(width: int, height: int) -> Letterbox:
    return Letterbox(np.zeros((height, width, 3), np.uint8), (0.5, 0.5))


def at(*corners: tuple[float, float], side: float = 10) -> Candidates:
    boxes = np.array([[x, y, side, side] for x, y in corners], np.float32).reshape(-1, 4)
    count = len(boxes)
    return Candidates(boxes, np.zeros((count, 5, 2), np.float32), np.ones(count, np.float32))


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 96, 320]))
def test_every_small_face_lies_whole_in_a_tile(width: int, height: int, side: int) -> None:
    pieces = tiles(frame(width, height), side)
    # A border of 2 px counts as cut.
    least = int(OVERLAP * side) - 5
    starts = [(-piece.offset[0], -piece.offset[1], piece.pixels.shape) for piece in pieces]
    for axis, length in ((0, width), (1, height)):
        spans = sorted({(start[axis], start[2][1 - axis]) for start in starts})
        assert spans[0][0] == 0
        assert spans[-1][0] + spans[-1][1] == length
        for (one, size), (other, _) in pairwise(spans):
            assert one + size - other >= least
            assert size <= side


def test_a_small_picture_is_one_tile() -> None:
    (tile,) = tiles(frame(300, 20), 320)
    assert tile.pixels.shape == (20, 300, 3)
    assert tile.offset == (0, 0)


def test_finds_of_a_tile_go_back_to_the_image() -> None:
    whole = frame(500, 320)
    left, right = tiles(whole, 320)
    assert left.offset == (0, 0)
    assert right.offset == (-180, 0)
    assert at((5, 6)).restored(right).boxes.tolist() == [[370, 12, 20, 20]]


@pytest.mark.parametrize(
    ("corner", "left", "right"),
    [
        ((100, 100), True, True),
        ((-3, 100), True, False),  # beyond the left edge: only the left tile's is the picture's
        ((313, 100), False, True),
        ((309, 100), False, True),
        ((100, -4), True, True),
        ((100, 315), True, True),
    ],
)
def test_what_a_tiles_edge_cuts_is_not_kept(
    corner: tuple[float, float], left: bool, right: bool
) -> None:
    whole = frame(500, 320)
    for tile, kept in zip(tiles(whole, 320), (left, right), strict=True):
        assert len(uncut(at(corner), tile, whole.pixels).scores) == kept
