from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.detection.graph import convert, parity
from service.vision.cells import grid
from tests.unit.training.detection.makers import TINY, tiny_parts, tiny_recipe
from training.datasets import Part
from training.detection.batches import SceneBatches
from training.detection.recipe import FOLDER, load_recipe
from training.detection.scenes import Scene, fingerprints
from training.detection.train import AnotherRun, DetectorRun
from training.networks import detector
from training.publish import load_keras


@pytest.fixture(scope="module")
def parts() -> dict[Part, list[Scene]]:
    return tiny_parts()


def test_recipes_hold_together() -> None:
    names = [path.stem for path in FOLDER.glob("*.toml")]
    assert names == ["detector"]
    plan = load_recipe("detector")
    model = detector.build(**plan.network_options)
    assert plan.name == "detector"
    assert model.count_params() == 69_069
    assert model(np.zeros((2, 64, 96, 3), np.float32)).shape == (2, len(grid(96, 64)), 15)


def test_batches_repeat_and_differ_by_epoch(parts: dict[Part, list[Scene]]) -> None:
    train = parts["train"]
    first, again, later = (SceneBatches(tiny_recipe(), train, (), e, 0)[1] for e in (0, 0, 1))
    assert first[0].shape == (4, 64, 64, 3)
    assert first[1].shape == (4, len(grid(64, 64)), 16)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], later[0])


@pytest.mark.filterwarnings("ignore:__array__")  # Keras 3 writing files under NumPy 2.
def test_a_stopped_run_ends_as_one_that_never_stopped(
    parts: dict[Part, list[Scene]], tmp_path: Path
) -> None:
    class Stopped(DetectorRun):
        def _save(self) -> None:
            super()._save()
            if len(self.epochs) == 1:
                shutil.copytree(self.folder, tmp_path / "cut")

    through = Stopped(tiny_recipe(), parts, tmp_path / "through").train()
    resumed = DetectorRun(tiny_recipe(), parts, tmp_path / "cut").train()
    for a, b in zip(through.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    history = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert history["splits"]["train"]["scenes"] == 8
    assert set(history["epochs"][0]["tune"]["all"]) == {"faces", "ap", "recall"}


def test_a_run_goes_on_with_its_own_scenes_and_seed_alone(
    parts: dict[Part, list[Scene]], tmp_path: Path
) -> None:
    history = {"recipe": "tiny", "seed": 0, "splits": fingerprints(parts.items()), "epochs": [{}]}
    (tmp_path / "history.json").write_text(json.dumps(history))
    (tmp_path / "checkpoint.npz").write_bytes(b"not looked at")
    with pytest.raises(AnotherRun, match="seed 0, not 1"):
        DetectorRun(tiny_recipe(), parts, tmp_path, seed=1)
    with pytest.raises(AnotherRun, match="another tune part"):
        DetectorRun(tiny_recipe(), {**parts, "tune": parts["validation"]}, tmp_path)


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    model = detector.build(**TINY)
    rng = np.random.default_rng(0)
    # Untrained, heads say next to nothing: weights and statistics that matter everywhere.
    model.set_weights([np.abs(rng.normal(0.2, 0.3, w.shape)) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.filterwarnings("ignore:__array__")
def test_onnx_is_keras(keras_file: Path, tmp_path: Path) -> None:
    path = convert(tiny_recipe(), keras_file, tmp_path / "onnx")
    again = convert(tiny_recipe(), keras_file, tmp_path / "again")
    assert path.read_bytes() == again.read_bytes()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in [(1, 32, 32, 3), (3, 64, 96, 3)]]
    model = load_keras(keras_file)
    largest = float(np.abs(np.asarray(model(images[1].astype(np.float32)))).max())
    assert largest > 1
    assert parity(keras_file, path, images) < 1e-4 * largest
