from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.assignment import assign

COSTS = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-9, 9) | st.just(1e6))
)


def cheapest(costs: np.ndarray) -> float:
    """By trying all."""
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    ways = permutations(range(costs.shape[1]), costs.shape[0])
    return min(float(sum(costs[pair] for pair in enumerate(way))) for way in ways)


@given(COSTS)
def test_it_is_the_cheapest_of_all(costs: np.ndarray) -> None:
    pairs = assign(costs)
    assert len(pairs) == min(costs.shape)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert pairs == sorted(pairs)
    np.testing.assert_allclose(sum(costs[pair] for pair in pairs), cheapest(costs), atol=1e-6)


def test_a_crowd_takes_no_time() -> None:
    costs = np.random.default_rng(0).random((100, 256))
    pairs = assign(costs)
    assert len({column for _, column in pairs}) == 100
