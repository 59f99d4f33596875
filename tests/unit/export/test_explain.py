"""The second graph of whole models against TensorFlow's gradient with a guided ReLU."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tensorflow as tf
from keras import layers
from keras.src import backend
from typer.testing import CliRunner

from export.__main__ import app
from export.explain import explain_sha256, explanation, write_explanation
from service.card import ModelCard, find_models, load_card
from service.runtime.haar import HaarDetector
from service.vision.crops import crop_face
from tests.fakes import make_model_folder
from training.publish import load_keras

# TensorFlow's tensors do not yet know NumPy 2's copy argument; Keras asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "models"
COMMITTED = [n for n in find_models(MODELS) if (MODELS / n / "model.keras").exists()]
TOLERANCE = 1e-3


@tf.custom_gradient
def guided_relu(x: Any) -> Any:
    return tf.nn.relu(x), lambda g: tf.where((x > 0) & (g > 0), g, 0.0)


@tf.custom_gradient
def guided_relu6(x: Any) -> Any:
    return tf.nn.relu6(x), lambda g: tf.where((x > 0) & (x < 6) & (g > 0), g, 0.0)


@pytest.fixture(params=[True, False], ids=["guided", "gradient"])
def guided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Keras's ReLUs get the guided rule, or keep their own."""
    if request.param:
        monkeypatch.setattr(backend.nn, "relu", guided_relu)
        monkeypatch.setattr(backend.nn, "relu6", guided_relu6)
    return request.param


def pictures(card: ModelCard) -> np.ndarray:
    """The astronaut's face and its mirror image, two noises, two blurred noises."""
    photo = cv2.imread(str(ROOT / "tests" / "media" / "astronaut.jpg"))
    faces = HaarDetector().detect(photo, threshold=None, min_face_px=50)
    face = crop_face(photo, max(faces, key=lambda f: f.box.side).box, card.input)
    noises = np.random.default_rng(1).integers(0, 256, (4, *face.shape), np.uint8)
    for noise in noises[2:]:
        noise[:] = cv2.GaussianBlur(noise, (0, 0), 2).reshape(noise.shape)
    return np.stack([face, np.ascontiguousarray(face[:, ::-1]), *noises])


def nearby(crops: np.ndarray) -> Iterator[np.ndarray]:
    """The crops, and the same within a thousandth of a grey level.

    Where a ReLU's input is 0 but for rounding, or two places of a MaxPool are equal, the map has a
    step, and both of its sides are right: one of these is on the side where the graph is. Which
    side that is differs from CPU to CPU; a small change crosses few other steps.
    """
    yield crops.astype(np.float32)
    draw = np.random.default_rng(0)
    for most in (1e-3, 1e-4, 1e-5) * 4:
        yield crops + draw.uniform(-most, most, crops.shape).astype(np.float32)


def expected_maps(logits: Any, crops: np.ndarray, label: int) -> np.ndarray:
    """Largest absolute gradient over the channels, by TensorFlow."""

    @tf.function
    def gradient(image: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(image)
            chosen = logits(image, training=False)[:, label]
        return tape.gradient(chosen, image)

    return np.abs(gradient(tf.constant(crops, tf.float32)).numpy()).max(axis=3)


def errors(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Relative to the length of what is expected, by map."""
    gaps = (actual - expected).reshape(len(expected), -1)
    lengths = np.linalg.norm(expected.reshape(len(expected), -1), axis=1)
    assert (lengths > 0).all()
    return np.linalg.norm(gaps, axis=1) / lengths


def assert_as_tensorflow(actual: np.ndarray, logits: Any, crops: np.ndarray, label: int) -> None:
    """Each map is TensorFlow's of its crop, or of one of those `nearby`."""
    least = np.full(len(crops), np.inf)
    for near in nearby(crops):
        least = np.minimum(least, errors(actual, expected_maps(logits, near, label)))
        if least.max() <= TOLERANCE:
            return
    raise AssertionError(f"the maps differ by {least}")


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_models_are_explained_as_tensorflow_would(name: str, guided: bool) -> None:
    card, model = load_card(MODELS / name), load_keras(MODELS / name / "model.keras")
    session = ort.InferenceSession(MODELS / name / "explain.onnx")
    crops, first = pictures(card), 0
    for head, spec in card.heads.items():
        logits = keras.Model(model.input, model.get_layer(head).input)  # of the softmax
        label = len(spec.labels) - 1
        classes = np.full(len(crops), first + label)
        feeds = {"image": crops, "class": classes, "guided": np.array(guided)}
        (actual,) = session.run(["map"], feeds)
        assert_as_tensorflow(actual, logits, crops, label)
        first += len(spec.labels)


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_graphs_hold_no_weights_and_are_those_of_their_cards(name: str) -> None:
    written = (MODELS / name / "explain.onnx").read_bytes()
    assert load_card(MODELS / name).explain_sha256 == hashlib.sha256(written).hexdigest()
    assert len(written) < 64_000


def plain_cnn() -> Any:
    """What Keras offers beside what our own networks use."""
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.ZeroPadding2D(((1, 0), (2, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same")(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    x = layers.LeakyReLU(0.1)(layers.DepthwiseConv2D(3, padding="same")(x))
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same")(x)
    x = layers.Cropping2D(((1, 2), (0, 3)))(x)
    x = layers.MaxPooling2D(3, 2)(layers.Activation("tanh")(x))
    x = layers.Activation("swish")(x)
    x = layers.Dense(16, activation="relu6")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(4)(layers.Dropout(0.2)(x)))


@pytest.fixture(scope="module")
def plain() -> tuple[Any, Any]:
    """The logits of a plain CNN, and its graph, which gives the labels in another order."""
    import tf2onnx

    keras.utils.set_random_seed(0)
    logits = plain_cnn()
    signature = tf.TensorSpec((None, 32, 32, 3), tf.uint8, "image")

    @tf.function(input_signature=[signature])
    def serve(image: Any) -> Any:
        answers = tf.nn.softmax(logits(tf.cast(image, tf.float32), training=False))
        return tf.gather(answers, [2, 0, 3, 1], axis=1)

    graph, _ = tf2onnx.convert.from_function(serve, input_signature=[signature], opset=18)
    return logits, graph


def test_a_plain_keras_cnn_is_explained_too(plain: tuple[Any, Any], guided: bool) -> None:
    logits, graph = plain
    session = ort.InferenceSession(explanation(graph).SerializeToString())
    crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    for place, label in enumerate([2, 0, 3, 1]):
        feeds = {"image": crops, "class": np.full(4, place), "guided": np.array(guided)}
        (actual,) = session.run(["map"], feeds)
        assert_as_tensorflow(actual, logits, crops, label)


def test_weights_are_ranges_of_the_models_file(tmp_path: Path) -> None:
    folder = tmp_path / "mini"
    folder.mkdir()
    shutil.copy(MODELS / COMMITTED[0] / "model.onnx", folder)
    digest = write_explanation(folder)
    written = (folder / "explain.onnx").read_bytes()
    assert digest == hashlib.sha256(written).hexdigest() == write_explanation(folder)
    model = onnx.load(folder / "model.onnx")
    theirs = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    ours = onnx.load(folder / "explain.onnx", load_external_data=False).graph.initializer
    outside = [t for t in ours if t.data_location == onnx.TensorProto.EXTERNAL]
    assert len(outside) > 10
    for tensor in onnx.load(folder / "explain.onnx").graph.initializer:  # with what is outside
        if tensor.name in theirs:
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), theirs[tensor.name])


def test_the_command_writes_graph_and_card(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    result = CliRunner().invoke(app, ["explain", "tiny", "--models", str(tmp_path)])
    assert result.exit_code == 0, result.output
    written = (folder / "explain.onnx").read_bytes()
    assert load_card(folder).explain_sha256 == hashlib.sha256(written).hexdigest()


def test_a_model_that_cannot_be_explained_says_why_and_has_no_graph(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path)
    model = onnx.load(folder / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Erf"
    onnx.save(model, folder / "model.onnx")
    (folder / "explain.onnx").touch()
    assert explain_sha256(folder) is None
    assert not (folder / "explain.onnx").exists()
    result = CliRunner().invoke(app, ["explain", "tiny", "--models", str(tmp_path)])
    assert result.exit_code == 1
    assert "cannot be explained by its gradient: Erf node" in result.output
