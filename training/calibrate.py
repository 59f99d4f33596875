"""Temperature scaling (Guo et al. 2017), and the probability under which an answer is uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 0.25, 5.0
PRECISION = 0.90
MOST_UNCERTAIN = 0.60
FALLBACK = 0.5
"""Below it a calibrated answer is more often wrong than right."""


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
