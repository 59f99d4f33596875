from __future__ import annotations

import numpy as np
import pytest

from training import metrics
from training.evaluate import markdown

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def test_report_of_a_case_done_by_hand() -> None:
    result = metrics.report(PROBABILITIES, LABELS, ["a", "b"], uncertain_below=0.75)
    assert result["confusion"] == [[2, 0], [1, 1]]
    assert result["accuracy"] == 0.75
    assert result["classes"]["a"] == {"precision": 0.6667, "recall": 1.0, "f1": 0.8, "support": 2}
    assert result["classes"]["b"] == {"precision": 1.0, "recall": 0.5, "f1": 0.6667, "support": 2}
    assert result["macro_f1"] == pytest.approx(0.7333, abs=1e-4)
    assert result["uncertain_share"] == 0.5
    assert result["certain_accuracy"] == 1.0
    # Each row is alone in its bin: gaps 0.1, 0.2, 0.4 and 0.7.
    assert result["ece"] == pytest.approx((0.1 + 0.2 + 0.4 + 0.7) / 4, abs=1e-4)


def test_a_class_that_never_comes_has_zero_figures() -> None:
    result = metrics.report(PROBABILITIES[:2], LABELS[:2], ["a", "b"], uncertain_below=0.95)
    assert result["classes"]["b"]["f1"] == 0
    assert result["certain_accuracy"] is None


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="no samples"):
        metrics.report(PROBABILITIES[:0], LABELS[:0], ["a", "b"])


def test_markdown_holds_every_figure() -> None:
    result = metrics.report(PROBABILITIES, LABELS, ["a", "b"])
    record = {
        "model": "m",
        "sha256": "0" * 64,
        "results": [{"data": "d", "split": "s", "head": "h", **result}],
    }
    text = markdown(record)
    assert "| h | d, s | 4 | 75.0% | 0.733 |" in text
    assert "| b | 1.000 | 0.500 | 0.667 | 2 |" in text
    assert "| b | 1 | 1 |" in text
