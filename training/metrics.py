"""Figures of a classifier from its probabilities and the labels; plain numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]

BINS = 15
AVERAGED = ("precision", "recall", "f1")
FIGURES = (
    "accuracy",
    *(f"{average}_{name}" for average in ("macro", "weighted") for name in AVERAGED),
    "ece",
)
"""What `report` says in one number each."""
SLICE_FIGURES = ("samples", "accuracy", "weighted_f1", "ece")


def confusion(
    labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """int64 (K, K): rows are labels, columns are answers."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, answers), 1)
    return table


def reliability(
    probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS
) -> list[dict[str, Any]]:
    """How sure the answers were and how many were right, in bins of equal width that hold any.

    Returns:
        Rows of `samples`, `confidence` and `accuracy`, least sure first.
    """
    top = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((top * bins).astype(np.int64), bins - 1)
    return [
        {
            "samples": int((places == place).sum()),
            "confidence": float(top[places == place].mean()),
            "accuracy": float(right[places == place].mean()),
        }
        for place in np.unique(places)
    ]


def calibration_error(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over `reliability`'s bins."""
    rows = reliability(probabilities, labels, bins)
    gaps = [abs(row["confidence"] - row["accuracy"]) * row["samples"] for row in rows]
    return float(sum(gaps) / len(labels))


def report(
    probabilities: Floats,
    labels: NDArray[np.int64],
    names: Sequence[str],
    uncertain_below: float = 0.0,
) -> dict[str, Any]:
    """Everything that is measured of one head on one set, ready for JSON.

    Averages are over all K classes: `macro` counts each alike, `weighted` by its support. A class
    that is never answered has a precision of 0, one that never comes a recall of 0.

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
    right = answers == labels
    by_class = _by_class(table)
    return {
        "samples": len(labels),
        "accuracy": rounded(right.mean()),
        **_averages(by_class, table.sum(axis=1)),
        "ece": rounded(calibration_error(probabilities, labels)),
        "uncertain_share": rounded(1 - certain.mean()),
        "certain_accuracy": rounded(right[certain].mean()) if certain.any() else None,
        "classes": {
            name: {key: rounded(values[index]) for key, values in by_class.items()}
            | {"support": int(table[index].sum())}
            for index, name in enumerate(names)
        },
        "confusion": table.tolist(),
        "reliability": [
            row | {key: rounded(row[key]) for key in ("confidence", "accuracy")}
            for row in reliability(probabilities, labels)
        ],
    }


def slices(
    probabilities: Floats,
    labels: NDArray[np.int64],
    names: Sequence[str],
    attributes: Mapping[str, NDArray[np.str_]],
) -> dict[str, dict[str, dict[str, float]]]:
    """A few figures for each value of each attribute, str (N,): attribute -> value -> figure."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for attribute, values in attributes.items():
        parts = {value: values == value for value in np.unique(values).tolist()}
        reports = {
            value: report(probabilities[rows], labels[rows], names) for value, rows in parts.items()
        }
        result[attribute] = {
            value: {figure: figures[figure] for figure in SLICE_FIGURES}
            for value, figures in reports.items()
        }
    return result


def over_folds(
    probabilities: Floats,
    labels: NDArray[np.int64],
    names: Sequence[str],
    folds: Sequence[NDArray[np.int64]],
) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation of each of `FIGURES` over folds, given by row numbers."""
    reports = [report(probabilities[rows], labels[rows], names) for rows in folds]
    return {
        figure: {
            "mean": rounded(np.mean([fold[figure] for fold in reports])),
            "deviation": rounded(np.std([fold[figure] for fold in reports], ddof=1)),
        }
        for figure in FIGURES
    }


def _by_class(table: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    hits = table.diagonal().astype(np.float64)
    precision = hits / np.maximum(table.sum(axis=0), 1)
    recall = hits / np.maximum(table.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {"precision": precision, "recall": recall, "f1": f1}


def _averages(
    by_class: Mapping[str, NDArray[np.float64]], support: NDArray[np.int64]
) -> dict[str, float]:
    macro = {f"macro_{name}": rounded(by_class[name].mean()) for name in AVERAGED}
    weighted = {
        f"weighted_{name}": rounded(np.average(by_class[name], weights=support))
        for name in AVERAGED
    }
    return macro | weighted


def rounded(value: Any) -> float:
    """A figure as records hold it: finer than any share of images, since pages round it again."""
    return round(float(value), 8)
