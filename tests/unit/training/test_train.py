from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.unit.training.makers import fusion_recipe, mini_recipe, write_fer2013
from training import networks
from training.datasets import Part, Samples, load_parts
from training.errors import WorkError
from training.publish import KERAS_FILE, publish
from training.recipe import FOLDER, Recipe, load_recipe
from training.train import Run

Datasets = dict[str, dict[Part, Samples]]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    rows = [(seed % 7, seed, "Training") for seed in range(50)]
    rows += [(seed % 7, seed, "PublicTest") for seed in range(90, 99)]
    return {"fer2013": load_parts("fer2013", write_fer2013(tmp_path_factory.mktemp("fer"), rows))}


def weights(recipe: Recipe, datasets: Datasets, folder: Path) -> list[np.ndarray]:
    return Run(recipe, datasets, folder).train().get_weights()


def lasting(recipe: Recipe, epochs: int) -> Recipe:
    training = recipe.training.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"training": training})


def test_a_stopped_run_ends_as_one_that_never_stopped(datasets: Datasets, tmp_path: Path) -> None:
    # The rate holds through the first epoch whether two or four are planned.
    recipe = mini_recipe(epochs=2, warmup_epochs=0.0, fall_share=0.5)
    through = weights(recipe, datasets, tmp_path / "through")
    Run(
        mini_recipe(epochs=1, warmup_epochs=0.0, fall_share=1e-9), datasets, tmp_path / "cut"
    ).train()
    resumed = weights(recipe, datasets, tmp_path / "cut")
    for a, b in zip(through, resumed, strict=True):
        np.testing.assert_array_equal(a, b)
    history = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert history["splits"]["fer2013"]["train"]["samples"] > 40
    assert 0 <= history["epochs"][1]["tune"]["fer2013/emotion"]["accuracy"] <= 1
    assert (tmp_path / "cut" / "history.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_new_run_may_begin_with_what_is_published(datasets: Datasets, tmp_path: Path) -> None:
    recipe = mini_recipe(epochs=1).model_copy(update={"mirror": True})
    first = Run(recipe, datasets, tmp_path / "first")
    first.train()
    file = publish(first, tmp_path / "models") / KERAS_FILE
    second = Run(recipe, datasets, tmp_path / "second", start=file)
    assert second.epochs == []
    for a, b in zip(first.averaged().get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    second.train()
    trained = second.model.get_weights()
    again = Run(recipe, datasets, tmp_path / "second", start=file)
    for a, b in zip(trained, again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b, "a run that has begun goes on from its checkpoint")
    other = recipe.model_copy(update={"network_options": {}})
    with pytest.raises(WorkError, match=f"is not of {recipe.name}'s network"):
        Run(other, datasets, tmp_path / "other", start=file)


def test_another_seed_is_another_result(datasets: Datasets, tmp_path: Path) -> None:
    recipe = mini_recipe(epochs=1)
    first = Run(recipe, datasets, tmp_path / "a", seed=1).train().get_weights()
    second = Run(recipe, datasets, tmp_path / "b", seed=2).train().get_weights()
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_mini_xception_is_the_published_size() -> None:
    model = networks.build(load_recipe("mini_xception_emotion"))
    assert model.count_params() == 58_423


@pytest.mark.parametrize("variant", ["none", "fusion", "one_guide", "two_guides"])
def test_fusion_variants(variant: str) -> None:
    model = networks.build(fusion_recipe(variant))
    outputs = model(np.zeros((2, 48, 48, 1), np.uint8))
    assert {head: tuple(value.shape) for head, value in outputs.items()} == {
        "emotion": (2, 7),
        "gender": (2, 2),
        "age": (2, 4),
    }
    gates = [layer for layer in model.layers if isinstance(layer, keras.layers.Multiply)]
    assert len(gates) == {"one_guide": 1, "two_guides": 2}.get(variant, 0)
    dense = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert len(dense) == 2 + 6 + 4


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.rglob("*.toml")))
def test_recipes_hold_together(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert any("Art. 5(1)(f)" in text for text in recipe.limits) == ("emotion" in recipe.labels)
