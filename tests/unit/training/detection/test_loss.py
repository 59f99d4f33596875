from __future__ import annotations

import numpy as np
import pytest

from service.vision.geometry import iou
from training.detection.loss import DetectorLoss, overlaps, points_loss, quality_focal


def as_box(row: np.ndarray) -> np.ndarray:
    size = np.exp(row[2:])
    return np.concatenate((row[:2] - size / 2, size)).astype(np.float32)


def test_iou_is_that_of_geometry() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.4, (2, 40, 4)).astype(np.float32)
    given, _ = overlaps(a, b)
    expected = [iou(as_box(p)[None], as_box(q)[None])[0, 0] for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(np.asarray(given), expected, atol=1e-5)


def test_diou_by_hand() -> None:
    # Two unit squares two apart: no overlap, 4 over the diagonal of a box of 3 x 1, squared.
    zero = np.zeros((1, 4), np.float32)
    _, loss = overlaps(zero, np.array([[2, 0, 0, 0]], np.float32))
    assert float(loss[0]) == pytest.approx(1 + 4 / 10)
    assert float(overlaps(zero, zero)[1][0]) == pytest.approx(0, abs=1e-5)


def test_quality_focal_by_hand() -> None:
    # Score 0.5 where 1 is wanted: 0.25 of its cross-entropy ln 2; nothing where they are equal.
    logits, quality = np.zeros(2, np.float32), np.array([1.0, 0.5], np.float32)
    loss = np.asarray(quality_focal(quality, logits))
    np.testing.assert_allclose(loss, [0.25 * np.log(2), 0], atol=1e-6)


def test_points_are_measured_in_sides_of_the_face() -> None:
    true, given = np.zeros((1, 16), np.float32), np.zeros((1, 15), np.float32)
    true[0, 3:5] = np.log(4)
    given[0, 5] = 2.0
    # Half a side away, of which the bend takes half of 0.05.
    assert float(points_loss(true, given)[0]) == pytest.approx(0.5 - 0.025)


def cells(state: float, has_points: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    true, given = np.zeros((1, 4, 16), np.float32), np.zeros((1, 4, 15), np.float32)
    given[..., 0] = -8
    true[0, 0, 0], true[0, 0, 15] = state, has_points
    given[0, 0, 0], given[0, 0, 5:] = 3, 1
    return true, given


def test_ignored_cells_and_unknown_points_cost_nothing() -> None:
    loss = DetectorLoss()
    background, ignored = (float(loss(*cells(state))) for state in (0, -1))
    assert ignored < 1e-4 < background
    known, unknown = (float(loss(*cells(1, has))) for has in (1, 0))
    assert known - unknown > 1
    # A good box with a high score costs little.
    assert unknown < 0.02
