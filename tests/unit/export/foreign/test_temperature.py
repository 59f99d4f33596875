from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.explain import explanation
from export.foreign.folder import open_source
from export.foreign.graph import Foreign, as_logits, fit
from export.foreign.temperature import insert_temperatures
from service.types import Head
from tests.unit.export.foreign.makers import network, save, wish
from training.calibrate import softmax
from training.evaluate import open_session, run

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",
)
CROPS = np.random.default_rng(5).integers(0, 256, (6, 24, 24, 1), np.uint8)


def sharpened(foreign: Foreign, folder: Path, temperatures: dict[Head, float]) -> Path:
    path = foreign.write(folder)
    insert_temperatures(path, temperatures)
    return path


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def attentive(folder: Path) -> Path:
    """Emotion by a mean of two softmaxes; gender out of the first one."""
    image = keras.Input((24, 24, 1))
    flat = keras.layers.Flatten()(image)
    first, second = (keras.layers.Dense(3, "softmax")(flat) for _ in range(2))
    emotion = keras.layers.Average()([first, second])
    gender = keras.layers.Dense(2, "softmax")(first)
    keras.Model(image, [emotion, gender, first]).save(folder / "m.keras")
    return folder / "m.keras"


@pytest.mark.parametrize("end", ["softmax", "linear"])
@pytest.mark.parametrize("temperature", [0.3, 2.5])
def test_a_softmax_gets_its_temperature_before_it(
    end: str, temperature: float, tmp_path: Path
) -> None:
    foreign = fit(open_source(*save("keras", tmp_path, end=end)), wish())
    before = run(open_session(foreign.write(tmp_path)), CROPS)["emotion"]
    path = sharpened(foreign, tmp_path, {"emotion": temperature})
    assert ops(path)[-3:] == ["Mul", "Softmax", "Gather"]
    after = run(open_session(path), CROPS)["emotion"]
    np.testing.assert_allclose(after, softmax(as_logits(before), temperature), atol=1e-6)
    expected = foreign.reference(CROPS, {"emotion": temperature})["emotion"]
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_a_head_without_a_softmax_of_its_own_is_raised_to_a_power(tmp_path: Path) -> None:
    labels = {"emotion": ("sad", "happy", "fear"), "gender": ("male", "female")}
    source = open_source(attentive(tmp_path))
    whole = wish(labels=labels | {"age": ("0-18", "19-30", "31-80")})
    foreign = fit(source, whole)
    path = sharpened(foreign, tmp_path, {"emotion": 2.0, "age": 0.5})
    answers = run(open_session(path), CROPS)
    expected = foreign.reference(CROPS, {"emotion": 2.0, "age": 0.5})
    assert ops(path).count("Pow") == 2  # age's softmax is emotion's and gender's too
    for head in foreign.labels:
        np.testing.assert_allclose(answers[head], expected[head], atol=1e-6)
    assert explanation(onnx.load(path))


def test_an_answer_of_zero_stays_zero(tmp_path: Path) -> None:
    model = network(keras)
    model.get_layer("answer").bias.assign([300.0, 0.0, 0.0])
    model.save(tmp_path / "sure.keras")
    foreign = fit(open_source(tmp_path / "sure.keras"), wish())
    path = sharpened(foreign, tmp_path, {"emotion": 2.0})
    answers = run(open_session(path), CROPS)["emotion"]
    np.testing.assert_allclose(answers, np.tile([0, 0, 1], (len(CROPS), 1)), atol=1e-6)
    expected = foreign.reference(CROPS, {"emotion": 2.0})["emotion"]
    np.testing.assert_allclose(answers, expected, atol=1e-9)


def test_a_probability_of_zero_is_explained_by_numbers(tmp_path: Path) -> None:
    image = keras.Input((24, 24, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.ReLU()(keras.layers.Dense(3, kernel_initializer="ones", name="rest")(x))
    answer = x / keras.ops.sum(x, axis=1, keepdims=True)
    model = keras.Model(image, answer)
    weights = np.abs(model.get_layer("rest").kernel.numpy()) * [1, 2, -1]  # the last one is 0
    model.get_layer("rest").set_weights([weights, np.array([3.0, 3.0, -300.0])])
    model.save(tmp_path / "m.keras")
    foreign = fit(open_source(tmp_path / "m.keras"), wish())
    path = sharpened(foreign, tmp_path, {"emotion": 1.5})
    assert run(open_session(path), CROPS)["emotion"].min() == 0
    for maps in explained(explanation(onnx.load(path))):
        assert np.isfinite(maps).all()
        assert maps.max() > 0


def explained(graph: Any) -> list[np.ndarray]:
    """Maps of each class, guided and not."""
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"image": CROPS, "class": np.arange(6) % 3}
    return [session.run(None, feed | {"guided": np.array(guided)})[0] for guided in (True, False)]


def test_an_explanation_is_the_same_picture_at_any_temperature(tmp_path: Path) -> None:
    foreign = fit(open_source(*save("keras", tmp_path)), wish())
    maps = []
    choices: tuple[dict[Head, float], ...] = ({}, {"emotion": 2.5})
    for temperatures in choices:
        graph = explanation(onnx.load(sharpened(foreign, tmp_path, temperatures)))
        maps.append(explained(graph)[0])
    assert maps[0].max() > 0
    np.testing.assert_allclose(maps[1] * 2.5, maps[0], rtol=1e-4, atol=1e-9)
