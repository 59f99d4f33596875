from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from service.errors import CardInvalid, HashMismatch, InvalidItem, ModelError
from service.runtime.registry import Model, load_models
from service.runtime.session import SessionOptions
from service.types import CropItem
from tests.fakes import make_model_folder

OPTIONS = SessionOptions(provider="cpu", max_batch_size=8)


def crop(seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, channels), np.uint8)


def recard(folder: Path, **changes: Any) -> None:
    fields = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(fields | changes))


# What is refused at start ------------------------------------------------------------------------


def test_a_whole_folder_is_served(tmp_path: Path) -> None:
    model = Model(make_model_folder(tmp_path), OPTIONS)
    assert model.card.id == "tiny@1.0.0"
    assert model.provider == "cpu"
    model.warm_up()


def test_another_file_than_the_cards_is_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    other = make_model_folder(tmp_path / "others", seed=1)
    (folder / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    with pytest.raises(HashMismatch, match=r"tiny.*sha256.*restore the file") as caught:
        Model(folder, OPTIONS)
    assert caught.value.name == "tiny"
    assert {caught.value.expected, caught.value.actual} == {
        json.loads((path / "card.json").read_text())["sha256"] for path in (folder, other)
    }


def test_one_changed_byte_is_enough(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(HashMismatch):
        Model(folder, OPTIONS)


def test_the_hash_is_checked_before_the_file_is_loaded(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(HashMismatch):
        Model(folder, OPTIONS)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    (folder / "model.onnx").write_bytes(b"not a model")
    recard(folder, sha256=hashlib.sha256(b"not a model").hexdigest())
    with pytest.raises(ModelError, match="cannot be loaded"):
        Model(folder, OPTIONS)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"no readable model\.onnx"):
        Model(folder, OPTIONS)


@pytest.mark.parametrize(
    "options",
    [
        {"input": {"size": 24, "color": "gray", "framing": {}}},
        {"input": {"size": 16, "color": "rgb", "framing": {}}},
        {"input": {"name": "picture", "size": 16, "color": "gray", "framing": {}}},
        {"batch": 1},
        {"input_type": TensorProto.FLOAT},
        {"graph_labels": {"emotion": 8}},
    ],
    ids=["size", "color", "name", "fixed batch", "float input", "labels"],
)
def test_a_graph_that_is_not_as_its_card_says_is_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = make_model_folder(tmp_path, **options)
    with pytest.raises(CardInvalid, match="'tiny'"):
        Model(folder, OPTIONS)


def test_a_head_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    recard(folder, heads={"gender": {"labels": ["female", "male"]}})
    with pytest.raises(CardInvalid, match="output gender is None"):
        Model(folder, OPTIONS)


# Running -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    parent = tmp_path_factory.mktemp("models")
    return Model(make_model_folder(parent, heads=("emotion", "gender", "age")), OPTIONS)


def test_each_item_gets_its_own_heads(model: Model) -> None:
    answers = model.run(
        [
            CropItem(crop(0), ("emotion",)),
            CropItem(crop(1), ("age", "gender")),
            CropItem(crop(2), ("gender",)),
        ]
    )
    assert [set(answer) for answer in answers] == [{"emotion"}, {"age", "gender"}, {"gender"}]
    assert answers[0]["emotion"].shape == (7,)
    assert answers[1]["age"].shape == (4,)


def test_mixed_batches_give_what_single_runs_give(model: Model) -> None:
    heads = (("emotion",), ("age", "gender"), ("gender", "emotion", "age"))
    items = [CropItem(crop(seed), heads[seed % 3]) for seed in range(8)]
    for item, answer in zip(items, model.run(items), strict=True):
        (alone,) = model.run([item])
        for head in item.heads:
            np.testing.assert_allclose(answer[head], alone[head], atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((16, 16), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((17, 16, 1), np.uint8),
        np.zeros((16, 16, 1), np.float32),
    ],
)
def test_a_wrong_crop_is_the_items_fault(model: Model, bad: Any) -> None:
    with pytest.raises(InvalidItem, match="takes uint8"):
        model.run([CropItem(crop(), ("age",)), CropItem(bad, ("age",))])


def test_warm_up_runs_every_bucket_with_every_head(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        model._session, "run", lambda name, batch, heads: seen.append((len(batch), heads)) or heads
    )
    model.warm_up()
    assert seen == [(size, ("emotion", "gender", "age")) for size in (1, 2, 4, 8)]


def test_on_cuda_batches_are_padded_to_a_bucket(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [CropItem(crop(seed), ("gender",)) for seed in range(3)]
    expected = model.run(items)
    sizes = []
    monkeypatch.setattr(model._session, "provider", "cuda")

    def run(name: str, batch: Any, heads: Any) -> Any:
        sizes.append(len(batch))
        return model._session._session.run(list(heads), {name: batch})

    monkeypatch.setattr(model._session, "run", run)
    found = model.run(items)
    assert sizes == [4]
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one["gender"], other["gender"], atol=1e-5)


# A folder of models ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bravo", "alpha"):
        make_model_folder(tmp_path, name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    return tmp_path


def test_all_models_are_loaded_when_none_is_named(folder: Path) -> None:
    models = load_models(folder, (), OPTIONS)
    assert list(models) == ["alpha", "bravo"]
    assert models["alpha"].card.name == "alpha"


def test_named_models_come_in_the_order_of_their_names(folder: Path) -> None:
    assert list(load_models(folder, ("bravo", "alpha"), OPTIONS)) == ["bravo", "alpha"]
    assert list(load_models(folder, ("bravo",), OPTIONS)) == ["bravo"]


@pytest.mark.parametrize("name", ["charlie", "notes", "../alpha", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(folder: Path, name: str) -> None:
    with pytest.raises(ModelError, match="there are alpha, bravo"):
        load_models(folder, (name,), OPTIONS)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="no model folder"):
            load_models(folder, (), OPTIONS)


def test_one_bad_model_of_a_folder_is_not_passed_over(folder: Path) -> None:
    (folder / "alpha" / "model.onnx").write_bytes(b"")
    with pytest.raises(HashMismatch, match="alpha"):
        load_models(folder, (), OPTIONS)
