from __future__ import annotations

import numpy as np
import pytest

from training.loss import MaskedCrossentropy


def test_mean_over_labelled_rows_alone() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4)).astype(np.float32)
    targets = rng.dirichlet(np.ones(4), 6).astype(np.float32)
    targets[[1, 4]] = 0
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = [0, 2, 3, 5]
    expected = -(targets * logs).sum(axis=1)[rows].mean()
    assert float(MaskedCrossentropy()(targets, logits)) == pytest.approx(expected, rel=1e-5)


def test_nothing_labelled_costs_nothing() -> None:
    zeros = np.zeros((3, 2), np.float32)
    assert float(MaskedCrossentropy()(zeros, zeros + 1)) == 0
