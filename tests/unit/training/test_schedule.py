from __future__ import annotations

import pytest

from training.recipe import Training
from training.schedule import learning_rate


def plan(epochs: int) -> Training:
    return Training(epochs=epochs, per_batch={"a": 1}, learning_rate=1.0, fall_share=0.5)


def test_warm_up_hold_and_fall() -> None:
    rates = [learning_rate(step, 10, plan(10)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[75] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_hold_does_not_depend_on_the_number_of_epochs() -> None:
    short, long = ([learning_rate(s, 10, plan(n)) for s in range(50)] for n in (10, 40))
    assert short == long
