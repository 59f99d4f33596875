from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from export.__main__ import app
from export.variants import folder as variants
from export.variants.half import to_half
from export.variants.int8 import to_int8
from export.variants.record import BASE, Measured, chosen, page, rows
from export.variants.timing import Times, compare
from service.card import load_card
from service.errors import HashMismatch
from service.runtime.registry import Model, load_models
from service.runtime.session import SessionOptions
from tests.fakes import make_model_folder
from tests.unit.training.makers import write_fer2013
from training.datasets import Part, Samples, load_parts
from training.evaluate import open_session, run

MODELS = Path(__file__).parents[3] / "models"
RECORDS = sorted(MODELS.glob("*/quantization.json"))
COMMITTED = "mini_xception_emotion"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Part, Samples]]:
    rows = [(s % 7, s, "Training") for s in range(40)]
    rows += [(s % 7, 90 + s, "PublicTest") for s in range(8)]
    return {"fer2013": load_parts("fer2013", write_fer2013(tmp_path_factory.mktemp("d"), rows))}


def crops(count: int = 32) -> np.ndarray:
    spec = load_card(MODELS / COMMITTED).input
    shape = (count, spec.size, spec.size, spec.channels)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


# The graphs ------------------------------------------------------------------------------------


def test_int8_is_smaller_and_nearly_the_same(tmp_path: Path) -> None:
    source, target = MODELS / COMMITTED / "model.onnx", tmp_path / "int8.onnx"
    to_int8(source, target, crops())
    assert target.stat().st_size < 0.6 * source.stat().st_size
    graph = onnx.load(target)
    (image,), (answer,) = graph.graph.input, graph.graph.output
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert image.type.tensor_type.shape.dim[0].dim_param
    assert answer.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    weights = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    kernels = [values for values in weights.values() if values.ndim == 4]
    assert kernels
    assert all(np.abs(values.astype(int)).max() <= 64 for values in kernels)
    scales = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    quantized = next(node for node in graph.graph.node if node.input[0] in weights)
    assert scales[quantized.input[1]] == [len(weights[quantized.input[0]])]  # one a channel
    expected, given = (run(open_session(path), crops())["emotion"] for path in (source, target))
    assert np.abs(expected - given).max() < 0.25
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-3)


def test_fp16_is_half_and_the_same(tmp_path: Path) -> None:
    source, target = MODELS / COMMITTED / "model.onnx", tmp_path / "half.onnx"
    to_half(source, target)
    assert target.stat().st_size < 0.6 * source.stat().st_size
    expected, given = (run(open_session(path), crops())["emotion"] for path in (source, target))
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=5e-3)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-3)


# The decision ----------------------------------------------------------------------------------


def measured(right: float, ratio: tuple[float, float], other: float = 0.9) -> Measured:
    accuracy = {("emotion", "a"): right, ("gender", "b"): other}
    return Measured(1000, accuracy, Times({1: 1.0, 32: 0.5}, {1: ratio[0], 32: ratio[1]}))


@pytest.mark.parametrize(
    ("int8", "fp16", "best"),
    [
        (measured(0.6970, (0.5, 0.5)), measured(0.70, (1.1, 1.2)), "int8"),
        (measured(0.6969, (0.5, 0.5)), measured(0.70, (1.1, 1.2)), BASE),
        (measured(0.80, (0.5, 0.5), other=0.89), measured(0.70, (1.1, 1.2)), BASE),
        (measured(0.70, (1.0, 0.5)), measured(0.70, (0.5, 1.1)), BASE),
        (measured(0.70, (0.6, 0.9)), measured(0.70, (0.7, 0.8)), "fp16"),
    ],
)
def test_a_variant_must_be_as_good_on_every_set_and_faster_at_every_size(
    int8: Measured, fp16: Measured, best: str
) -> None:
    assert chosen({BASE: measured(0.70, (1, 1)), "int8": int8, "fp16": fp16}) == best


def test_points_are_lost_on_the_worst_set() -> None:
    found = {BASE: measured(0.70, (1, 1)), "int8": measured(0.71, (0.5, 0.4), other=0.898)}
    base, int8 = rows(found)
    assert (base["lost_points"], int8["lost_points"]) == (0.0, 0.2)
    facts = {"model": "m", "default": "int8", "cpu": "c", "onnxruntime": "1"}
    text = page({**facts, "allowed_loss_points": 0.3, "rows": [base, int8]})
    assert "| int8 | 0.00 | 71.00% | 89.80% | 0.20 | 1.00 (0.50) | 0.50 (0.40) |" in text


def test_times_are_held_against_the_first() -> None:
    session = open_session(MODELS / COMMITTED / "model.onnx")
    times = compare({"a": session, "b": session}, crops(2), {1: 2, 2: 2})
    assert times["a"].ratio == {1: 1.0, 2: 1.0}
    assert all(value > 0 for value in times["b"].ms.values())


# The folders -----------------------------------------------------------------------------------


def quantized(
    monkeypatch: pytest.MonkeyPatch, models: Path, parts: dict[str, dict[Part, Samples]], best: str
) -> dict[str, object]:
    monkeypatch.setattr(variants, "chosen", lambda _: best)
    return variants.quantize(models / "tiny", parts, {1: 1, 8: 1})


def test_a_better_variant_is_served_beside_its_model_and_goes_when_it_is_not(
    tmp_path: Path, parts: dict[str, dict[Part, Samples]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model_folder(tmp_path)
    record = quantized(monkeypatch, tmp_path, parts, "int8")
    assert [row["variant"] for row in record["rows"]] == [BASE, "int8", "fp16"]
    assert json.loads((tmp_path / "tiny" / "quantization.json").read_text()) == record
    base = load_card(tmp_path / "tiny")
    assert record["sha256"] == base.sha256

    models = load_models(tmp_path, (), SessionOptions(provider="cpu"))
    assert list(models) == ["tiny", "tiny_int8"]
    card = models["tiny_int8"].card
    assert (card.variant_of, card.heads, card.input) == ("tiny", base.heads, base.input)
    assert card.variant_of_sha256 == base.sha256
    assert {metric.samples for metric in card.metrics} == {8}
    assert "of [tiny](../tiny/README.md)" in (tmp_path / "tiny_int8" / "README.md").read_text()

    quantized(monkeypatch, tmp_path, parts, BASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


def metric(head: str, data: str) -> dict[str, object]:
    figures = {"name": "accuracy", "value": 0.5, "split": "validation", "samples": 9}
    return {"head": head, "data": data, **figures}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": ("gender",)}, "no set labels gender of tiny"),
        ({"heads": ("emotion", "gender")}, "no set labels gender of tiny"),
        (
            {"metrics": [metric("emotion", "fer2013"), metric("emotion", "utkface")]},
            "tiny was measured on utkface too",
        ),
        (
            {"variant_of": "small", "variant_of_sha256": "1" * 64},
            "tiny is a variant itself: name small",
        ),
    ],
)
def test_what_no_variant_is_made_of(
    options: dict[str, Any], message: str, tmp_path: Path, parts: dict[str, dict[Part, Samples]]
) -> None:
    folder = make_model_folder(tmp_path, **options)
    with pytest.raises(variants.QuantizeError, match=message):
        variants.quantize(folder, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("with_card", [True, False])
def test_a_folder_in_the_place_of_a_variant_is_named_before_any_work(
    with_card: bool, tmp_path: Path, parts: dict[str, dict[Part, Samples]]
) -> None:
    folder = make_model_folder(tmp_path)
    other = make_model_folder(tmp_path, "tiny_fp16")
    if not with_card:
        (other / "card.json").unlink()
    with pytest.raises(variants.QuantizeError, match="tiny_fp16 is no variant of tiny"):
        variants.quantize(folder, parts)
    assert (other / "model.onnx").exists()


def test_a_file_that_is_not_verified_gets_no_variant(
    tmp_path: Path, parts: dict[str, dict[Part, Samples]]
) -> None:
    folder = make_model_folder(tmp_path)
    other = make_model_folder(tmp_path, "other", seed=1)
    shutil.copy(other / "model.onnx", folder / "model.onnx")
    with pytest.raises(HashMismatch, match="'tiny'"):
        variants.quantize(folder, parts)


def test_variants_of_another_file_are_removed(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    card = load_card(folder)
    for kind, digest in (("int8", "1" * 64), ("fp16", card.sha256)):
        fields = {"variant_of": "tiny", "variant_of_sha256": digest}
        make_model_folder(tmp_path, f"tiny_{kind}", **fields)
    assert variants.remove_stale(folder, card) == ["tiny_int8"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny_fp16"]


def test_verify_removes_what_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = load_card(make_model_folder(tmp_path))
    fields = {"variant_of": "tiny", "variant_of_sha256": "1" * 64}
    make_model_folder(tmp_path, "tiny_int8", **fields)
    monkeypatch.setattr("training.recipe.load_recipe", lambda name: name)
    monkeypatch.setattr("export.verify.verify", lambda *_: card)
    monkeypatch.setattr("export.readme.write_readme", lambda *_: None)
    result = CliRunner().invoke(app, ["verify", "tiny", "--models", str(tmp_path)])
    assert "tiny_int8 was of another file and is removed" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_variant_is_not_given_a_gradient_of_its_own(tmp_path: Path) -> None:
    fields = {"variant_of": "tiny", "variant_of_sha256": "1" * 64}
    make_model_folder(tmp_path, "tiny_int8", **fields)
    result = CliRunner().invoke(app, ["explain", "tiny_int8", "--models", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (
        1,
        "tiny_int8 is a variant: it is explained by tiny\n",
    )


# What is committed -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_committed_tables_belong_to_their_models(path: Path) -> None:
    record, name = json.loads(path.read_text()), path.parent.name
    assert record["sha256"] == load_card(path.parent).sha256, (
        f"run `python -m export quantize {name} --data ...`"
    )
    kept = {kind for kind in ("int8", "fp16") if (MODELS / f"{name}_{kind}").exists()}
    assert kept == {record["default"]} - {BASE}
    assert f"**{record['default']}**" in (path.parent / "quantization.md").read_text()


def test_a_variant_is_explained_by_its_model(tmp_path: Path) -> None:
    for name in (COMMITTED, f"{COMMITTED}_int8"):
        shutil.copytree(MODELS / COMMITTED, tmp_path / name)
    variant = tmp_path / f"{COMMITTED}_int8"
    (variant / "explain.onnx").unlink()
    fields = json.loads((variant / "card.json").read_text())
    fields |= {"name": variant.name, "variant_of": COMMITTED}
    fields["variant_of_sha256"] = fields["sha256"]
    (variant / "card.json").write_text(json.dumps(fields))
    gradients = Model(variant, SessionOptions(provider="cpu")).gradients
    assert gradients is not None
    (saliency,) = gradients.maps(list(crops(1)), [("emotion", 3)], guided=True)
    assert np.isfinite(saliency).all()
