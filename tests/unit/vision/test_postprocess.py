from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.card import HeadSpec
from service.errors import InferenceError
from service.types import AGE_BANDS, EMOTIONS
from service.vision.postprocess import to_prediction


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_names_the_most_probable_label() -> None:
    prediction = to_prediction(values(0.1, 0.6, 0.2, 0.1), HeadSpec(labels=AGE_BANDS))
    assert prediction.label == "19-30"
    assert prediction.probability == pytest.approx(0.6)
    assert not prediction.uncertain
    assert tuple(prediction.probabilities) == AGE_BANDS
    assert prediction.probabilities["19-30"] == prediction.probability


@given(st.lists(st.floats(0, 1, width=32), min_size=7, max_size=7).filter(lambda v: sum(v) > 0.1))
def test_probabilities_are_complete_and_sum_to_one(numbers: list[float]) -> None:
    raw = values(*numbers)
    prediction = to_prediction(raw / raw.sum(), HeadSpec(labels=EMOTIONS))
    assert list(prediction.probabilities) == list(EMOTIONS)
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert prediction.probability == max(prediction.probabilities.values())
    json.dumps(dict(prediction.probabilities))


def test_uncertain_lies_below_the_threshold_not_at_it() -> None:
    spec = HeadSpec(labels=("a", "b"), uncertain_below=0.75)
    assert to_prediction(values(0.74, 0.26), spec).uncertain
    assert not to_prediction(values(0.75, 0.25), spec).uncertain


def test_of_equals_the_first_wins() -> None:
    assert to_prediction(values(0.5, 0.5), HeadSpec(labels=("a", "b"))).label == "a"


def test_rounding_is_forgiven() -> None:
    prediction = to_prediction(values(0.5004, 0.5), HeadSpec(labels=("a", "b")))
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    "numbers",
    [
        (np.nan, 0.5),
        (np.inf, 0.0),
        (np.inf, -np.inf),
        (1.5, -0.5),
        (0.0, 0.0),
        (0.5, 0.6),
        (2.1, -3.0),
    ],
)
def test_what_is_no_distribution_is_never_shown(numbers: tuple[float, float]) -> None:
    with pytest.raises(InferenceError, match="not probabilities"):
        to_prediction(values(*numbers), HeadSpec(labels=("a", "b")))
