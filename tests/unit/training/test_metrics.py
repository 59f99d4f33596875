from __future__ import annotations

import numpy as np
import pytest

from training import metrics

# Three classes, six faces. Answers: a a b b c a.
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.8, 0.1, 0.1],
        [0.4, 0.6, 0.0],
        [0.2, 0.7, 0.1],
        [0.2, 0.3, 0.5],
        [0.65, 0.15, 0.2],
    ],
    np.float64,
)
LABELS = np.array([0, 0, 0, 1, 2, 1])
NAMES = ["a", "b", "c"]


def test_report_of_a_case_done_by_hand() -> None:
    result = metrics.report(PROBABILITIES, LABELS, NAMES, uncertain_below=0.65)
    assert result["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert result["accuracy"] == pytest.approx(4 / 6, abs=1e-4)
    two_thirds = pytest.approx(2 / 3, abs=1e-4)
    assert result["classes"] == {
        "a": {"precision": two_thirds, "recall": two_thirds, "f1": two_thirds, "support": 3},
        "b": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
        "c": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
    }
    # Macro: (2/3 + 1/2 + 1) / 3. Weighted: (3 * 2/3 + 2 * 1/2 + 1 * 1) / 6.
    for name in metrics.AVERAGED:
        assert result[f"macro_{name}"] == pytest.approx(13 / 18, abs=1e-4)
        assert result[f"weighted_{name}"] == pytest.approx(4 / 6, abs=1e-4)
    assert result["uncertain_share"] == pytest.approx(2 / 6, abs=1e-4)
    assert result["certain_accuracy"] == 0.75


def test_precision_and_recall_differ_where_they_should() -> None:
    # One of two b is called a: a has a precision of 2/3, b a recall of 1/2.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]], np.float32)
    result = metrics.report(probabilities, np.array([0, 0, 1, 1]), ["a", "b"])
    two_thirds = pytest.approx(2 / 3)
    a, b = result["classes"]["a"], result["classes"]["b"]
    assert a == {"precision": two_thirds, "recall": 1.0, "f1": 0.8, "support": 2}
    assert b == {"precision": 1.0, "recall": 0.5, "f1": two_thirds, "support": 2}
    assert result["macro_precision"] == pytest.approx(5 / 6, abs=1e-4)
    assert result["macro_recall"] == 0.75
    assert result["weighted_f1"] == pytest.approx(0.7333, abs=1e-4)
    # Each row is alone in its bin: gaps 0.1, 0.2, 0.4 and 0.7.
    assert result["ece"] == pytest.approx((0.1 + 0.2 + 0.4 + 0.7) / 4, abs=1e-4)


def test_answers_of_one_bin_are_calibrated_together() -> None:
    # Confidence 0.61 and 0.65 share the bin 9/15..10/15: mean 0.63, half of them right.
    probabilities = np.array([[0.61, 0.39], [0.65, 0.35], [1.0, 0.0]], np.float64)
    labels = np.array([0, 1, 0])
    rows = metrics.reliability(probabilities, labels)
    assert [row["samples"] for row in rows] == [2, 1]
    assert rows[0]["confidence"] == pytest.approx(0.63)
    assert rows[0]["accuracy"] == 0.5
    error = metrics.calibration_error(probabilities, labels)
    assert error == pytest.approx(0.13 * 2 / 3)


def test_slices_are_measured_apart() -> None:
    races = np.array(["x", "x", "y", "y", "y", "x"])
    result = metrics.slices(PROBABILITIES, LABELS, NAMES, {"race": races})
    assert list(result["race"]) == ["x", "y"]
    assert result["race"]["x"]["samples"] == 3
    assert result["race"]["x"]["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    # In y, a is answered b, b is b and c is c: F1 0, 2/3 and 1 with one image each.
    assert result["race"]["y"]["weighted_f1"] == pytest.approx(5 / 9, abs=1e-4)
    # Gaps 0.6, 0.3 and 0.5, each alone in its bin.
    assert result["race"]["y"]["ece"] == pytest.approx((0.6 + 0.3 + 0.5) / 3, abs=1e-4)


def test_folds_give_mean_and_sample_deviation() -> None:
    folds = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    result = metrics.over_folds(PROBABILITIES, LABELS, NAMES, folds)
    assert set(result) == set(metrics.FIGURES)
    assert result["accuracy"] == {"mean": pytest.approx(2 / 3, abs=1e-4), "deviation": 0.0}
    # Weighted recall is the accuracy; macro recall is (2/3 + 0 + 0) / 3 and (0 + 1/2 + 1) / 3.
    expected = np.array([2 / 9, 1 / 2])
    assert result["macro_recall"]["mean"] == pytest.approx(expected.mean(), abs=1e-4)
    assert result["macro_recall"]["deviation"] == pytest.approx(
        abs(expected[1] - expected[0]) / 2**0.5, abs=1e-4
    )


def test_a_class_that_never_comes_has_zero_figures() -> None:
    result = metrics.report(PROBABILITIES[:2], LABELS[:2], NAMES, uncertain_below=0.95)
    assert result["classes"]["b"]["f1"] == 0
    assert result["certain_accuracy"] is None


def test_a_page_rounds_a_share_that_was_not_rounded_before() -> None:
    # 92.5537 %: to four digits it is 0.9255, which prints as 92.5 %.
    probabilities = np.tile(np.array([[0.9, 0.1]], np.float32), (2095, 1))
    labels = np.array([0] * 1939 + [1] * 156, np.int64)
    assert f"{metrics.report(probabilities, labels, ['a', 'b'])['accuracy']:.1%}" == "92.6%"


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no samples"):
        metrics.report(PROBABILITIES[:0], LABELS[:0], NAMES)
