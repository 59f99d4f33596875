"""Temperature scaling (Guo et al. 2017), and the probability under which an answer is uncertain.

Both are fitted on validation parts: docs/adr/0011-calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics import calibration_error

FOLDS = 5
LOW, HIGH = 0.25, 5.0
PRECISION = 0.90
MOST_UNCERTAIN = 0.70
FALLBACK = 0.5
"""Below it a calibrated answer is more often wrong than right."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one head, and how it does on images that it was not fitted on.

    Attributes:
        temperature: of its softmax.
        uncertain_below: a top probability.
        ece: expected calibration error of each fold at the temperature of the others.
        uncertain_share: of each fold at the threshold of the others.
        certain_accuracy: of what remains; None where nothing does.
    """

    temperature: float
    uncertain_below: float
    ece: float
    uncertain_share: float
    certain_accuracy: float | None


def fit(
    logits: NDArray[np.float32], labels: NDArray[np.int64], folds: NDArray[np.int64]
) -> Calibration:
    """Fit temperature and threshold on all images; cross-fit them over folds for the figures.

    Args:
        logits: (N, K).
        labels: (N,).
        folds: (N,), the number of each image's fold.
    """
    crossed = np.empty(logits.shape)
    certain = np.empty(len(labels), bool)
    for fold in np.unique(folds):
        held = folds == fold
        chosen, threshold = _fitted(logits[~held], labels[~held])
        crossed[held] = softmax(logits[held], chosen)
        certain[held] = crossed[held].max(axis=1) >= threshold
    right = crossed.argmax(axis=1) == labels
    return Calibration(
        *_fitted(logits, labels),
        ece=calibration_error(crossed, labels),
        uncertain_share=float(1 - certain.mean()),
        certain_accuracy=float(right[certain].mean()) if certain.any() else None,
    )


def _fitted(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    chosen = temperature(logits, labels)
    return chosen, uncertain_below(softmax(logits, chosen), labels)


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 (N, K), of logits (N, K) divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def nll(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> float:
    """Mean negative log-likelihood of the labels (N,) at a temperature."""
    chosen = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature of least NLL, between 0.25 and 5."""
    found = minimum(lambda x: nll(logits, labels, math.exp(x)), math.log(LOW), math.log(HIGH))
    return round(math.exp(found), 4)


def minimum(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-4) -> float:
    """Where a function with one valley is least, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    f_left, f_right = f(left), f(right)
    while high - low > tolerance:
        if f_left < f_right:
            high, right, f_right = right, left, f_left
            left = high - ratio * (high - low)
            f_left = f(left)
        else:
            low, left, f_left = left, right, f_right
            right = low + ratio * (high - low)
            f_right = f(right)
    return (low + high) / 2


def uncertain_below(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    precision: float = PRECISION,
    most: float = MOST_UNCERTAIN,
) -> float:
    """The least threshold at which the answers that remain are right often enough.

    Args:
        probabilities: (N, K), calibrated.
        labels: (N,).
        precision: share of the remaining answers that must be right.
        most: the largest share that may be called uncertain.

    Returns:
        A probability, in steps of 0.01; 0 where all answers are precise enough together, and
        `FALLBACK` where the precision is out of reach.
    """
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    for threshold in np.arange(0, 100) / 100:
        kept = top >= threshold
        if kept.mean() < 1 - most:
            break
        if right[kept].mean() >= precision:
            return float(threshold)
    return FALLBACK
