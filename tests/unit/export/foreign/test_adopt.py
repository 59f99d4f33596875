from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tf_keras

from export.foreign.errors import ShapeRefused, WishError
from export.foreign.folder import adopt, open_source
from export.foreign.graph import fit
from export.verify import ParityError
from service.runtime.registry import Model, load_models
from service.runtime.session import SessionOptions
from service.types import CropItem
from tests.unit.export.foreign.makers import network, save, wish
from tests.unit.training.makers import write_fer2013
from training.calibrate import softmax
from training.datasets import load_parts

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning"),
]

CPU = SessionOptions(provider="cpu", max_batch_size=4)
KINDS = ("keras", "old_keras", "hdf5", "json", "saved_model")


def crops(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (3, 24, 24, channels), np.uint8)


def served(model: Model, pictures: np.ndarray, head: Any = "emotion") -> np.ndarray:
    answers = model.run([CropItem(crop, (head,)) for crop in pictures])
    return np.stack([answer[head] for answer in answers])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_served_at_once(kind: str, tmp_path: Path) -> None:
    card = adopt(open_source(*save(kind, tmp_path)), wish(), tmp_path / "models", {})
    model = load_models(tmp_path / "models", (), CPU)["theirs"]
    assert card == model.card
    assert card.heads["emotion"].labels == ("angry", "happy", "neutral")
    assert card.parity.max_abs_error <= 1e-4
    model.warm_up()

    pictures = crops()
    theirs = network(keras if kind == "keras" else tf_keras)
    expected = np.asarray(theirs(pictures / np.float32(127.5) - 1))[:, [2, 1, 0]]
    np.testing.assert_allclose(served(model, pictures), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_itself_is_kept_where_it_is_one(kind: str, tmp_path: Path) -> None:
    source = open_source(*save(kind, tmp_path))
    adopt(source, wish(), tmp_path / "models", {})
    kept = tmp_path / "models" / "theirs" / "model.keras"
    readme = (tmp_path / "models" / "theirs" / "README.md").read_text()
    assert source.origin in readme
    if kind == "saved_model":
        assert not kept.exists()
        assert "There is no `model.keras`" in readme
        return
    again = open_source(kept)
    assert again.parameters == source.parameters == network(keras).count_params()
    pictures = crops().astype(np.float32)
    np.testing.assert_allclose(again.call(pictures)[0], source.call(pictures)[0], atol=1e-6)


def test_a_model_without_a_gradient_is_served_and_says_so(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            keras.Input((24, 24, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(tmp_path / "model.keras")
    card = adopt(open_source(tmp_path / "model.keras"), wish(), tmp_path / "models", {})
    assert card.explain_sha256 is None
    readme = (tmp_path / "models" / "theirs" / "README.md").read_text()
    assert "There is no `explain.onnx`" in readme
    assert served(load_models(tmp_path / "models", (), CPU)["theirs"], crops()).shape == (3, 3)


def test_logits_get_a_softmax_and_colour_its_order_and_statistics(tmp_path: Path) -> None:
    path, _ = save("hdf5", tmp_path, channels=3, end="linear")
    scaling = {"mean": (103.9, 116.8, 123.7), "std": (57.0, 58.0, 59.0)}
    said = wish(input={"color": "bgr", "scaling": scaling, "framing": {}})
    card = adopt(open_source(path), said, tmp_path / "models", {})
    assert card.input.color == "rgb"
    pictures = crops(3)
    scaled = (pictures[..., ::-1] - np.array(scaling["mean"])) / np.array(scaling["std"])
    logits = np.asarray(network(tf_keras, channels=3, end="linear")(scaled.astype(np.float32)))
    model = Model(tmp_path / "models" / "theirs", CPU)
    np.testing.assert_allclose(served(model, pictures), softmax(logits)[:, [2, 1, 0]], atol=1e-5)
    assert "gives logits" in (tmp_path / "models" / "theirs" / "README.md").read_text()


def test_several_outputs_are_several_heads(tmp_path: Path) -> None:
    image = keras.Input((24, 24, 1))
    flat = keras.layers.Flatten()(image)
    outputs = [
        keras.layers.Dense(n, "softmax", name=name)(flat) for n, name in ((2, "g"), (3, "e"))
    ]
    keras.Model(image, outputs).save(tmp_path / "two.keras")
    source = open_source(tmp_path / "two.keras")
    labels = {"gender": ("male", "female"), "emotion": ("happy", "sad", "neutral")}
    card = adopt(source, wish(labels=labels), tmp_path / "models", {})
    assert card.heads["gender"].labels == ("female", "male")
    pictures = crops()
    expected = np.asarray(source.call((pictures / 127.5 - 1).astype(np.float32))[0])[:, ::-1]
    model = Model(tmp_path / "models" / "theirs", CPU)
    np.testing.assert_allclose(served(model, pictures, "gender"), expected, atol=1e-5)
    with pytest.raises(WishError, match=r"2 outputs \(g, e\), labels are given for 1 \(emotion\)"):
        fit(source, wish())


def test_figures_are_measured_where_there_is_data(tmp_path: Path) -> None:
    rows = [(3, 1, "Training"), (3, 2, "PublicTest"), (0, 3, "PublicTest"), (1, 4, "PublicTest")]
    data = load_parts("fer2013", write_fer2013(tmp_path, rows))
    source = open_source(*save("hdf5", tmp_path))
    card = adopt(source, wish(), tmp_path / "models", {"fer2013": data["validation"]})
    assert {metric.name for metric in card.metrics} >= {"accuracy", "ece"}
    # Disgust is none of its labels.
    assert {metric.samples for metric in card.metrics} == {2}
    # Two images are too few for a temperature.
    assert card.heads["emotion"].temperature == 1
    assert card.heads["emotion"].uncertain_below == 0
    assert card.parity.samples == 1 + 2 + 32 + 3
    assert "public test" in (tmp_path / "models" / "theirs" / "README.md").read_text()


def test_the_graph_says_whose_it_is(tmp_path: Path) -> None:
    adopt(open_source(*save("hdf5", tmp_path)), wish(), tmp_path / "models", {})
    graph = onnx.load(tmp_path / "models" / "theirs" / "model.onnx")
    facts = {item.key: item.value for item in graph.metadata_props}
    assert facts["labels.emotion"] == "angry,happy,neutral"
    assert facts["source"] == "a test"


def test_nothing_is_overwritten_and_no_recipes_name_is_taken(tmp_path: Path) -> None:
    source = open_source(*save("keras", tmp_path))
    adopt(source, wish(), tmp_path / "models", {})
    with pytest.raises(WishError, match="is there already"):
        adopt(source, wish(), tmp_path / "models", {})
    with pytest.raises(WishError, match="name of a recipe"):
        adopt(source, wish(name="guided_fusion"), tmp_path / "models", {})


def test_a_graph_that_computes_otherwise_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.foreign.folder.MAX_ERROR", -1.0)
    with pytest.raises(ParityError, match="differ by"):
        adopt(open_source(*save("keras", tmp_path)), wish(), tmp_path / "models", {})
    assert not list((tmp_path / "models").iterdir())


# What does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((24, 24), r"\(N, 24, 24\); pictures are \(N, S, S, C\)"),
        ((None, None, 1), r"pictures of any size, \(N, \?, \?, 1\)"),
        ((1, 24, 24), "channels first"),
        ((24, 24, 2), "neither grey nor colour"),
        ((24, 32, 1), "squares of 16 to 512"),
        ((8, 8, 1), "squares of 16 to 512"),
    ],
)
def test_inputs_that_are_no_crops(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    image = keras.Input(shape)
    layers = keras.layers
    x = layers.Flatten()(image) if len(shape) == 2 else layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(3)(x)).save(tmp_path / "m.keras")
    with pytest.raises(ShapeRefused, match=message):
        fit(open_source(tmp_path / "m.keras"), wish())


def test_a_fixed_batch_cannot_be_served(tmp_path: Path) -> None:
    image = keras.Input(batch_shape=(4, 24, 24, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(3)(pooled)).save(tmp_path / "m.keras")
    with pytest.raises(ShapeRefused, match="4 pictures at a time"):
        fit(open_source(tmp_path / "m.keras"), wish())


def test_two_inputs_cannot_be_served(tmp_path: Path) -> None:
    images = [keras.Input((24, 24, 1)), keras.Input((24, 24, 1))]
    flat = keras.layers.Flatten()(keras.layers.Add()(images))
    keras.Model(images, keras.layers.Dense(3)(flat)).save(tmp_path / "m.keras")
    with pytest.raises(ShapeRefused, match="2 inputs"):
        open_source(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": {"gender": ("female", "male")}}, "gives 3 values, gender has 2 labels"),
        (
            {"input": {"color": "rgb", "scaling": "0..1", "framing": {}}},
            "takes pictures of 1 channels, rgb has 3",
        ),
        (
            {"input": {"color": "gray", "scaling": {"mean": (1, 2), "std": (1,)}, "framing": {}}},
            "2 numbers of scaling for 1 channels",
        ),
    ],
)
def test_a_wish_that_does_not_fit(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = open_source(*save("keras", tmp_path))
    with pytest.raises(WishError, match=message):
        fit(source, wish(**fields))


def test_sigmoids_are_no_distribution_unless_they_are_called_logits(tmp_path: Path) -> None:
    source = open_source(*save("keras", tmp_path, end="sigmoid"))
    with pytest.raises(WishError, match="do not sum to 1"):
        fit(source, wish())
    assert fit(source, wish(output="logits")).answers == {"emotion": "logits"}


def test_logits_that_are_called_probabilities_are_refused(tmp_path: Path) -> None:
    logits = open_source(*save("keras", tmp_path, end="linear"))
    with pytest.raises(WishError, match="emotion: --output says probabilities, but the answers"):
        fit(logits, wish(output="probabilities"))
    probabilities = open_source(*save("keras", tmp_path))
    assert fit(probabilities, wish(output="probabilities")).answers == {"emotion": "probabilities"}
