from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from export.__main__ import app
from export.foreign.errors import WishError
from export.foreign.flags import as_fields
from export.foreign.wish import read_wish
from service.card import Framing, load_card
from tests.unit.export.foreign.makers import save

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning"),
]

CARD = """
name = "theirs"
source = "a test"
licence = "MIT"
notes = ["It was found."]
[labels]
emotion = ["neutral", "happy", "angry"]
[input]
color = "gray"
scaling = "-1..1"
framing = { scale = 1.1, shift_y = 0.1 }
"""
FLAGS = shlex.split(
    "--labels emotion=neutral,happy,angry --color gray --scaling -1..1 --scale 1.1 --shift-y 0.1 "
    "--source test --licence MIT"
)


def card_file(folder: Path, text: str = CARD) -> Path:
    path = folder / "theirs.toml"
    path.write_text(text)
    return path


def test_a_card_file_is_enough_and_flags_go_before_it(tmp_path: Path) -> None:
    path = card_file(tmp_path)
    wish = read_wish(path, {})
    assert wish.labels == {"emotion": ("neutral", "happy", "angry")}
    assert wish.input.statistics.mean == wish.input.statistics.std == (127.5,)
    flags: dict[str, Any] = as_fields([], None, ("1,2,3", "4"), (None, 0.3))
    flags["input"]["color"] = "rgb"
    over = read_wish(path, flags | {"name": "mine", "licence": None, "notes": []})
    assert (over.name, over.licence, over.notes) == ("mine", "MIT", wish.notes)
    assert over.input.color == "rgb"
    assert (over.input.statistics.mean, over.input.statistics.std) == ((1, 2, 3), (4,))
    assert over.input.framing == Framing(scale=1.1, shift_y=0.3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"angry"', '"anger"', "emotion has no label 'anger'; there are angry, disgust"),
        ('"angry"', '"happy"', "each once"),
        ("framing = { scale = 1.1, shift_y = 0.1 }", "", r"input\.framing: Field required"),
        ('licence = "MIT"', "", "licence: Field required"),
        ('"-1..1"', '"1..2"', r"input\.scaling\.name: Input should be '0\.\.255'"),
        ('"-1..1"', "{ mean = [0], std = [0] }", r"input\.scaling\.numbers\.std\.0: .* greater"),
        ('"-1..1"', "{ mean = [0] }", r"input\.scaling\.numbers\.std: Field required"),
        ('"theirs"', '"Not A Name"', "name: String should match"),
        ("[input]", "[inputs]", "input: Field required"),
        ("[labels]", "[labels", "cannot be read"),
    ],
)
def test_a_card_that_is_wrong_says_where(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WishError, match=message):
        read_wish(card_file(tmp_path, CARD.replace(old, new, 1)), {})


def test_flags_that_are_not_in_their_form() -> None:
    for labels, scaling, statistics in (
        (["emotion:happy"], None, (None, None)),
        ([], None, ("1", None)),
        ([], "0..1", ("1", "2")),
        ([], None, ("one", "2")),
    ):
        with pytest.raises(typer.BadParameter):
            as_fields(labels, scaling, statistics, (None, None))


def test_the_command_with_flags_alone(tmp_path: Path) -> None:
    path, weights = save("json", tmp_path)
    place = ["--from", str(path), "--weights", str(weights), "--models", str(tmp_path / "models")]
    result = CliRunner().invoke(app, ["convert", "theirs", *place, *FLAGS])
    assert result.exit_code == 0, result.output
    assert "theirs@1.0.0" in result.output
    assert load_card(tmp_path / "models" / "theirs").input.framing == Framing(
        scale=1.1, shift_y=0.1
    )


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    path, _ = save("keras", tmp_path)
    result = CliRunner().invoke(app, ["convert", "--from", str(path), *FLAGS])
    assert result.exit_code == 1
    assert "cannot be converted: the flags: name: Field required" in result.output
    nothing = CliRunner().invoke(app, ["convert"])
    assert nothing.exit_code == 2
    assert re.search(r"name a recipe, or a file with\s+--from", nothing.output)
