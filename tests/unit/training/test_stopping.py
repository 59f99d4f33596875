from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.training.makers import mini_recipe, write_fer2013
from training.datasets import Part, Samples, load_parts
from training.recipe import Recipe
from training.stopping import best_epoch, is_over, tune_loss
from training.train import Run

Datasets = dict[str, dict[Part, Samples]]


def epoch(*losses: float) -> dict[str, Any]:
    return {"tune": {str(number): {"nll": loss} for number, loss in enumerate(losses)}}


def test_the_loss_is_that_of_all_sets_and_heads() -> None:
    assert tune_loss(epoch(1.0, 0.25)) == 1.25


def test_the_first_of_equals_is_the_best() -> None:
    assert best_epoch([]) == 0
    assert best_epoch([epoch(2.0), epoch(1.0), epoch(1.0)]) == 2


def test_it_is_over_when_patience_has_run_out() -> None:
    epochs = [epoch(2.0), epoch(1.0), epoch(1.5), epoch(1.2)]
    assert not is_over([], 1)
    assert not is_over(epochs, 3)
    assert is_over(epochs, 2)
    assert not is_over(epochs, None)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    rows = [(seed % 7, seed, "Training") for seed in range(30)]
    return {"fer2013": load_parts("fer2013", write_fer2013(tmp_path_factory.mktemp("fer"), rows))}


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """Of one epoch after another, whatever the network learns."""
    told = iter([2.0, 1.0, 1.5, 1.2, 0.1])
    monkeypatch.setattr(
        Run, "_measure", lambda self: {"x/emotion": {"accuracy": 0.5, "nll": next(told)}}
    )
    return told


def weights(run: Run) -> list[np.ndarray]:
    return list(run.averaged().get_weights())


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def stopping(epochs: int) -> Recipe:
    return mini_recipe(epochs, patience=2, optimizer="sgd", warmup_epochs=0.0, fall_share=1e-9)


@pytest.mark.usefixtures("losses")
def test_a_run_keeps_its_best_epoch_and_stops(datasets: Datasets, tmp_path: Path) -> None:
    run = Run(stopping(2), datasets, tmp_path)
    run.train()
    best = weights(run)
    assert run.kept_epoch == 2

    # Taken up from its checkpoint, it knows the best weights, gets worse twice and stops.
    longer = Run(stopping(9), datasets, tmp_path)
    assert same(weights(longer), best)
    longer.train()
    assert len(longer.epochs) == 4
    assert longer.kept_epoch == longer.facts["epochs"] == 2
    assert same(weights(longer), best)
    assert not same(list(longer.average.weights or ()), best)

    again = Run(stopping(9), datasets, tmp_path)
    again.train()
    assert len(again.epochs) == 4
    assert same(weights(again), best)


@pytest.mark.usefixtures("losses")
def test_without_patience_the_last_epoch_is_kept(datasets: Datasets, tmp_path: Path) -> None:
    recipe = mini_recipe(3, optimizer="sgd")
    run = Run(recipe, datasets, tmp_path)
    run.train()
    assert run.kept_epoch == 3
    assert same(weights(run), list(run.average.weights or ()))
    with np.load(tmp_path / "checkpoint.npz") as saved:
        assert not [name for name in saved.files if name.startswith("best")]
