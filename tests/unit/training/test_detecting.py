from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from service.settings import Settings
from tests.detectors import stub_detector
from tests.fakes import FakeDetector
from tests.unit.training.detection.makers import TOML, tiny_parts, tiny_scenes, write_parts
from tests.unit.training.makers import write_faces
from tests.yunet import stub_yunet
from training.__main__ import app
from training.detection.scenes import Scene


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "mine.zip", tiny_parts())


def train(scenes: Path, *words: str, toml: str = TOML) -> Result:
    recipe = scenes.parent / "tiny.toml"
    recipe.write_text(toml)
    out = ["--recipe", str(recipe), "--out", str(scenes.parent / "runs")]
    return CliRunner().invoke(app, ["train-detector", str(scenes), *out, *words])


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # TensorFlow takes its number of threads before its first operation only.
    monkeypatch.setattr("training.accelerate.set_threads", lambda threads: None)


@pytest.mark.filterwarnings("ignore:__array__")  # Keras 3 writing files under NumPy 2.
def test_the_command_trains_and_goes_on(scenes: Path) -> None:
    history = scenes.parent / "runs" / "tiny" / "history.json"
    done = train(scenes)
    assert done.exit_code == 0, done.output
    assert (history.parent / "model.keras").exists()
    assert train(scenes, "--epochs", "2").exit_code == 0
    assert len(json.loads(history.read_text())["epochs"]) == 2
    for other, words, fault in [
        (scenes, ["--seed", "3"], "seed 0, not 3"),
        (write_parts(scenes.parent / "other.zip", _less()), [], "another train part"),
    ]:
        refused = train(other, "--epochs", "3", *words)
        assert (refused.exit_code, fault in refused.output) == (1, True)
    assert len(json.loads(history.read_text())["epochs"]) == 2


def _less() -> dict[str, list[Scene]]:
    whole = tiny_parts()
    return {**whole, "train": whole["train"][1:]}


def test_a_set_without_a_part_is_refused(scenes: Path) -> None:
    one = write_parts(scenes.parent / "one.zip", {"train": tiny_scenes(1)})
    done = train(one)
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "the tune part is empty: 1 scenes in 1 groups" in done.output


def test_no_epochs_are_no_training(scenes: Path) -> None:
    assert train(scenes, "--epochs", "0").exit_code == 2


def test_faces_that_the_detector_does_not_find_are_told(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasting = TOML.replace("detection = 4", "detection = 3, crops = 1")
    faces = write_faces(scenes.parent / "faces", {f"{n:05}A{n}.jpg": n for n in range(20, 40)})
    monkeypatch.setattr(
        "training.detecting.open_peers", lambda yunet, haar: {"yunet": FakeDetector()}
    )
    given = ["--all-age-faces", str(faces), "--yunet", "yunet.onnx"]
    done = train(scenes, *given, toml=pasting)
    assert done.exit_code == 1
    assert "no face to paste in" in done.output


def evaluate(scenes: Path, *words: str) -> Result:
    models = ["--models", str(scenes.parent), "--no-haar"]
    return CliRunner().invoke(app, ["evaluate", "detector", str(scenes), *models, *words])


def test_peers_are_measured_beside_ours_and_nothing_is_written(scenes: Path) -> None:
    folder = stub_detector(scenes.parent)
    (folder / "evaluation.json").write_text("of the whole set")
    yunet = ["--yunet", str(stub_yunet(scenes.parent / "yunet.onnx"))]
    done = evaluate(scenes, *yunet, "--max-side", "64", "--tiles", "2")
    assert done.exit_code == 0, done.output
    assert re.findall(r"^\| (\w.*?) \|", done.output, re.M) == [
        "detector",
        "detector",
        "detector, nothing enlarged",
        "detector, 64 px",
        "detector, 2 tiles",
        "yunet",
        "yunet, enlarged",
    ]
    assert (folder / "evaluation.json").read_text() == "of the whole set"


def test_a_part_is_enough_to_measure_on(scenes: Path) -> None:
    stub_detector(scenes.parent)
    alone = write_parts(scenes.parent / "alone.zip", {"validation": tiny_scenes(2)})
    assert evaluate(alone).exit_code == 0
    few = evaluate(alone, "--mosaic", "40")
    assert (few.exit_code, "1600 scenes cannot be made of 2" in few.output) == (1, True)
    none = evaluate(write_parts(scenes.parent / "none.zip", {"train": tiny_scenes(2)}))
    assert (none.exit_code, "the validation part is empty" in none.output) == (1, True)


@pytest.mark.parametrize(
    ("option", "setting"),
    [("--max-side", "detector_max_side"), ("--tiles", "detector_tiles")],
)
def test_bounds_are_those_of_the_settings(scenes: Path, option: str, setting: str) -> None:
    field = Settings.model_json_schema()["properties"][setting]
    bounds = field.get("anyOf", [field])[0]
    for value in (bounds["minimum"] - 1, bounds["maximum"] + 1):
        assert evaluate(scenes, option, str(value)).exit_code == 2


def test_a_detector_is_measured_on_scenes() -> None:
    done = CliRunner().invoke(app, ["evaluate", "detector"])
    assert done.exit_code == 2
    assert "SCENES" in done.output
