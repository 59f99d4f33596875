from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import training.evaluate
from service.card import Framing, HeadSpec, InputSpec
from service.errors import CardInvalid, InferenceError
from service.types import EMOTIONS
from tests.fakes import make_model_folder
from tests.unit.training.makers import write_faces, write_fer2013
from training import tables
from training.__main__ import app
from training.batches import whole_crops
from training.datasets import DatasetError, Samples
from training.datasets.fer2013 import load as load_fer2013
from training.datasets.utkface import load
from training.evaluate import StaleExport, evaluate, measure, open_subject, postprocessed
from training.publish import NotPublished
from training.recipe import load_recipe

MODELS = Path(__file__).parents[3] / "models"


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
    with pytest.raises(DatasetError, match="utkface labels none of the heads of tiny: emotion"):
        evaluate(open_subject(folder), {"utkface": faces})


def test_a_model_of_a_recipe_needs_no_card(committed: Path) -> None:
    (committed / "card.json").unlink()
    subject = open_subject(committed)
    calibration = json.loads((committed / "calibration.json").read_text())
    threshold = calibration["heads"]["emotion"]["uncertain_below"]
    assert subject.heads["emotion"].uncertain_below == threshold
    (committed / "calibration.json").write_text('{"heads": {}}')
    with pytest.raises(NotPublished, match=r"calibration\.json lacks emotion: train and publish"):
        open_subject(committed)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A copy of a model with a recipe, without its figures."""
    folder = tmp_path / "mini_xception_emotion"
    folder.mkdir()
    for name in ("card.json", "calibration.json", "model.onnx"):
        shutil.copy(MODELS / folder.name / name, folder)
    return folder


def test_a_file_of_another_calibration_is_not_measured(committed: Path) -> None:
    path = committed / "calibration.json"
    record = json.loads(path.read_text())
    # Published again: the graph still has the old temperature inside.
    record["heads"]["emotion"]["temperature"] += 0.1
    path.write_text(json.dumps(record))
    with pytest.raises(StaleExport, match="run `python -m export convert mini_xception_emotion`"):
        open_subject(committed)
    # Converted since: the card is of the older file, and `verify` will write another.
    graph = onnx.load(committed / "model.onnx")
    graph.doc_string = "made anew"
    onnx.save(graph, committed / "model.onnx")
    assert open_subject(committed).heads["emotion"].temperature == pytest.approx(
        record["heads"]["emotion"]["temperature"]
    )


@pytest.mark.parametrize("field", ["input", "labels"])
def test_a_file_of_another_recipe_is_not_measured(
    committed: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    recipe = load_recipe(committed.name)
    edited = {
        "input": recipe.input.model_copy(update={"framing": Framing(scale=1.6)}),
        "labels": {"emotion": recipe.labels["emotion"][::-1]},
    }
    changed = recipe.model_copy(update={field: edited[field]})
    monkeypatch.setattr(training.evaluate, "load_recipe", lambda name: changed)
    with pytest.raises(StaleExport):
        open_subject(committed)


def test_a_threshold_is_not_in_the_graph(committed: Path, tmp_path: Path) -> None:
    path = committed / "calibration.json"
    record = json.loads(path.read_text())
    record["heads"]["emotion"]["uncertain_below"] = 0.3
    path.write_text(json.dumps(record))
    rows = [(s % 7, s, "PublicTest") for s in range(8)]
    faces = load_fer2013(write_fer2013(tmp_path, rows))
    (result,) = evaluate(open_subject(committed), {"fer2013": faces})["results"]
    assert result["uncertain_below"] == 0.3


def test_sets_of_other_heads_are_not_run(
    tmp_path: Path, faces: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model_folder(tmp_path, heads=("gender",), size=32)
    emotions = replace(faces, name="fer2013", labels={"emotion": faces.labels["gender"]})
    seen: list[Samples] = []

    def crops(samples: Samples, spec: InputSpec) -> NDArray[np.uint8]:
        seen.append(samples)
        return whole_crops(samples, spec)

    monkeypatch.setattr(training.evaluate, "whole_crops", crops)
    record = evaluate(open_subject(folder), {"fer2013": emotions, "utkface": faces})
    assert [result["data"] for result in record["results"]] == ["utkface"]
    assert seen == [faces]


def test_too_many_folds_are_refused_before_the_network_runs(
    tmp_path: Path, faces: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model_folder(tmp_path, heads=("gender",), size=32)
    monkeypatch.delattr(training.evaluate, "run")
    with pytest.raises(DatasetError, match="24 groups cannot be divided into 25 folds"):
        evaluate(open_subject(folder), {"utkface": faces}, folds=25)


def test_one_fold_has_no_deviation(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["evaluate", "tiny", "--data", f"utkface={tmp_path}/none", "--folds", "1"]
    )
    assert result.exit_code == 2
    assert "--folds 1" in result.output


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
