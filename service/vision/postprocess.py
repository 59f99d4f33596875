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
    values = np.asarray(probabilities, np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or abs(values.sum() - 1) > 1e-3:
        raise InferenceError("the model gave numbers that are not probabilities")
    values = values / values.sum()
    top = int(values.argmax())
    return Prediction(
        label=spec.labels[top],
        probability=float(values[top]),
        uncertain=bool(values[top] < spec.uncertain_below),
        probabilities={label: float(p) for label, p in zip(spec.labels, values, strict=True)},
    )
