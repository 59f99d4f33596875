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


def test_a_fit_is_measured_on_folds_that_did_not_make_it() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3)).astype(np.float32) * 6
    chances = calibrate.softmax(logits, 2.0)
    labels = np.array([rng.choice(3, p=row) for row in chances])
    found = calibrate.fit(logits, labels, np.arange(4000) % 5)
    assert found.temperature == calibrate.temperature(logits, labels)
    assert found.temperature == pytest.approx(2, abs=0.2)
    probabilities = calibrate.softmax(logits, found.temperature)
    assert found.uncertain_below == calibrate.uncertain_below(probabilities, labels)
    assert found.ece == pytest.approx(0, abs=0.03)
    assert found.certain_accuracy == pytest.approx(0.9, abs=0.02)
    kept = probabilities.max(axis=1) >= found.uncertain_below
    assert found.uncertain_share == pytest.approx(1 - kept.mean(), abs=0.05)


def test_a_fold_unlike_the_others_is_badly_calibrated_by_them() -> None:
    # Folds 1 to 4 are as sure as they are right, fold 0 is as sure and always wrong.
    logits = np.tile(np.float32([[2.0, 0.0]]), (500, 1))
    folds = np.arange(500) % 5
    labels = np.where(folds == 0, 1, (np.arange(500) // 5) % 8 == 0)
    found = calibrate.fit(logits, labels.astype(np.int64), folds)
    assert found.ece > 0.15


def test_threshold_is_zero_where_all_is_right() -> None:
    probabilities = np.tile([[0.6, 0.4]], (10, 1))
    assert calibrate.uncertain_below(probabilities, np.zeros(10, np.int64)) == 0
