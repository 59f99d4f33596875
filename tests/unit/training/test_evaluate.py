from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.card import HeadSpec
from service.errors import CardInvalid, InferenceError
from service.types import EMOTIONS
from tests.fakes import make_model_folder
from tests.unit.training.makers import write_faces
from training import tables
from training.__main__ import app
from training.datasets import Samples
from training.datasets.utkface import load
from training.evaluate import evaluate, measure, open_subject, postprocessed


@pytest.fixture
def faces(tmp_path: Path) -> Samples:
    names = {f"{20 + s}_{s % 2}_{s % 3}_201701161745251{s:02}.png": s for s in range(24)}
    return load(write_faces(tmp_path / "utk", names))


def test_a_served_model_is_measured_by_its_card(tmp_path: Path, faces: Samples) -> None:
    folder = make_model_folder(tmp_path, heads=("gender", "age"), size=32)
    record = evaluate(open_subject(folder), {"utkface": faces}, folds=4)
    assert json.loads((folder / "evaluation.json").read_text()) == record
    card = json.loads((folder / "card.json").read_text())
    assert (record["model"], record["sha256"]) == ("tiny", card["sha256"])
    gender, age = record["results"]
    assert (gender["head"], gender["split"], gender["samples"]) == ("gender", "validation", 24)
    assert gender["slices"]["race"].keys() == {"White", "Black", "Asian"}
    assert sum(part["samples"] for part in age["slices"]["age"].values()) == 24
    assert gender["folds"]["count"] == 4
    # The folds are of equal size, so their mean accuracy is that of all.
    mean = gender["folds"]["figures"]["accuracy"]["mean"]
    assert mean == pytest.approx(gender["accuracy"], abs=1e-4)
    page = (folder / "evaluation.md").read_text()
    assert "no model was trained for a fold" in page
    assert f"| race: Black | 8 | {gender['slices']['race']['Black']['accuracy']:.1%} |" in page
    assert f"| weighted average | {gender['weighted_precision']:.3f} |" in page
    assert 1_000 < (folder / "evaluation.png").stat().st_size < 100_000


def test_the_command(tmp_path: Path) -> None:
    names = {f"{s}_{s % 2}_0_201701161745251{s:02}.png": s for s in range(90)}
    write_faces(tmp_path / "utk", names)
    make_model_folder(tmp_path, heads=("gender",), size=32)
    flags = ["--models", str(tmp_path), "--data", f"utkface={tmp_path / 'utk'}", "--folds", "2"]
    result = CliRunner().invoke(app, ["evaluate", "tiny", *flags], catch_exceptions=False)
    (row,) = json.loads((tmp_path / "tiny" / "evaluation.json").read_text())["results"]
    assert f"| gender | utkface, validation | {row['samples']} |" in result.output
    assert row["folds"]["count"] == 2


def test_a_set_that_labels_nothing_of_the_model(tmp_path: Path, faces: Samples) -> None:
    folder = make_model_folder(tmp_path, heads=("emotion",), size=32)
    with pytest.raises(ValueError, match="utkface labels none of the heads of tiny: emotion"):
        evaluate(open_subject(folder), {"utkface": faces})


def test_a_model_of_a_recipe_needs_no_card() -> None:
    models = Path(__file__).parents[3] / "models"
    subject = open_subject(models / "guided_fusion")
    calibration = json.loads((models / "guided_fusion" / "calibration.json").read_text())
    threshold = calibration["heads"]["age"]["uncertain_below"]
    assert subject.heads["age"].uncertain_below == threshold


def test_neither_recipe_nor_card(tmp_path: Path) -> None:
    with pytest.raises(CardInvalid):
        open_subject(tmp_path / "nothing")


def test_labels_are_matched_by_name(faces: Samples) -> None:
    # A model of six emotions, in its own order: neutral is left out.
    names = ("surprise", *EMOTIONS[:5])
    emotions = np.array([6, 5, 0, 0], np.int64)
    samples = replace(
        faces.take(np.arange(4)),
        labels={"emotion": emotions},
        attributes={"who": np.array([*"xyyy"])},
    )
    outputs = np.full((4, 6), 0.1, np.float32)
    outputs[[0, 1, 2, 3], [0, 0, 1, 2]] = 0.5
    result = measure(samples, "emotion", outputs, HeadSpec(labels=names))
    assert (result["left_out"], result["samples"]) == (1, 3)
    assert result["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert result["classes"]["angry"]["support"] == 2
    assert list(result["slices"]["who"]) == ["y"]
    page = tables.page(
        {
            "model": "m",
            "sha256": "0",
            "results": [{"data": "d", "split": "s", "head": "emotion", **result}],
        },
        "m.png",
    )
    assert "1 images have a label that the model does not know." in page


def test_what_is_no_distribution_is_refused_as_in_the_service() -> None:
    with pytest.raises(InferenceError):
        postprocessed(np.array([[0.5, 0.6]], np.float32), HeadSpec(labels=("a", "b")))
