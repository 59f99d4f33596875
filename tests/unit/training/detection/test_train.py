from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from export.detection.folder import publish
from export.detection.graph import convert, parity
from service.card import load_detector_card
from service.runtime.detector import MienDetector
from service.runtime.session import SessionOptions
from service.vision.cells import grid
from tests.detectors import stub_detector
from tests.unit.training.makers import face
from tests.yunet import stub_yunet
from training.__main__ import app
from training.datasets import Part
from training.detection.augment import Augment
from training.detection.batches import SceneBatches
from training.detection.recipe import FOLDER, DetectorRecipe, load_recipe
from training.detection.scenes import Scene, scene
from training.detection.train import DetectorRun
from training.networks import detector
from training.publish import load_keras
from training.recipe import Training

TINY = {"stem": [8, 8], "widths": [16, 16, 16], "blocks": [0, 0, 0]}


def recipe(epochs: int = 2) -> DetectorRecipe:
    return DetectorRecipe(
        name="tiny",
        version="1.0.0",
        summary="A tiny one.",
        source="test",
        licence="none",
        limits=("for tests",),
        data=(),
        network_options=TINY,
        side=64,
        tune_side=64,
        augment=Augment(mosaic=0.5),
        training=Training(
            epochs=epochs, per_batch={"detection": 4}, warmup_epochs=0.0, fall_share=0.5
        ),
    )


def scenes(count: int) -> list[Scene]:
    made = []
    for seed in range(count):
        pixels = cv2.cvtColor(face(seed, 64), cv2.COLOR_GRAY2BGR)
        cv2.circle(pixels, (32, 32), 14, (40, 120, 240), -1)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        made.append(scene(f"{seed}.png", data, [[18, 18, 28, 28]] if seed % 4 else []))
    return made


@pytest.fixture(scope="module")
def parts() -> dict[Part, list[Scene]]:
    every = scenes(14)
    return {"train": every[:8], "tune": every[8:11], "validation": every[11:]}


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
    first, again, later = (SceneBatches(recipe(), train, (), e, 0)[1] for e in (0, 0, 1))
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

    through = Stopped(recipe(), parts, tmp_path / "through").train()
    resumed = DetectorRun(recipe(), parts, tmp_path / "cut").train()
    for a, b in zip(through.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    history = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2]
    assert history["splits"]["train"]["scenes"] == 8
    assert set(history["epochs"][0]["tune"]["all"]) == {"faces", "ap", "recall"}


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
    path = convert(recipe(), keras_file, tmp_path / "onnx")
    again = convert(recipe(), keras_file, tmp_path / "again")
    assert path.read_bytes() == again.read_bytes()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in [(1, 32, 32, 3), (3, 64, 96, 3)]]
    model = load_keras(keras_file)
    largest = float(np.abs(np.asarray(model(images[1].astype(np.float32)))).max())
    assert largest > 1
    assert parity(keras_file, path, images) < 1e-4 * largest


@pytest.mark.filterwarnings("ignore:__array__")
def test_a_run_becomes_a_served_folder(
    parts: dict[Part, list[Scene]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DetectorRun(recipe(1), parts, tmp_path / "run").train()
    # A network that finds one of its few faces takes minutes; what is judged here is the way.
    monkeypatch.setattr("export.detection.folder.best_threshold", lambda images: 0.25)
    card = publish(recipe(1), tmp_path / "run" / "model.keras", tmp_path, parts, {})
    folder = tmp_path / "tiny"
    assert load_detector_card(folder) == card
    assert card.threshold == 0.25
    assert {m.size_px for m in card.metrics} == {"all", "16-32"}
    assert {m.samples for m in card.metrics} == {2}
    assert (card.times[0].width, card.times[0].threads) == (640, 1)
    assert card.parameters == load_keras(folder / "model.keras").count_params()
    record = json.loads((folder / "evaluation.json").read_text())
    assert record["sha256"] == card.sha256
    assert record["detectors"]["tiny"]["all"]["all"]["faces"] == 2
    text = (folder / "README.md").read_text()
    assert "# tiny@1.0.0" in text
    assert "\n| tiny |" in text
    served = MienDetector(folder, options=SessionOptions(provider="cpu"))
    assert served.detect(np.zeros((50, 40, 3), np.uint8), threshold=None, min_face_px=1) == []


def test_peers_are_measured_beside_ours(
    parts: dict[Part, list[Scene]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_detector(tmp_path)
    monkeypatch.setattr("training.detection.scenes.load", lambda path: [])
    monkeypatch.setattr("training.detection.scenes.parts", lambda scenes: parts)
    words = ["evaluate", "detector", "scenes.zip", "--models", str(tmp_path), "--no-haar"]
    yunet = ["--yunet", str(stub_yunet(tmp_path / "yunet.onnx"))]
    done = CliRunner().invoke(app, [*words, *yunet, "--max-side", "64"])
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (\w.*?) \|", done.output, re.M) == [
        "detector",
        "detector",
        "detector, nothing enlarged",
        "detector, 64 px",
        "yunet",
    ]
    record = json.loads((tmp_path / "detector" / "evaluation.json").read_text())
    assert record["model"] == "detector"
    named = ["detector", "detector, nothing enlarged", "detector, 64 px", "yunet"]
    assert list(record["detectors"]) == named
    # A look at a few of them is no record.
    (tmp_path / "detector" / "evaluation.json").unlink()
    assert CliRunner().invoke(app, [*words, "--limit", "1"]).exit_code == 0
    assert not (tmp_path / "detector" / "evaluation.json").exists()


def test_a_detector_is_measured_on_scenes() -> None:
    done = CliRunner().invoke(app, ["evaluate", "detector"])
    assert done.exit_code == 2
    assert "SCENES" in done.output
