from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.__main__ import app


def test_train_names_the_flag_that_is_missing() -> None:
    result = CliRunner().invoke(app, ["train", "mini_xception_emotion"])
    assert result.exit_code == 2
    assert "--fer2013" in result.output


@pytest.mark.parametrize("command", ["train", "publish", "evaluate", "train-detector", "alignment"])
def test_help(command: str) -> None:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_unknown_recipe(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tmp_path / "none.toml")])
    assert (result.exit_code, result.output) == (1, f"there is no recipe {tmp_path}/none.toml\n")


def test_an_ensemble_needs_no_training() -> None:
    result = CliRunner().invoke(app, ["train", "ensemble_emotion"])
    assert result.exit_code == 0
    assert "the mean of mini_xception_emotion and four_layer_emotion: publish it" in result.output


def test_publish_names_the_flag_that_an_ensemble_is_calibrated_with() -> None:
    result = CliRunner().invoke(app, ["publish", "ensemble_emotion"])
    assert result.exit_code == 2
    assert "--fer2013" in result.output
