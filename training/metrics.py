"""Figures of a classifier from its probabilities and the labels; plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def confusion(
    labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """int64 (K, K): rows are labels, columns are answers."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, answers), 1)
    return table


def calibration_error(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = 15
) -> float:
    """Expected calibration error: mean gap of confidence and accuracy, in equal-width bins."""
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((top * bins).astype(np.int64), bins - 1)
    gaps = [
        abs(float(top[places == place].mean() - right[places == place].mean()))
        * float((places == place).mean())
        for place in np.unique(places)
    ]
    return float(sum(gaps))


def report(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    names: Sequence[str],
    uncertain_below: float = 0.0,
) -> dict[str, Any]:
    """Everything that is measured of one head on one set, ready for JSON.

    Args:
        probabilities: (N, K).
        labels: (N,).
        names: K labels.
        uncertain_below: the head's threshold.

    Raises:
        ValueError: there is nothing to measure.
    """
    if not len(labels):
        raise ValueError("no samples to measure")
    answers = probabilities.argmax(axis=1)
    table = confusion(labels, answers, len(names))
    certain = probabilities.max(axis=1) >= uncertain_below
    classes = {name: _class_figures(table, index) for index, name in enumerate(names)}
    return {
        "samples": len(labels),
        "accuracy": _round((answers == labels).mean()),
        "macro_f1": _round(np.mean([figures["f1"] for figures in classes.values()])),
        "ece": _round(calibration_error(probabilities, labels)),
        "uncertain_share": _round(1 - certain.mean()),
        "certain_accuracy": _round((answers == labels)[certain].mean()) if certain.any() else None,
        "classes": classes,
        "confusion": table.tolist(),
    }


def _class_figures(table: NDArray[np.int64], index: int) -> dict[str, Any]:
    hits, support, answered = table[index, index], table[index].sum(), table[:, index].sum()
    precision, recall = hits / max(answered, 1), hits / max(support, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {
        "precision": _round(precision),
        "recall": _round(recall),
        "f1": _round(f1),
        "support": int(support),
    }


def _round(value: Any) -> float:
    return round(float(value), 4)
