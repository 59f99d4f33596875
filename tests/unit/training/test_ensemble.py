from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from service.types import EMOTIONS
from tests.unit.training.makers import ensemble_recipe, mini_recipe, tiny_recipe, write_fer2013
from training import calibrate, ensemble
from training.datasets import Part, Samples, load_parts
from training.ensemble import Ensemble, MemberError
from training.publish import publish
from training.recipe import Recipe
from training.train import Run, predict

# TensorFlow's tensors do not yet know NumPy 2's copy argument; Keras asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MEMBERS = (mini_recipe(), tiny_recipe("four_layer"))
Datasets = dict[str, dict[Part, Samples]]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    rows = [(seed % 7, seed, "Training") for seed in range(40)]
    rows += [(seed % 7, seed, "PublicTest") for seed in range(90, 99)]
    return {"fer2013": load_parts("fer2013", write_fer2013(tmp_path_factory.mktemp("fer"), rows))}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, datasets: Datasets) -> Path:
    place = tmp_path_factory.mktemp("models")
    for member in MEMBERS:
        publish(Run(member, datasets, place / "runs" / member.name), place)
    return place


@pytest.fixture(autouse=True)
def recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {member.name: member for member in MEMBERS}
    monkeypatch.setattr(ensemble, "load_recipe", known.__getitem__)


def answers(models: Path, recipe: Recipe, crops: np.ndarray) -> np.ndarray:
    from export.convert import load_keras

    return np.asarray(predict(load_keras(models / recipe.name / "model.keras"), crops)["emotion"])


def test_an_ensemble_is_the_calibrated_mean_of_its_members(
    models: Path, datasets: Datasets
) -> None:
    recipe = ensemble_recipe(*MEMBERS)
    folder = publish(Ensemble(recipe, datasets, models), models)
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), np.uint8)
    mean = np.mean([answers(models, member, crops) for member in MEMBERS], axis=0)

    logits = predict(Ensemble(recipe, datasets, models).averaged(), crops)["emotion"]
    np.testing.assert_allclose(calibrate.softmax(logits), mean, atol=1e-5)

    record = json.loads((folder / "calibration.json").read_text())
    temperature = record["heads"]["emotion"]["temperature"]
    expected = calibrate.softmax(np.log(mean), temperature)
    np.testing.assert_allclose(answers(models, recipe, crops), expected, atol=1e-5)
    name = MEMBERS[0].name
    digest = hashlib.sha256((models / name / "model.keras").read_bytes()).hexdigest()
    assert record["members"][name] == digest
    assert record["splits"]["fer2013"]["tune"]["samples"] == len(datasets["fer2013"]["tune"])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"input": MEMBERS[0].input.model_copy(update={"size": 48})}, "sees"),
        ({"labels": {"emotion": EMOTIONS[:6]}}, "knows"),
    ],
)
def test_a_member_that_does_not_fit(
    models: Path, datasets: Datasets, change: dict[str, object], fault: str
) -> None:
    recipe = ensemble_recipe(*MEMBERS).model_copy(update=change)
    with pytest.raises(MemberError, match=fault):
        Ensemble(recipe, datasets, models).averaged()
