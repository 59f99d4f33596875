"""The `mien` command, on tiny real models."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import cv2
import pytest

import service
from service.api.schemas import ModelsOut
from tests.fakes import make_model_folder
from tests.unit.cli.commands import SMALL, mien, photo


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models to damage."""
    folder = tmp_path / "models"
    make_model_folder(folder, "moods", heads=("emotion",))
    monkeypatch.setenv("MIEN_MODELS_DIR", str(folder))
    return folder


def test_a_table_for_people(tmp_path: Path) -> None:
    result = mien("analyze", photo(tmp_path, "a.jpg"))
    assert result.exit_code == 0
    assert "emotion" in result.stdout
    assert result.stderr == ""


def test_json_is_one_object_a_line_and_nothing_else(tmp_path: Path) -> None:
    photos = [photo(tmp_path, "a.jpg"), tmp_path / "missing.jpg", photo(tmp_path, "b.jpg")]
    result = mien("analyze", "--json", "--annotate", tmp_path / "out", *photos)
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["request_id"] for answer in answers] == [str(photos[0]), str(photos[2])]
    assert [len(answer["faces"]) for answer in answers] == [1, 1]
    assert "missing.jpg" in result.stderr


def test_what_cannot_be_read_is_named_and_the_others_are_analysed(tmp_path: Path) -> None:
    broken = photo(tmp_path, "broken.jpg", SMALL[:1000])
    result = mien("analyze", tmp_path / "missing.jpg", broken, photo(tmp_path, "a.jpg"))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 2
    assert "a.jpg (100x100)" in result.stdout


@pytest.mark.parametrize("name", ["[/b].jpg", "[bold]a.jpg", ":dog:.jpg"])
def test_a_name_is_no_markup(tmp_path: Path, name: str) -> None:
    result = mien("analyze", os.path.relpath(photo(tmp_path, name)), tmp_path / f"no{name}")
    assert isinstance(result.exception, SystemExit)
    assert name in result.stdout
    assert f"no{name}" in result.stderr


def test_a_name_does_not_steer_the_terminal(tmp_path: Path) -> None:
    steering = "\x1b[2J\x9b\x07\r.jpg"
    good, missing = photo(tmp_path / "good", steering), tmp_path / steering
    result = mien("analyze", os.path.relpath(good), missing)
    assert r"\x1b[2J\x9b\x07\x0d.jpg (100x100)" in result.stdout
    assert r"\x1b[2J\x9b\x07\x0d.jpg: " in result.stderr
    assert not set("\x1b\x9b\x07\r") & set(result.output)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each name is Unicode")
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_name_that_is_no_text(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = photo(tmp_path, os.fsdecode(b"\xff.jpg"))
    result = mien("analyze", *flags, "--annotate", tmp_path / "out", path)
    assert result.exit_code == 0, result.output
    assert r"\xff.jpg" in result.stdout
    assert (tmp_path / "out" / os.fsdecode(b"\xff.faces.png")).is_file()


def test_photos_of_one_stem_are_drawn_side_by_side(tmp_path: Path) -> None:
    photos = [photo(tmp_path, name) for name in ("a/x.jpg", "b/x.jpg", "b/x.jpeg", "y.jpg")]
    for _ in range(2):  # the second time over the first's
        assert mien("analyze", "--annotate", tmp_path / "out", *photos).exit_code == 0
        written = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert written == ["x-2.faces.png", "x-3.faces.png", "x.faces.png", "y.faces.png"]


def test_a_photo_is_never_drawn_over(tmp_path: Path) -> None:
    named_so, path = photo(tmp_path, "x.faces.png"), photo(tmp_path, "x.jpg")
    assert mien("analyze", "--annotate", tmp_path, path, named_so).exit_code == 0
    assert named_so.read_bytes() == SMALL
    assert cv2.imread(str(tmp_path / "x-2.faces.png")).shape == (100, 100, 3)


def test_what_lies_in_the_folder_of_drawings_stays(tmp_path: Path) -> None:
    path, other = photo(tmp_path, "x.jpg"), photo(tmp_path, "x.png", b"mine")
    assert mien("analyze", "--annotate", tmp_path, path).exit_code == 0
    assert other.read_bytes() == b"mine"
    assert (tmp_path / "x.faces.png").is_file()


def test_no_drawings_are_spoken_of_where_there_are_none(tmp_path: Path) -> None:
    bad = photo(tmp_path, "bad.jpg", b"no image")
    assert "drawings: " not in mien("analyze", "--annotate", tmp_path / "out", bad).stderr


def test_heads_that_are_not_served_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_MODELS", "moods")
    result = mien("analyze", photo(tmp_path, "a.jpg"))
    assert result.exit_code == 0, result.stderr


def test_models_are_listed_with_their_defaults() -> None:
    result = mien("models")
    assert result.exit_code == 0
    assert "moods@1.0.0" in result.stdout
    assert "ages@1.0.0" in result.stdout
    assert re.search(r"^detector: \w+@\S+ \(cpu\)$", result.stdout, re.M)


def test_names_of_models_are_whole_in_a_narrow_place(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a_network_of_a_long_name_int8"
    make_model_folder(models, name, heads=("emotion", "gender", "age"))
    monkeypatch.setenv("COLUMNS", "60")
    assert f"{name}@1.0.0" in mien("models").stdout


def test_models_fit_into_the_width_of_a_pipe(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_model_folder(models, "sequential_fcn_emotion_int8", heads=("emotion", "gender", "age"))
    shown = mien("models").stdout
    assert "…" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert re.search(r"^moods@1.0.0 +emotion\*", shown, re.M)
    assert re.search(r"^sequential_fcn_emotion_int8@1.0.0 +emotion\b", shown, re.M)


def test_models_as_json() -> None:
    result = mien("models", "--json")
    shown = ModelsOut.model_validate_json(result.stdout)
    assert {model.name for model in shown.models} >= {"moods", "ages"}
    assert sorted(head for model in shown.models for head in model.default) == sorted(
        {head for model in shown.models for head in model.heads}
    )
    assert "@" in shown.detector.id


def test_version() -> None:
    assert mien("version").stdout == f"{service.__version__}\n"


@pytest.mark.parametrize("command", [("models",), ("analyze", "x.jpg"), ("serve", "--port", "0")])
def test_a_damaged_model_is_one_line_and_status_2(models: Path, command: tuple[str, ...]) -> None:
    (models / "moods" / "model.onnx").write_bytes(b"other")
    result = mien(*command)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("mien: model 'moods': model.onnx has sha256")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MAX_FACES", "many", "setting max_faces: "),
        ("RATE_LIMIT", "0/minute", "setting rate_limit: it would let nobody in"),
        ("DETECTOR", "yunet", "detector=yunet needs yunet_path"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"MIEN_{name}", value)
    result = mien("models")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"mien: {told}")
    assert len(result.stderr.splitlines()) == 1
