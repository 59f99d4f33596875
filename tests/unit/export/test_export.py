from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.convert import convert
from export.readme import write_readme
from export.verify import ParityError, StaleEvaluation, verify
from service.card import HeadSpec, find_models, load_card
from tests.unit.training.makers import fusion_recipe, mini_recipe, write_faces, write_fer2013
from training.datasets import Part, Samples, load_parts
from training.evaluate import Subject, evaluate, open_session, run
from training.publish import load_keras, publish
from training.recipe import Recipe, load_recipe
from training.train import Run, predict

# TensorFlow's tensors do not yet know NumPy 2's copy argument; Keras asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MODELS = Path(__file__).parents[3] / "models"
COMMITTED = [n for n in find_models(MODELS) if (MODELS / n / "model.keras").exists()]


@dataclass(frozen=True)
class Published:
    recipe: Recipe
    folder: Path
    datasets: Mapping[str, Mapping[Part, Samples]]

    @property
    def validation(self) -> dict[str, Samples]:
        return {name: parts["validation"] for name, parts in self.datasets.items()}

    def subject(self) -> Subject:
        heads = {head: HeadSpec(labels=labels) for head, labels in self.recipe.labels.items()}
        return Subject(self.folder, self.recipe.input, heads)


@pytest.fixture(scope="module", params=["mini", "fusion"])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Published:
    place = tmp_path_factory.mktemp("data")
    rows = [(s % 7, s, "Training") for s in range(40)] + [
        (s % 7, 90 + s, "PublicTest") for s in range(8)
    ]
    datasets = {"fer2013": load_parts("fer2013", write_fer2013(place, rows))}
    recipe = mini_recipe(epochs=1) if request.param == "mini" else fusion_recipe()
    if request.param == "fusion":
        names = {f"{s * 3}_{s % 2}_0_201701161745251{s:02}.png": s for s in range(48)}
        datasets["utkface"] = load_parts("utkface", write_faces(place / "utk", names))
    fresh = Run(recipe, datasets, place / "run")
    if request.param == "mini":  # the other one's step takes long to trace, and adds nothing here
        fresh.train()
    folder = publish(fresh, place / "models")
    convert(recipe, folder)
    return Published(recipe, folder, datasets)


def test_graph_is_what_the_contract_says(published: Published) -> None:
    graph = onnx.load(published.folder / "model.onnx")
    (image,) = graph.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    size = published.recipe.input.size
    dims = image.type.tensor_type.shape.dim
    assert dims[0].dim_param == "N"
    assert [dim.dim_value for dim in dims[1:]] == [size, size, 1]
    heads = published.recipe.labels
    assert [output.name for output in graph.graph.output] == list(heads)
    facts = {item.key: item.value for item in graph.metadata_props}
    assert facts["name"] == published.recipe.name
    assert facts["labels.emotion"] == "angry,disgust,fear,happy,sad,surprise,neutral"
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"Dropout", "BatchNormalization", "Identity"}


def test_same_model_gives_the_same_bytes(published: Published) -> None:
    before = (published.folder / "model.onnx").read_bytes()
    assert convert(published.recipe, published.folder).read_bytes() == before


def rounded(graph: Any, by: float) -> bytes:
    """The graph as another machine may make it: its weights differ a little."""
    other = onnx.ModelProto()
    other.CopyFrom(graph)
    for tensor in other.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1 + by), tensor.name))
    return bytes(other.SerializeToString())


def test_a_file_that_differs_by_rounding_alone_is_left(published: Published) -> None:
    path = published.folder / "model.onnx"
    made, graph = path.read_bytes(), onnx.load(path)
    elsewhere = rounded(graph, 3e-7)
    assert elsewhere != made
    path.write_bytes(elsewhere)
    assert convert(published.recipe, published.folder).read_bytes() == elsewhere
    for other in (rounded(graph, 1e-3), made[:-50], b""):
        path.write_bytes(other)
        assert convert(published.recipe, published.folder).read_bytes() == made
    graph.metadata_props[0].value = "another"
    path.write_bytes(graph.SerializeToString())
    assert convert(published.recipe, published.folder).read_bytes() == made


def test_evaluate_verify_and_readme(published: Published) -> None:
    record = evaluate(published.subject(), published.validation)
    card = verify(published.recipe, published.folder, published.validation)
    assert load_card(published.folder.rename(published.folder.parent / card.name)) == card
    assert card.parity.max_abs_error <= 1e-4
    assert card.sha256 == record["sha256"]
    explain = (published.folder / "explain.onnx").read_bytes()
    assert card.explain_sha256 == hashlib.sha256(explain).hexdigest()
    assert card.metrics[0].samples == 8
    write_readme(card, published.recipe, published.folder)
    text = (published.folder / "README.md").read_text()
    assert card.sha256 in text
    assert "not for use" in text
    assert f"| emotion | fer2013, public test | 8 | {record['results'][0]['accuracy']:.1%}" in text


def test_figures_of_another_file_are_refused(published: Published) -> None:
    path = published.folder / "evaluation.json"
    path.write_text(json.dumps({"model": "x", "sha256": "0" * 64, "results": []}))
    with pytest.raises(StaleEvaluation, match="another model"):
        verify(published.recipe, published.folder, {})
    path.unlink()
    assert verify(published.recipe, published.folder, {}).metrics == ()


def test_a_file_that_computes_otherwise_is_refused(published: Published) -> None:
    path = published.folder / "model.onnx"
    original = path.read_bytes()
    graph = onnx.load(path)
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 100:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.5), tensor.name))
    onnx.save(graph, path)
    try:
        with pytest.raises(ParityError, match="differ by"):
            verify(published.recipe, published.folder, {})
    finally:
        path.write_bytes(original)


def test_a_mirrored_model_answers_alike_for_a_mirror_image(published: Published) -> None:
    session = open_session(published.folder / "model.onnx")
    size = published.recipe.input.size
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 1), np.uint8)
    straight, turned = run(session, crops), run(session, np.ascontiguousarray(crops[:, :, ::-1]))
    gap = np.abs(straight["emotion"] - turned["emotion"]).max()
    assert (gap < 1e-5) == published.recipe.mirror
    alone = run(session, crops[1:2])["emotion"]
    np.testing.assert_allclose(alone, straight["emotion"][1:2], atol=1e-5)


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_models_are_what_they_were_exported_from(name: str) -> None:
    recipe, folder = load_recipe(name), MODELS / name
    model, session = load_keras(folder / "model.keras"), open_session(folder / "model.onnx")
    spec = recipe.input
    for count in (1, 2, 32):
        shape = (count, spec.size, spec.size, spec.channels)
        crops = np.random.default_rng(count + 7).integers(0, 256, shape, np.uint8)
        expected, actual = predict(model, crops), run(session, crops)
        assert set(actual) == set(recipe.labels)
        for head, values in actual.items():
            np.testing.assert_allclose(values, expected[head], atol=1e-4)
            np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_cards_belong_to_their_files(name: str) -> None:
    card = load_card(MODELS / name)
    assert card.sha256 == hashlib.sha256((MODELS / name / "model.onnx").read_bytes()).hexdigest()
    assert card.metrics
    assert json.loads((MODELS / name / "evaluation.json").read_text())["sha256"] == card.sha256
    assert card.sha256 in (MODELS / name / "README.md").read_text()
    assert (MODELS / name / "model.keras").stat().st_size < 8_000_000
