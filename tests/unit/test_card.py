from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.card import (
    DetectorCard,
    Framing,
    InputSpec,
    ModelCard,
    find_models,
    load_card,
    load_detector_card,
)
from service.errors import CardInvalid, ModelError
from tests.detectors import detector_fields
from tests.fakes import card_fields, make_card


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "card.json").write_bytes(text)
    return folder


def test_a_card_survives_its_own_json() -> None:
    card = make_card("m", heads=("emotion", "age"))
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert card.id == "m@1.0.0"


def test_a_card_is_read_from_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", card_fields("m"))
    assert load_card(folder) == make_card("m")


def test_channels_follow_the_colour() -> None:
    assert make_card("m", color="gray").input.channels == 1
    assert make_card("m", color="rgb").input.channels == 3


def test_a_card_cannot_be_changed() -> None:
    card = make_card("m")
    with pytest.raises(ValidationError):
        card.version = "2.0.0"  # type: ignore[misc]
    assert hash(Framing()) == hash(Framing())
    assert InputSpec(size=48, color="gray", framing=Framing()).name == "image"


METRIC = {"head": "age", "name": "accuracy", "value": 0.8, "data": "UTKFace", "split": "val"}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": "Not A Name"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "../evil"}, "name"),
        ({"name": "m\n"}, "name"),
        ({"version": "1.0"}, "version"),
        ({"version": "v1.0.0"}, "version"),
        ({"sha256": "A" * 64}, "sha256"),
        ({"sha256": "a" * 63}, "sha256"),
        ({"parameters": 0}, "parameters"),
        ({"heads": {}}, "heads"),
        ({"heads": {"mood": {"labels": ["a", "b"]}}}, "heads.mood"),
        ({"heads": {"gender": {"labels": ["female"]}}}, "heads.gender.labels"),
        ({"heads": {"gender": {"labels": ["male", "male"]}}}, "heads.gender.labels"),
        ({"heads": {"gender": {"labels": ["a", "b"], "uncertain_below": 2}}}, "uncertain_below"),
        ({"heads": {"gender": {"labels": ["a", "b"], "temperature": 0}}}, "temperature"),
        ({"input": {"size": 15, "color": "gray", "framing": {}}}, "input.size"),
        ({"input": {"size": 48, "color": "bgr", "framing": {}}}, "input.color"),
        ({"input": {"size": 48, "color": "gray"}}, "input.framing"),
        ({"input": {"size": 48, "color": "gray", "framing": {"scale": 0}}}, "framing.scale"),
        ({"input": {"size": 48, "color": "gray", "framing": {"shift_y": 2}}}, "framing.shift_y"),
        ({"metrics": [METRIC]}, "metrics.0.samples"),
        ({"metrics": [METRIC | {"samples": 0}]}, "metrics.0.samples"),
        ({"parity": {"max_abs_error": -1, "samples": 1}}, "parity.max_abs_error"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], where: str) -> None:
    folder = write(tmp_path / "m", card_fields("m") | changes)
    with pytest.raises(CardInvalid, match=rf"model 'm': card field .*{where}"):
        load_card(folder)


@pytest.mark.parametrize("field", ["variant_of", "variant_of_sha256"])
def test_a_variant_says_of_which_file_it_is(tmp_path: Path, field: str) -> None:
    fields = card_fields("m") | {"variant_of": "base", "variant_of_sha256": "1" * 64}
    assert load_card(write(tmp_path / "m", fields)).variant_of == "base"
    del fields[field]
    with pytest.raises(CardInvalid, match="variant_of and variant_of_sha256 go together"):
        load_card(write(tmp_path / "n", fields | {"name": "n"}))


@pytest.mark.parametrize("field", sorted(card_fields("m")))
def test_no_field_may_be_missing(tmp_path: Path, field: str) -> None:
    fields = card_fields("m")
    del fields[field]
    with pytest.raises(CardInvalid, match=f"card field {field}"):
        load_card(write(tmp_path / "m", fields))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"card"'])
def test_what_is_no_card_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CardInvalid, match="model 'm'"):
        load_card(write(tmp_path / "m", content))


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path / "m", content)
    assert find_models(tmp_path) == ["m"]
    with pytest.raises(CardInvalid, match=r"^model 'm': card\.json: Invalid JSON"):
        load_card(folder)


def test_a_missing_card_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CardInvalid, match=r"no readable card\.json"):
            load_card(folder)
    assert issubclass(CardInvalid, ModelError)


def test_a_card_must_have_its_folders_name(tmp_path: Path) -> None:
    with pytest.raises(CardInvalid, match="folder 'other' holds a card named 'm'"):
        load_card(write(tmp_path / "other", card_fields("m")))


# Detectors ----------------------------------------------------------------------------------------


def test_a_detectors_card_is_another_kind(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", detector_fields("d"))
    card = load_detector_card(folder)
    assert (card.id, card.threshold) == ("d@1.0.0", 0.5)
    assert DetectorCard.model_validate_json(card.model_dump_json()) == card
    with pytest.raises(CardInvalid, match="task"):
        load_card(folder)
    with pytest.raises(CardInvalid, match="task"):
        load_detector_card(write(tmp_path / "m", card_fields("m")))


def test_detectors_are_no_models_for_faces(tmp_path: Path) -> None:
    write(tmp_path / "d", detector_fields("d"))
    write(tmp_path / "m", card_fields("m"))
    write(tmp_path / "broken", b"{")
    (tmp_path / "empty").mkdir()
    assert find_models(tmp_path) == ["broken", "m"]
