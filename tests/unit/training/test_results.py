from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.fakes import card_fields
from training import metrics
from training.__main__ import app
from training.results.page import page
from training.results.records import read_records
from training.results.statements import Ablation, Claim, Statements, Target, read_statements

ROOT = Path(__file__).parents[3]
SHA = {"good": "a" * 64, "bad": "b" * 64, "new": "c" * 64}


def evaluation(name: str, right: int, confidence: float) -> dict[str, Any]:
    """Of ten faces that are all female, `right` are called so, each with one confidence."""
    probabilities = np.full((10, 2), 1 - confidence)
    probabilities[np.arange(10), [0] * right + [1] * (10 - right)] = confidence
    labels, names = np.zeros(10, np.int64), ("female", "male")
    races = {"race": np.array(["Black"] * 5 + ["White"] * 5)}
    folds = [np.arange(0, 10, 2), np.arange(1, 10, 2)]
    figures = {
        "left_out": 0,
        **metrics.report(probabilities, labels, names),
        "slices": metrics.slices(probabilities, labels, names, races),
        "folds": {
            "count": 2,
            "seed": 20,
            "figures": metrics.over_folds(probabilities, labels, names, folds),
        },
    }
    result = {
        "data": "utkface",
        "split": "validation",
        "head": "gender",
        "uncertain_below": 0.0,
        **figures,
    }
    return {"model": name, "sha256": SHA[name], "results": [result]}


def photos(name: str) -> dict[str, Any]:
    def service(found: int, accuracy: float, other: int) -> dict[str, Any]:
        gender = {
            "samples": found,
            "accuracy": accuracy,
            "best_box_accuracy": 0.8,
            "other_answers": other,
        }
        return {
            "found": found,
            "ms": {"decode": 1.0, "detect": 30.0, "infer": 2.0, "total": 33.5},
            "boxes": {k: {"median": 1.0, "deviation": 0.05} for k in ("side", "x", "y")},
            "heads": {"gender": gender},
        }

    rows = [(1.1, 0.1, False, 0.8), (1.1, 0.1, True, 0.7)]
    rows += [(s, 0.0, t, a) for s, t, a in ((1.0, False, 0.6), (1.0, True, 0.9))]
    keys = ("scale", "shift_y", "levelled", "accuracy")
    return {
        "model": name,
        "sha256": SHA[name],
        "detector_sha256": None,
        "data": "fairface",
        "photos": 100,
        "best_box": {"detector": "yunet@1", "found": 100, "heads": {}},
        "services": {"haar": service(64, 0.75, 16), "yunet": service(100, 0.8, 0)},
        "framings": [dict(zip(keys, row, strict=True)) for row in rows],
    }


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """`good` with all records, `bad` miscalibrated, and `new`, whose record is of an older file."""
    records = {
        "good": evaluation("good", 9, 0.9),
        "bad": evaluation("bad", 5, 0.9),
        "new": evaluation("new", 9, 0.9) | {"sha256": "0" * 64},
    }
    for name, record in records.items():
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        fields = card_fields(name, heads=("gender",), sha256=SHA[name], parameters=1234)
        (folder / "card.json").write_text(json.dumps(fields))
        (folder / "evaluation.json").write_text(json.dumps(record))
    (tmp_path / "models" / "good" / "photos.json").write_text(json.dumps(photos("good")))
    quantization = {
        "sha256": SHA["good"],
        "default": "int8",
        "rows": [
            {
                "variant": variant,
                "bytes": size,
                "lost_points": lost,
                "time_ratio": {"1": alone, "32": many},
            }
            for variant, size, lost, alone, many in (
                ("float32", 2_500_000, 0.0, 1.0, 1.0),
                ("int8", 700_000, 0.12, 0.6, 0.5),
            )
        ],
    }
    (tmp_path / "models" / "good" / "quantization.json").write_text(json.dumps(quantization))
    times = {"sha256": SHA["good"], "bytes": 2_500_000, "ms": 1.25, "ratio": 0.5, "ms_in_batch": 1}
    speed = {"cpu": "a CPU", "threads": 1, "reference": "good", "models": {"good": times}}
    (tmp_path / "speed.json").write_text(json.dumps(speed))
    return tmp_path / "models"


STATEMENTS = Statements(
    claims=(
        Claim(
            paper="p.txt",
            where="table 1",
            says="so much",
            ours=(
                {"model": "good", "head": "gender", "data": "utkface"},
                {"model": "good", "figure": "ms"},
                {"model": "absent", "figure": "bytes"},
            ),
            remark="as it is",
        ),
    ),
    targets=(
        Target(model="good", head="gender", data="utkface", at_least=0.9),
        Target(model="bad", head="gender", data="utkface", at_least=0.9),
        Target(model="good", figure="bytes", at_most=1_000_000),
        Target(model="new", head="gender", data="utkface", at_least=0.9),
    ),
    ablations=(
        Ablation(
            title="Of good",
            where="p.txt",
            variants=(
                {"model": "good", "what": "whole", "theirs": "95%"},
                {"model": "absent", "what": "without"},
            ),
        ),
    ),
)


@pytest.fixture
def text(models: Path) -> str:
    return page(read_records([models], models.parent / "speed.json"), STATEMENTS)


def test_the_page_holds_what_was_recorded(text: str) -> None:
    assert "| good | 90.0% |" in text
    assert "| good | gender, utkface | 10 | 90.0% | 90.0% ± 14.1% |" in text
    assert "| good | 1,234 | 2.50 | 1.25 | 0.50 | 1.00 |" in text
    assert "| bad | 1,234 | - | - | - | - |" in text
    assert "### utkface, by race" in text
    assert "| model | head | Black (5) | White (5) |" in text
    assert "| good | gender | 100.0% | 80.0% |" in text


def test_variants(text: str) -> None:
    assert "| good | float32 | 2.50 | 0.00 | x 1.00 | x 1.00 |  |" in text
    assert "| good | int8 | 0.70 | 0.12 | x 0.60 | x 0.50 | yes |" in text
    assert "Not tried: bad, new." in text


def test_a_record_of_another_file_is_no_record(text: str) -> None:
    assert "Not measured: new." in text
    assert "| `new`, gender on utkface, accuracy | >= 90.0% | not there yet | - |" in text


def test_heads_that_are_calibrated_badly_are_listed(models: Path, text: str) -> None:
    line = "bad: gender on utkface (validation), ECE 40.0%"
    assert f"- {line}" in text
    result = CliRunner().invoke(app, ["calibration", "--models", str(models)])
    assert (result.exit_code, result.output) == (1, f"{line}\nnew: not measured\n")
    for name in ("bad", "new"):
        shutil.rmtree(models / name)
    result = CliRunner().invoke(app, ["calibration", "--models", str(models)])
    assert (result.exit_code, result.output.strip()) == (0, "every head is calibrated")


@pytest.mark.parametrize("command", ["calibration", "results"])
def test_no_models_are_no_result(command: str, tmp_path: Path) -> None:
    out = tmp_path / "results.md"
    out.write_text("as it was")
    flags = ["--out", str(out)] if command == "results" else []
    result = CliRunner().invoke(app, [command, "--models", str(tmp_path / "none"), *flags])
    assert result.exit_code == 1
    assert result.output == f"no model with a card in {tmp_path}/none\n"
    assert out.read_text() == "as it was"


@pytest.mark.parametrize(("threshold", "fresh"), [(0.0, True), (0.3, False)])
def test_records_of_another_threshold_are_no_records(
    models: Path, threshold: float, fresh: bool
) -> None:
    record = evaluation("good", 9, 0.9)
    record["results"][0]["uncertain_below"] = threshold
    (models / "good" / "evaluation.json").write_text(json.dumps(record))
    head = {"temperature": 1.0, "uncertain_below": threshold}
    (models / "good" / "calibration.json").write_text(json.dumps({"heads": {"gender": head}}))
    entry = read_records([models], models / "none").entries["good"]
    assert (entry.evaluation is not None, entry.calibration is not None) == (fresh, fresh)


def test_claims_targets_and_ablations_say_what_is_missing(text: str) -> None:
    assert (
        '| `p.txt`, table 1 | "so much" | `good`, gender on utkface, accuracy: 90.0%'
        "<br>`good`, ms: 1.25 ms<br>`absent`, bytes: not there yet | as it is |"
    ) in text
    assert "accuracy | >= 90.0% | 90.0% | met |" in text
    assert "accuracy | >= 90.0% | 50.0% | **missed** |" in text
    assert "bytes | <= 1.00 MB | 2.50 MB | **missed** |" in text
    assert "| whole | good | 95% | 1,234 | 90.0% |" in text
    assert "| without | absent | - | not there yet | not there yet |" in text


def test_photos_and_framing(text: str) -> None:
    assert (
        "| good | haar | 64 of 100 | gender | 64 | 75.0% | 80.0% | -5.0 ± 6.2 | 16 | **no** |"
        in text
    )
    assert "| 100 | 80.0% | 80.0% | +0.0 ± 0.0 | 0 | yes |" in text
    assert "| good | haar | 1.0 | 30.0 | 2.0 | 33.5 |" in text
    assert "| haar | 1.000 ± 0.050 |" in text
    assert "scale 1.1 and shift 0.1: 80.0%, levelled 70.0% (standard error 4.0 points" in text
    assert "90.0% at scale 1.0, shift 0.0, levelled." in text
    assert "| 1.0 | 60.0% | 90.0% |" in text


def test_the_command_writes_the_page(models: Path) -> None:
    out = models.parent / "results.md"
    flags = ["--models", str(models), "--speed", str(models.parent / "none"), "--out", str(out)]
    assert CliRunner().invoke(app, ["results", *flags], catch_exceptions=False).exit_code == 0
    assert "| good | 1,234 | - | - | - | - |" in out.read_text()


def test_the_committed_page_is_what_the_records_give() -> None:
    """If this fails, `python -m training results` was not run after a record changed."""
    records = read_records([ROOT / "models", ROOT / "ablations"], ROOT / "benchmarks/models.json")
    assert (ROOT / "docs" / "results.md").read_text() == page(records, read_statements())


@pytest.mark.shared
def test_quotations_are_the_papers_own(shared: Path) -> None:
    for claim in read_statements().claims:
        text = (shared / "papers" / claim.paper).read_text()
        paper = " ".join(re.sub(r"[*$]", "", text).split())
        for part in claim.says.split(" ... "):
            words = re.escape(part).replace(r"\ ", r"\W+")
            assert re.search(words, paper), f"{claim.paper}: {part}"
