from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.unit.training.makers import (
    fusion_recipe,
    joint_recipe,
    mien_recipe,
    tiny_recipe,
    write_faces,
    write_fer2013,
)
from training import networks
from training.datasets import Part, Samples, load_parts
from training.recipe import FOLDER, Recipe, load_recipe
from training.train import Run, predict

TRAINED = sorted(path.stem for path in FOLDER.rglob("*.toml") if path.stem != "ensemble_emotion")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Part, Samples]]:
    place = tmp_path_factory.mktemp("data")
    rows = [(seed % 7, seed, "Training") for seed in range(70)]
    rows += [(seed % 7, seed, "PublicTest") for seed in range(90, 99)]
    names = {f"{s * 3}_{s % 2}_0_201701161745251{s:02}.png": s for s in range(48)}
    return {
        "fer2013": load_parts("fer2013", write_fer2013(place, rows)),
        "utkface": load_parts("utkface", write_faces(place / "utk", names)),
    }


def kinds(model: Any, kind: str) -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


@pytest.mark.parametrize(
    ("name", "parameters", "convolutions"),
    [
        # "Approximately 600,000", nine convolutions: mini_xception.txt, section VII.
        ("sequential_fcn_emotion", 629_591, 9),
        ("sequential_fcn_gender", 618_066, 9),
        ("four_layer_emotion", 1_441_191, 4),
        ("joint_cnn", 624_920, 8),
        ("sequential_cnn_emotion", 1_292_935, 4),
    ],
)
def test_sizes(name: str, parameters: int, convolutions: int) -> None:
    model = networks.build(load_recipe(name))
    assert model.count_params() == parameters
    assert len(kinds(model, "Conv2D")) == convolutions
    summary = load_recipe(name).summary
    assert "parameters" not in summary or f"{parameters:,} parameters" in summary


@pytest.mark.parametrize("name", TRAINED)
def test_every_recipe_gives_logits_for_its_labels_and_fits_in_8_mb(name: str) -> None:
    recipe = load_recipe(name)
    model = networks.build(recipe)
    spec = recipe.input
    outputs = model(np.zeros((2, spec.size, spec.size, spec.channels), np.uint8))
    assert {head: tuple(values.shape) for head, values in outputs.items()} == {
        head: (2, len(labels)) for head, labels in recipe.labels.items()
    }
    assert model.count_params() < 1_900_000


def test_the_fully_convolutional_network_has_no_dense_layer() -> None:
    assert not kinds(networks.build(load_recipe("sequential_fcn_emotion")), "Dense")


@pytest.mark.parametrize(
    ("name", "convolutions", "dense", "normalised"),
    [
        ("joint_cnn_whole", 8, 4, 10),
        ("joint_cnn_no_dense", 8, 2, 8),
        ("joint_cnn_fewer_conv", 4, 4, 6),
        ("joint_cnn_no_batch_norm", 8, 4, 0),
    ],
)
def test_joint_ablations_take_one_thing_away(
    name: str, convolutions: int, dense: int, normalised: int
) -> None:
    recipe, whole = load_recipe(name), load_recipe("joint_cnn_whole")
    model = networks.build(recipe)
    counted = [len(kinds(model, kind)) for kind in ("Conv2D", "Dense", "BatchNormalization")]
    assert counted == [convolutions, dense, normalised]
    assert recipe.training == whole.training
    assert (recipe.input, recipe.labels, recipe.mirror) == (whole.input, whole.labels, whole.mirror)


@pytest.mark.parametrize(
    ("name", "served"),
    [("joint_cnn_whole", "joint_cnn"), ("guided_fusion_two_guides", "guided_fusion")],
)
def test_what_ablations_are_compared_with_is_what_is_served_for_fewer_epochs(
    name: str, served: str
) -> None:
    recipe, whole = load_recipe(name), load_recipe(served)
    shorter = whole.training.model_copy(update={"epochs": recipe.training.epochs})
    assert recipe.training == shorter
    assert recipe.network_options == whole.network_options
    assert (recipe.input, recipe.labels, recipe.mirror) == (whole.input, whole.labels, whole.mirror)


@pytest.mark.parametrize("variant", ["none", "fusion", "one_guide"])
def test_fusion_variants_are_trained_alike(variant: str) -> None:
    recipe, whole = load_recipe(f"guided_fusion_{variant}"), load_recipe("guided_fusion_two_guides")
    assert recipe.network_options == whole.network_options | {"variant": variant}
    assert (recipe.training, recipe.input, recipe.labels, recipe.mirror) == (
        (whole.training, whole.input, whole.labels, whole.mirror)
    )


@pytest.mark.parametrize(
    "recipe",
    [
        tiny_recipe("sequential_fcn"),
        tiny_recipe("four_layer"),
        tiny_recipe("sequential_cnn"),
        tiny_recipe("vgg"),
        joint_recipe(),
        mien_recipe(),
        fusion_recipe(),
    ],
    ids=lambda recipe: recipe.network,
)
def test_every_family_trains(
    recipe: Recipe, datasets: dict[str, dict[Part, Samples]], tmp_path: Path
) -> None:
    wanted = {name: datasets[name] for name in recipe.training.per_batch}
    run = Run(recipe, wanted, tmp_path)
    before = run.model.get_weights()
    model = run.train()
    assert np.isfinite(run.epochs[0]["loss"])
    after = run.model.get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    shape = (3, recipe.input.size, recipe.input.size, recipe.input.channels)
    crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for head, values in predict(model, crops).items():
        assert values.shape == (3, len(recipe.labels[head]))
        assert np.isfinite(values).all()


def test_the_joint_network_is_not_taught_faces_without_its_labels(
    datasets: dict[str, dict[Part, Samples]], tmp_path: Path
) -> None:
    run = Run(joint_recipe(), datasets, tmp_path)
    assert isinstance(run.model.optimizer, keras.optimizers.SGD)
    assert run.model.optimizer.momentum == 0.9
    assert run.tune["fer2013"].labels["emotion"].max() < 6
    assert run.splits["fer2013"]["train"]["samples"] == len(datasets["fer2013"]["train"])
