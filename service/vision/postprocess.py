"""Raw probabilities of one face -> Prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.card import HeadSpec
from service.errors import InferenceError
from service.types import Prediction


def to_prediction(probabilities: NDArray[np.float32], spec: HeadSpec) -> Prediction:
    """Name the probabilities of one head.

    Args:
        probabilities: float32 (K,), as the graph gives them: calibrated, sum 1 up to rounding.
        spec: the head's labels and its threshold for `uncertain`.

    Raises:
        InferenceError: the graph gave numbers that are no distribution.
    """
    # Plain numbers: NumPy's calls cost ten times as much on an array of seven.
    raw: list[float] = np.asarray(probabilities, np.float64).tolist()
    total = sum(raw)
    # Asked so that a sum that is no number does not pass.
    if not abs(total - 1) <= 1e-3 or min(raw) < 0:
        raise InferenceError("the model gave numbers that are not probabilities")
    values = [value / total for value in raw]
    top = max(range(len(values)), key=values.__getitem__)
    return Prediction(
        label=spec.labels[top],
        probability=values[top],
        uncertain=values[top] < spec.uncertain_below,
        probabilities=dict(zip(spec.labels, values, strict=True)),
    )
