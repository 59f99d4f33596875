from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.types import EMOTIONS
from tests.unit.training.makers import mini_recipe, write_fer2013, write_votes
from training import distill
from training.batches import whole_crops
from training.datasets import load_parts
from training.publish import publish
from training.recipe import Distillation
from training.train import Run, predict

# Keras 3.15 reads TensorFlow's weights by an `__array__` that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_targets_move_towards_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(seed % 7, seed, "Training") for seed in range(40)] + [(1, 99, "PublicTest")]
    path = write_fer2013(tmp_path, rows)
    not_a_face, plain = "0,0,0,0,0,0,0,0,0,10", "10,0,0,0,0,0,0,0,0,0"
    write_votes(tmp_path, [not_a_face if seed == 3 else plain for seed in range(41)])
    datasets = {"fer2013": load_parts("fer2013", path)}
    recipe = mini_recipe(epochs=1)
    run = Run(recipe, datasets, tmp_path / "run")
    run.train()
    folder = publish(run, tmp_path / "models")
    monkeypatch.setattr(distill, "load_recipe", lambda name: recipe)

    before = datasets["fer2013"]["train"].targets["emotion"]
    held = datasets["fer2013"]["tune"].targets["emotion"]
    plan = Distillation(teachers=(recipe.name,), share=0.25)
    distill.distil(datasets, plan, tmp_path / "models")

    samples = datasets["fer2013"]["train"]
    answers = predict(distill.open_teacher(folder), whole_crops(samples, recipe.input))["emotion"]
    labelled = before.any(axis=1)
    assert 0 < np.count_nonzero(~labelled) <= 1
    expected = np.where(labelled[:, None], 0.75 * before + 0.25 * answers, 0)
    np.testing.assert_allclose(samples.targets["emotion"], expected, atol=1e-6)
    assert samples.targets["emotion"].shape == (len(samples), len(EMOTIONS))
    assert datasets["fer2013"]["tune"].targets["emotion"] is held
