from __future__ import annotations

import numpy as np
import pytest

from service.vision.cells import CHANNELS, decode, grid
from training.detection.assign import assign

NO_POINTS = np.full((1, 5, 2), np.nan, np.float32)
LEARNT = np.zeros(1, bool)


def targets(*boxes: list[float], ignored: list[bool] | None = None, side: int = 128) -> np.ndarray:
    count = len(boxes)
    return assign(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full((count, 5, 2), np.nan, np.float32),
        np.array(ignored or [False] * count, bool),
        side,
        side,
    )


def owned(target: np.ndarray, side: int = 128) -> set[tuple[float, float, float]]:
    return {tuple(cell) for cell in grid(side, side)[target[:, 0] == 1].tolist()}


def test_a_small_face_is_the_nearest_cell_of_the_finest_grid() -> None:
    assert owned(targets([16, 16, 9, 9])) == {(20, 20, 8)}


def test_a_face_between_two_ranges_is_learnt_at_both() -> None:
    # Side 36, its middle at (64, 64): four cells of stride 8 and four of 16, all within REACH.
    found = owned(targets([46, 46, 36, 36]))
    assert found == {
        (x, y, s) for s in (8, 16) for x in (64 - s / 2, 64 + s / 2) for y in (x, 128 - x)
    }


def test_a_large_face_has_a_square_of_cells_not_all_of_it() -> None:
    found = owned(targets([0, 0, 128, 128]))
    assert found == {(x, y, 32) for x in (48, 80) for y in (48, 80)}


def test_of_two_faces_the_smaller_one_is_in_front() -> None:
    target = targets([0, 0, 128, 128], [56, 56, 100, 100])
    cell = np.flatnonzero((grid(128, 128) == [80, 80, 32]).all(axis=1))
    # The one at (106, 106) reaches 35 px: the cell at (80, 80) is in both, and nearest to neither.
    np.testing.assert_allclose(np.exp(target[cell, 3]) * 32, 100, rtol=1e-5)


def test_nothing_is_learnt_where_a_face_is_too_small_or_unclear() -> None:
    target = targets([9, 9, 6, 6], [64, 64, 40, 40], ignored=[False, True])
    assert not owned(target)
    places = grid(128, 128)[target[:, 0] == -1, :2]
    assert len(places) > 20
    assert [12, 12] in places.tolist()
    assert ((places >= 64) & (places <= 104)).all(axis=1).sum() == len(places) - 1


def test_decoding_targets_gives_the_faces_back() -> None:
    box = np.array([[30, 40, 50, 64]], np.float32)
    points = (np.random.default_rng(0).random((1, 5, 2)) * 50 + 30).astype(np.float32)
    target = assign(box, points, LEARNT, 128, 96)
    cells = target[:, :CHANNELS].copy()
    cells[:, 0] = np.where(target[:, 0] == 1, 9, -9)
    boxes, places, _ = decode(cells, 128, 96, 0.5)
    assert len(boxes) > 1
    np.testing.assert_allclose(boxes, np.repeat(box, len(boxes), axis=0), atol=1e-3)
    np.testing.assert_allclose(places, np.repeat(points, len(boxes), axis=0), atol=1e-3)
    assert set(target[target[:, 0] == 1, 15]) == {1}


@pytest.mark.parametrize("box", [[-20, 50, 60, 60], [100, 100, 50, 50]])
def test_a_face_at_the_edge_is_learnt_whole(box: list[float]) -> None:
    target = targets(box)
    assert owned(target)
    assert set(target[target[:, 0] == 1, 15]) == {0}
