from __future__ import annotations

import numpy as np
import pytest

from service.vision.candidates import MOST, Candidates, joined
from service.vision.cells import CHANNELS, decode, grid
from service.vision.geometry import Letterbox
from tests.unit.vision.test_cells import by_hand


def candidates(count: int, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(1, 60, (count, 4)).astype(np.float32)
    points = rng.uniform(0, 60, (count, 5, 2)).astype(np.float32)
    return Candidates(boxes, points, rng.permutation(count).astype(np.float32) / count)


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def chosen_by_hand(rows: list[list[float]], max_iou: float) -> list[list[float]]:
    """Greedy suppression of rows of score, box, points: box by box, as the definition says."""
    kept: list[list[float]] = []
    for row in sorted(rows, key=lambda row: -row[0]):
        if all(overlap(row[1:5], other[1:5]) <= max_iou for other in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_cells_become_the_faces_that_are_chosen_by_hand(seed: int) -> None:
    cells = np.random.default_rng(seed).normal(size=(len(grid(96, 64)), CHANNELS))
    cells = cells.astype(np.float32)
    expected = chosen_by_hand(by_hand(cells, 96, 64, 0.3), 0.4)
    faces = Candidates(*decode(cells, 96, 64, 0.3)).faces(0.4)
    assert len(faces) == len(expected) > 5
    for face, row in zip(faces, expected, strict=True):
        box = face.box
        said = [face.score, box.x, box.y, box.width, box.height, *face.landmarks.reshape(-1)]
        np.testing.assert_allclose(said, row, rtol=1e-4, atol=1e-3)


def test_without_candidates_there_is_no_face() -> None:
    assert candidates(0).faces(0.5) == []


def test_of_very_many_the_best_are_looked_at() -> None:
    found = candidates(MOST + 500)
    # Each by itself, so that nothing suppresses anything.
    found.boxes[:] = [[70 * n, 0, 50, 50] for n in range(len(found.scores))]
    scores = [face.score for face in found.faces(0.5)]
    assert scores == sorted(found.scores.tolist(), reverse=True)[:MOST]


def test_boxes_and_points_go_back_to_the_image_together() -> None:
    boxed = Letterbox(np.zeros((1, 1, 3), np.uint8), (0.5, 0.25), (10.0, 20.0))
    found = Candidates(
        np.array([[20, 30, 5, 5]], np.float32),
        np.full((1, 5, 2), [15, 25], np.float32),
        np.ones(1, np.float32),
    ).restored(boxed)
    assert found.boxes.tolist() == [[20, 40, 10, 20]]
    assert found.points[0, 0].tolist() == [10, 20]


def test_parts_are_put_together_in_order() -> None:
    whole = joined([candidates(2), candidates(0), candidates(3, seed=1)])
    assert whole.scores.tolist() == [*candidates(2).scores, *candidates(3, seed=1).scores]
    assert whole.take(np.array([True, False, False, False, True])).boxes.tolist() == [
        candidates(2).boxes[0].tolist(),
        candidates(3, seed=1).boxes[2].tolist(),
    ]


def test_parts_of_a_surer_box_go() -> None:
    points = np.zeros((4, 5, 2), np.float32)
    boxes = np.float32([[10, 10, 20, 20], [10, 10, 20, 20], [90, 40, 20, 20], [-20, 0, 60, 60]])
    found = Candidates(boxes, points, np.float32([0.6, 0.95, 0.6, 0.6]))
    whole = Candidates(
        np.float32([[0, 0, 9, 9], [0, 0, 100, 100]]), points[:2], np.float32([0.5, 0.9])
    )
    # The second is surer than the whole, half of the third is beside it, of the last a third.
    assert found.but_parts_of(whole, sure=0.99).boxes.tolist() == boxes[1:].tolist()
    assert len(found.but_parts_of(whole.take(np.zeros(2, bool)), sure=0.99).boxes) == 4
    # What is sure stays, however sure the whole is.
    assert len(found.but_parts_of(whole, sure=0.6).boxes) == 4
