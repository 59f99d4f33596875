from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.types import EMOTIONS
from service.vision.crops import crop_face
from tests.unit.training.makers import mini_recipe, write_faces, write_fer2013, write_votes
from training import distill
from training.batches import whole_crops
from training.datasets import load_parts
from training.publish import load_keras, publish
from training.recipe import Distillation
from training.train import Run, predict

# Keras 3.15 reads TensorFlow's weights by an `__array__` that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_targets_move_towards_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(seed % 7, seed, "Training") for seed in range(40)]
    rows += [(seed % 7, seed, "PublicTest") for seed in range(90, 99)]
    path = write_fer2013(tmp_path, rows)
    not_a_face, plain = "0,0,0,0,0,0,0,0,0,10", "10,0,0,0,0,0,0,0,0,0"
    write_votes(tmp_path, [not_a_face if seed == 3 else plain for seed in range(49)])
    datasets = {"fer2013": load_parts("fer2013", path)}
    recipe = mini_recipe(epochs=1)
    run = Run(recipe, datasets, tmp_path / "run")
    run.train()
    folder = publish(run, tmp_path / "models")
    monkeypatch.setattr(distill, "load_recipe", lambda name: recipe)

    before = datasets["fer2013"]["train"].targets["emotion"]
    held = datasets["fer2013"]["tune"].targets["emotion"]
    plan = Distillation(teachers=(recipe.name,), share=0.25)
    distill.distil(datasets, ["emotion"], plan, tmp_path / "models", tmp_path / "answers")

    samples = datasets["fer2013"]["train"]
    teacher = load_keras(folder / "model.keras")
    answers = predict(teacher, whole_crops(samples, recipe.input))["emotion"]
    labelled = before.any(axis=1)
    assert 0 < np.count_nonzero(~labelled) <= 1
    expected = np.where(labelled[:, None], 0.75 * before + 0.25 * answers, 0)
    np.testing.assert_allclose(samples.targets["emotion"], expected, atol=1e-6)
    assert samples.targets["emotion"].shape == (len(samples), len(EMOTIONS))
    assert datasets["fer2013"]["tune"].targets["emotion"] is held


def test_a_teacher_is_asked_once_as_long_as_it_and_the_crops_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(seed % 7, seed, "Training") for seed in range(30)]
    rows += [(seed % 7, seed, "PublicTest") for seed in range(90, 99)]
    path = write_fer2013(tmp_path, rows)
    recipe = mini_recipe(epochs=1)
    run = Run(recipe, {"fer2013": load_parts("fer2013", path)}, tmp_path / "run")
    monkeypatch.setattr(distill, "load_recipe", lambda name: recipe)
    asked = []

    def counted(model: Any, crops: NDArray[np.uint8]) -> dict[str, Any]:
        asked.append(len(crops))
        return predict(model, crops)

    monkeypatch.setattr(distill, "predict", counted)

    def student() -> NDArray[np.float32]:
        datasets = {"fer2013": load_parts("fer2013", path)}
        plan = Distillation(teachers=(recipe.name,), share=1.0)
        distill.distil(datasets, ["emotion"], plan, tmp_path / "models", tmp_path / "answers")
        return datasets["fer2013"]["train"].targets["emotion"]

    publish(run, tmp_path / "models")
    first, second = student(), student()
    assert len(asked) == 1
    np.testing.assert_array_equal(first, second)

    run.train()
    publish(run, tmp_path / "models")
    assert np.abs(student() - first).max() > 1e-4
    assert len(asked) == 2
    assert len(list((tmp_path / "answers").iterdir())) == 2


def test_a_set_without_labels_for_a_head_learns_the_answers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(seed % 7, seed, "Training") for seed in range(40)]
    rows += [(1, seed, "PublicTest") for seed in range(90, 99)]
    recipe = mini_recipe(epochs=1)
    emotions = {"fer2013": load_parts("fer2013", write_fer2013(tmp_path, rows))}
    run = Run(recipe, emotions, tmp_path / "run")
    run.train()
    folder = publish(run, tmp_path / "models")
    monkeypatch.setattr(distill, "load_recipe", lambda name: recipe)

    names = {f"{20 + n}_{n % 2}_0_2017010{n % 10}{n:08}.jpg.png": n for n in range(30)}
    loaded = load_parts("utkface", write_faces(tmp_path / "utkface", names))
    before = loaded["train"]
    for weight in (0.0, 0.4):
        datasets = {"utkface": dict(loaded)}
        plan = Distillation(teachers=(recipe.name,), share=0.5, unlabelled=weight)
        distill.distil(datasets, ["emotion"], plan, tmp_path / "models", tmp_path / "answers")
        targets = datasets["utkface"]["train"].targets
        assert targets["gender"] is before.targets["gender"]
        assert datasets["utkface"]["train"].framing is None
        assert ("emotion" in targets) is (weight > 0)
    crops = np.stack(
        [
            crop_face(image, box, recipe.input)
            for image, box in zip(before.images, before.boxes, strict=True)
        ]
    )
    answers = predict(load_keras(folder / "model.keras"), crops)["emotion"]
    np.testing.assert_allclose(targets["emotion"], 0.4 * answers, atol=1e-6)
    np.testing.assert_allclose(targets["emotion"].sum(axis=1), 0.4, atol=1e-5)
