from __future__ import annotations

import numpy as np
import pytest

from training import calibrate


def test_minimum_of_a_valley() -> None:
    assert calibrate.minimum(lambda x: (x - 1.25) ** 2, -3, 4) == pytest.approx(1.25, abs=1e-3)


def test_temperature_is_recovered() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)).astype(np.float32) * 2
    chances = calibrate.softmax(logits)
    labels = np.array([rng.choice(4, p=row) for row in chances])
    found = calibrate.temperature(logits * 2, labels)
    assert found == pytest.approx(2, abs=0.1)
    assert calibrate.nll(logits * 2, labels, found) < calibrate.nll(logits * 2, labels, 1)


def test_softmax_of_huge_logits() -> None:
    np.testing.assert_allclose(calibrate.softmax(np.array([[1e4, 0]], np.float32)), [[1, 0]])


def test_threshold_reaches_the_precision() -> None:
    top = np.linspace(0.5, 0.995, 100)
    probabilities = np.stack([top, 1 - top], axis=1)
    labels = (top < 0.7).astype(np.int64)  # wrong below 0.7
    threshold = calibrate.uncertain_below(probabilities, labels)
    kept = top >= threshold
    assert (labels[kept] == 0).mean() >= 0.9
    assert threshold < 0.7


def test_threshold_falls_back_where_the_precision_is_out_of_reach() -> None:
    probabilities = np.tile([[0.6, 0.4]], (10, 1))
    assert calibrate.uncertain_below(probabilities, np.ones(10, np.int64)) == calibrate.FALLBACK


def test_threshold_does_not_call_most_answers_uncertain() -> None:
    top = np.linspace(0.5, 0.995, 100)
    probabilities = np.stack([top, 1 - top], axis=1)
    labels = (top < 0.9).astype(np.int64)  # 0.9 would be precise, and leave a fifth
    assert calibrate.uncertain_below(probabilities, labels) == calibrate.FALLBACK


def test_threshold_is_zero_where_all_is_right() -> None:
    probabilities = np.tile([[0.6, 0.4]], (10, 1))
    assert calibrate.uncertain_below(probabilities, np.zeros(10, np.int64)) == 0
