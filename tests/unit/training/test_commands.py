"""What a user can get wrong is told in one line by every command of both apps."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import export.__main__
import training.__main__
from tests.fakes import make_model_folder
from tests.unit.training.makers import write_faces, write_fer2013
from training.commands import Commands
from training.errors import WorkError

# In {here}: models/tiny, data/fer2013.csv with PublicTest rows alone, photos/ of FairFace.
FER2013 = "--data fer2013={here}/data"
NO_CARD = "model '{}' has no readable card.json"
NO_RECIPE = "there is no recipe {root}/training/recipes/nosuch.toml"
NO_FILE = "there is no {here}/models/{}: train and publish the model first"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("here")
    make_model_folder(place / "models", heads=("gender",))
    (place / "data").mkdir()
    write_fer2013(place / "data", [(seed % 7, seed, "PublicTest") for seed in range(8)])
    write_faces(place / "photos", {"20-29_male_1.png": 1})
    return place


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train nosuch", NO_RECIPE),
        ("train mini_xception_emotion --fer2013 /nope", "/nope cannot be read: No such file or "),
        (
            "train mini_xception_emotion --fer2013 {here}/data",
            "{here}/data: the train part of fer2013 is empty",
        ),
        ("train-detector /nope --recipe nosuch", "there is no recipe {root}/training/detection/"),
        ("publish nosuch", NO_RECIPE),
        (f"evaluate nosuch {FER2013}", NO_CARD.format("nosuch")),
        (f"evaluate joint_cnn {FER2013}", NO_FILE.replace("{}", "joint_cnn/calibration.json")),
        (f"evaluate tiny {FER2013}", "fer2013 labels none of the heads of tiny: gender"),
        ("evaluate tiny --data utkface=/nope", "utkface: there is no /nope"),
        (
            "photos --fairface {here}/photos --yunet /nope",
            "the detector file /nope cannot be read: ",
        ),
        ("photos --fairface /nope --yunet /nope", "/nope is neither a folder nor a zip file"),
        ("alignment tiny --yunet /nope", "the detector file /nope cannot be read: "),
        ("results --out /nope/r.md", "/nope/r.md: No such file or directory"),
    ],
)
def test_training(line: str, said: str, here: Path) -> None:
    check(training.__main__.app, line, said, here)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("convert nosuch", NO_RECIPE),
        ("convert ensemble_emotion", NO_FILE.replace("{}", "ensemble_emotion/model.keras")),
        ("convert --from /nope.h5 --data utkface=/nope", "utkface: there is no /nope"),
        ("verify nosuch", NO_RECIPE),
        ("verify tiny", "there is no recipe {root}/training/recipes/tiny.toml"),
        ("verify joint_cnn", NO_FILE.replace("{}", "joint_cnn/model.keras")),
        ("explain nosuch", NO_CARD.format("nosuch")),
        ("quantize tiny --data utkface", "--data 'utkface' is not SET=PATH"),
        (f"quantize nosuch {FER2013}", "{here}/data: the train part of fer2013 is empty"),
        ("detector /nope /nope --no-haar", "/nope is neither a folder nor a zip file"),
    ],
)
def test_export(line: str, said: str, here: Path) -> None:
    check(export.__main__.app, line, said, here)


def check(app: typer.Typer, line: str, said: str, here: Path) -> None:
    root = Path(__file__).parents[3]
    models = [] if "detector" in line else ["--models", str(here / "models")]
    if line.startswith(("train ", "publish", "train-detector")):
        models = ["--out", str(here / "runs")]
    words = [word.format(here=here) for word in line.split()]
    result = CliRunner().invoke(app, [*words, *models])
    assert result.exit_code == 1, result.output
    assert result.output.startswith(said.format(here=here, root=root))
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (WorkError("two\n  lines"), "two lines"),
        (OSError(28, "No space left on device", "x.json"), "x.json: No space left on device"),
        (OSError("cannot read"), "cannot read"),
    ],
)
def test_the_line(error: Exception, line: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert (result.exit_code, result.output) == (1, f"{line}\n")


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    result = CliRunner().invoke(failing(KeyError("x")), ["fail"])
    assert isinstance(result.exception, KeyError)


def failing(error: Exception) -> typer.Typer:
    app = typer.Typer(cls=Commands)

    @app.callback()
    def main() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app
