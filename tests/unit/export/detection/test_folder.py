from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.detection.folder import publish
from export.detection.readme import write_readme
from service.card import load_detector_card
from service.runtime.detector import MienDetector
from service.runtime.session import SessionOptions
from tests.fakes import FakeDetector
from tests.unit.training.detection.makers import TINY, TOML, tiny_parts, tiny_recipe, write_parts
from training.detection.measure import NothingFound
from training.detection.recipe import load_recipe
from training.detection.scenes import fingerprints
from training.networks import detector
from training.publish import load_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__")  # Keras 3's files under NumPy 2.


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    detector.build(**TINY).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.fixture
def _any_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    # A network that finds one of its few faces takes minutes; what is judged here is the way.
    monkeypatch.setattr("export.detection.folder.best_threshold", lambda images: 0.25)


@pytest.mark.usefixtures("_any_threshold")
def test_a_run_becomes_a_served_folder(keras_file: Path, tmp_path: Path) -> None:
    parts, models = tiny_parts(), tmp_path / "models"
    peers = {"yunet": FakeDetector()}
    card = publish(tiny_recipe(), keras_file, models, "mine.zip", parts, peers)
    folder = models / "tiny"
    assert [path.name for path in models.iterdir()] == ["tiny"]
    assert load_detector_card(folder) == card
    assert card.threshold == 0.25
    assert {m.size_px for m in card.metrics} == {"all", "16-32"}
    assert {(m.samples, m.data) for m in card.metrics} == {(2, "mine.zip")}
    assert (card.times[0].width, card.times[0].threads) == (640, 1)
    assert card.parameters == load_keras(folder / "model.keras").count_params()
    record = json.loads((folder / "evaluation.json").read_text())
    assert (record["model"], record["sha256"], record["data"]) == ("tiny", card.sha256, "mine.zip")
    assert record["splits"] == fingerprints(parts.items())
    assert record["detectors"]["tiny"]["all"]["all"]["faces"] == 2
    named = ["tiny", "tiny, nothing enlarged", "yunet", "yunet, enlarged"]
    assert list(record["detectors"]) == named
    text = (folder / "README.md").read_text()
    assert "# tiny@1.0.0" in text
    assert "\n| tiny |" in text
    assert "PATH/mine.zip" in text
    assert "detection.zip" not in text
    served = MienDetector(folder, options=SessionOptions(provider="cpu"))
    assert served.detect(np.zeros((50, 40, 3), np.uint8), threshold=None, min_face_px=1) == []


def test_a_failed_publish_leaves_what_is_there(keras_file: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = models / "tiny"
    folder.mkdir(parents=True)
    for name in ("card.json", "model.onnx", "model.keras", "evaluation.json", "README.md"):
        (folder / name).write_text(f"old {name}")
    with pytest.raises(NothingFound):
        publish(tiny_recipe(), keras_file, models, "mine.zip", tiny_parts(), {})
    assert [path.name for path in models.iterdir()] == ["tiny"]
    assert all(path.read_text() == f"old {path.name}" for path in folder.iterdir())


@pytest.mark.usefixtures("_any_threshold")
def test_a_detector_is_published_again_from_its_own_folder(
    keras_file: Path, tmp_path: Path
) -> None:
    models, toml = tmp_path / "models", tmp_path / "tiny.toml"
    toml.write_text(TOML)
    scenes = write_parts(tmp_path / "mine.zip", tiny_parts())
    words = ["--recipe", str(toml), "--no-haar", "--models", str(models)]
    done = CliRunner().invoke(app, ["detector", str(keras_file), str(scenes), *words])
    assert done.exit_code == 0, done.output
    first = load_detector_card(models / "tiny")
    assert {metric.data for metric in first.metrics} == {"mine.zip"}
    kept = models / "tiny" / "model.keras"
    (models / "tiny" / "notes.txt").write_text("mine")
    again = publish(tiny_recipe(), kept, models, "other.zip", tiny_parts(), {})
    assert again.sha256 == first.sha256
    assert kept.read_bytes() == keras_file.read_bytes()
    assert load_detector_card(models / "tiny").metrics[0].data == "other.zip"
    assert (models / "tiny" / "notes.txt").exists()


def test_the_page_names_all_that_its_commands_need(tmp_path: Path) -> None:
    card = load_detector_card(Path(__file__).parents[4] / "models" / "detector")
    write_readme(card, load_recipe("detector"), "mine.zip", [], tmp_path)
    text = (tmp_path / "README.md").read_text()
    commands = [line.split() for line in text.splitlines() if line.startswith("    python")]
    needed = [
        {"train-detector", "PATH/mine.zip", "--recipe", "--utkface", "--all-age-faces", "--yunet"},
        {"export", "PATH/mine.zip", "--recipe", "--yunet"},
        {"evaluate", "PATH/mine.zip", "--yunet"},
    ]
    assert len(commands) == len(needed)
    assert all(words <= set(command) for words, command in zip(needed, commands, strict=True))
