from __future__ import annotations

import math

import numpy as np
import pytest

from service.vision.cells import CHANNELS, STRIDES, decode, grid


def by_hand(cells: np.ndarray, width: int, height: int, threshold: float) -> list[list[float]]:
    """Cell by cell, with nothing but the definition: score, box and points."""
    found, number = [], 0
    for stride in STRIDES:
        for row in range(height // stride):
            for column in range(width // stride):
                logit, dx, dy, log_w, log_h, *points = (float(n) for n in cells[number])
                number += 1
                score = 1 / (1 + math.exp(-logit))
                if score < threshold:
                    continue
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                w, h = math.exp(log_w) * stride, math.exp(log_h) * stride
                places = [
                    (y if odd else x) + value * stride
                    for value, odd in zip(points, [0, 1] * 5, strict=True)
                ]
                box = [x + dx * stride - w / 2, y + dy * stride - h / 2, w, h]
                found.append([score, *box, *places])
    return found


@pytest.mark.parametrize(("width", "height"), [(32, 32), (96, 64), (64, 160)])
def test_decoding_is_as_by_hand(width: int, height: int) -> None:
    count = sum((width // s) * (height // s) for s in STRIDES)
    cells = np.random.default_rng(width).normal(size=(count, CHANNELS)).astype(np.float32)
    boxes, points, scores = decode(cells, width, height, 0.4)
    expected = np.array(by_hand(cells, width, height, 0.4))
    assert 0 < len(scores) < count
    np.testing.assert_allclose(scores, expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(boxes, expected[:, 1:5], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(points.reshape(-1, 10), expected[:, 5:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("threshold", "found"), [(0.0, 21), (1.0, 0)])
def test_extreme_thresholds(threshold: float, found: int) -> None:
    cells = np.zeros((21, CHANNELS), np.float32)
    boxes, points, scores = decode(cells, 32, 32, threshold)
    assert (len(boxes), len(points), len(scores)) == (found, found, found)


def test_wild_numbers_stay_finite() -> None:
    cells = np.full((21, CHANNELS), 1e4, np.float32)
    boxes, _, scores = decode(cells, 32, 32, 0.5)
    assert np.isfinite(boxes).all()
    assert (scores == 1).all()


def test_a_frame_is_a_multiple_of_32() -> None:
    with pytest.raises(ValueError, match="33 x 32"):
        grid(33, 32)
