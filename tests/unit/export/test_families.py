"""Every family from a run's weights to a served folder; tiny networks, untrained."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from export.convert import convert
from export.foreign.folder import adopt, open_source
from export.foreign.wish import Wish
from export.readme import write_readme
from export.verify import noise, verify
from service.card import ModelCard
from service.types import EMOTIONS
from tests.unit.training.makers import (
    ensemble_recipe,
    joint_recipe,
    mien_recipe,
    mini_recipe,
    tiny_recipe,
    write_faces,
    write_fer2013,
)
from training import ensemble
from training.datasets import Part, Samples, load_parts
from training.ensemble import Ensemble
from training.evaluate import open_session, run
from training.publish import load_keras, publish
from training.recipe import Recipe
from training.train import Run, predict

# TensorFlow's tensors do not yet know NumPy 2's copy argument; Keras asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CROPS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), np.uint8)
Datasets = dict[str, dict[Part, Samples]]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    place = tmp_path_factory.mktemp("data")
    rows = [(s % 7, s, "Training") for s in range(60)]
    rows += [(s % 7, 90 + s, "PublicTest") for s in range(8)]
    names = {f"{s * 3}_{s % 2}_0_201701161745251{s:02}.png": s for s in range(48)}
    return {
        "fer2013": load_parts("fer2013", write_fer2013(place, rows)),
        "utkface": load_parts("utkface", write_faces(place / "utk", names)),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def published(recipe: Recipe, datasets: Datasets, models: Path) -> Path:
    wanted = {name: datasets[name] for name in recipe.training.per_batch}
    folder = publish(Run(recipe, wanted, models / "runs" / recipe.name), models)
    convert(recipe, folder)
    return folder


def verified(recipe: Recipe, folder: Path, datasets: Datasets) -> ModelCard:
    """The card, once parity holds on noise and on faces; every family can be explained."""
    parts = {name: datasets[name]["validation"] for name in recipe.training.per_batch}
    card = verify(recipe, folder, parts)
    assert card.explain_sha256 is not None
    write_readme(card, recipe, folder)
    outputs = run(open_session(folder / "model.onnx"), noise(recipe.input, 5))
    for head, spec in card.heads.items():
        assert outputs[head].shape == (5, len(spec.labels))
        np.testing.assert_allclose(outputs[head].sum(axis=1), 1, atol=1e-5)
    return card


@pytest.mark.parametrize(
    "recipe",
    [
        tiny_recipe("sequential_fcn", mirror=True),
        tiny_recipe("four_layer", name="tiny_four", mirror=True),
        tiny_recipe("vgg", mirror=True),
        mien_recipe(),
    ],
    ids=lambda recipe: recipe.network,
)
def test_families(recipe: Recipe, datasets: Datasets, models: Path) -> None:
    verified(recipe, published(recipe, datasets, models), datasets)


def test_the_joint_network_has_a_card_of_six_emotions(datasets: Datasets, models: Path) -> None:
    recipe = joint_recipe()
    card = verified(recipe, published(recipe, datasets, models), datasets)
    assert card.heads["emotion"].labels == EMOTIONS[:6]
    # Of the eight faces one is neutral: it is compared with nothing.
    faces = 7 + len(datasets["utkface"]["validation"])
    assert card.parity.samples == 1 + 2 + 32 + faces
    assert "at most 1 epochs" in (models / recipe.name / "README.md").read_text()


def test_the_ensembles_graph_is_the_mean_of_its_members(
    datasets: Datasets, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {recipe.name: recipe for recipe in (mini_recipe(), tiny_recipe("four_layer"))}
    monkeypatch.setattr(ensemble, "load_recipe", members.__getitem__)
    answers = [
        run(open_session(published(recipe, datasets, models) / "model.onnx"), CROPS)["emotion"]
        for recipe in members.values()
    ]
    recipe = ensemble_recipe(*members.values())
    folder = publish(Ensemble(recipe, {"fer2013": datasets["fer2013"]}, models), models)
    convert(recipe, folder)
    card = verified(recipe, folder, datasets)

    powers = np.mean(answers, axis=0) ** (1 / card.heads["emotion"].temperature)
    expected = powers / powers.sum(axis=1, keepdims=True)
    session = open_session(folder / "model.onnx")
    np.testing.assert_allclose(run(session, CROPS)["emotion"], expected, atol=1e-5)
    counts = [load_keras(models / name / "model.keras").count_params() for name in members]
    assert card.parameters == sum(counts)
    assert len(onnx.load(folder / "model.onnx").graph.output) == 1
    text = (folder / "README.md").read_text()
    assert f"the mean of {' and '.join(members)}" in text
    assert "training train" not in text


def test_the_sequential_cnn_is_saved_as_json_and_hdf5(datasets: Datasets, models: Path) -> None:
    recipe = tiny_recipe("sequential_cnn")
    folder = published(recipe, datasets, models)
    verified(recipe, folder, datasets)
    expected = predict(load_keras(folder / "model.keras"), CROPS)["emotion"]

    chain = keras.models.model_from_json((folder / "model.json").read_text())
    assert isinstance(chain, keras.Sequential)
    chain.load_weights(folder / "model.weights.h5")
    np.testing.assert_allclose(chain.predict_on_batch(CROPS), expected, atol=1e-6)

    # As `export convert --from model.json --weights model.weights.h5` does.
    wish = Wish.model_validate(
        {
            "name": "from_parts",
            "source": "tests",
            "licence": "none",
            "labels": {"emotion": EMOTIONS},
            "input": {"color": "gray", "scaling": "0..255", "framing": {}},
        }
    )
    adopt(open_source(folder / "model.json", folder / "model.weights.h5"), wish, models, {})
    session = open_session(models / "from_parts" / "model.onnx")
    np.testing.assert_allclose(run(session, CROPS)["emotion"], expected, atol=1e-5)
