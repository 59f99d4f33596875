"""Files that are damaged, incomplete, or more than data."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
import tensorflow as tf
import tf_keras

from export.convert import UnsupportedOp
from export.foreign.errors import (
    ConversionError,
    FormatError,
    GraphRefused,
    LayerRefused,
    ShapeRefused,
)
from export.foreign.folder import adopt, open_source
from export.foreign.screen import screen
from tests.unit.export.foreign.makers import network, save, tampered, wish

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning"),
]


# Layers that are no data -----------------------------------------------------------------------


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["new", "old"])
def test_a_lambda_layer_is_refused_by_name_and_never_unmarshalled(
    library: Any, tmp_path: Path
) -> None:
    image = library.Input((24, 24, 1))
    x = library.layers.Lambda(lambda x: x * 2, name="doubling")(image)
    model = library.Model(image, library.layers.Dense(3)(library.layers.Flatten()(x)))
    for suffix in ("keras", "h5"):
        path = tmp_path / f"m.{suffix}"
        model.save(path)
        with pytest.raises(LayerRefused, match=r"'doubling' of class Lambda: .* Python code"):
            open_source(path)


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["new", "old"])
def test_a_custom_layer_is_refused_by_name(library: Any, tmp_path: Path) -> None:
    class Doubling(library.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    image = library.Input((24, 24, 1))
    x = Doubling(name="twice")(image)
    model = library.Model(image, library.layers.Dense(3)(library.layers.Flatten()(x)))
    model.save(tmp_path / "m.h5")
    with pytest.raises(LayerRefused, match="'twice' of class Doubling: Keras has none such") as got:
        open_source(tmp_path / "m.h5")
    assert (got.value.layer, got.value.kind) == ("twice", "Doubling")


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"class_name": "TFSMLayer"}, "runs another file"),
        ({"class_name": "StringLookup"}, "reads another file"),
        ({"class_name": "BatchNormalization", "registered_name": "pkg>Mine"}, "none such"),
        ({"class_name": "BatchNormalization", "module": "os"}, "code outside Keras"),
        (
            {
                "class_name": "Activation",
                "config": {
                    "name": "norm",
                    "activation": {
                        "class_name": "function",
                        "module": "builtins",
                        "config": "eval",
                        "registered_name": "function",
                    },
                },
            },
            "code outside Keras: 'eval'",
        ),
        (
            {"class_name": "TFOpLambda", "config": {"name": "norm", "function": "io.write_file"}},
            r"tf\.io\.write_file is not taken",
        ),
    ],
)
def test_layers_that_reach_out_are_refused_by_name(
    layer: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(LayerRefused, match=f"'norm' of class .*{reason}"):
        open_source(*tampered(tmp_path, layer))


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["new", "old"])
def test_a_layer_in_half_precision_is_named(library: Any, tmp_path: Path) -> None:
    image = library.Input((24, 24, 1))
    inner = library.Sequential(
        [library.layers.Conv2D(2, 3, name="half", dtype="mixed_float16")], name="block"
    )
    x = library.layers.GlobalAveragePooling2D()(inner(image))
    library.Model(image, library.layers.Dense(3, "softmax")(x)).save(tmp_path / "m.keras")
    with pytest.raises(LayerRefused, match="'half' of class Conv2D: it computes in float16"):
        open_source(tmp_path / "m.keras")


def test_functions_of_tensorflow_that_only_compute_pass(tmp_path: Path) -> None:
    image = tf_keras.Input((24, 24, 1))
    x = tf.nn.relu(image * 2.0 - 1.0)  # TFOpLambda layers
    model = tf_keras.Model(image, tf_keras.layers.Dense(3, name="d")(tf_keras.layers.Flatten()(x)))
    model.save(tmp_path / "m.h5")
    assert open_source(tmp_path / "m.h5").outputs == {"d": (None, 3)}


def test_layers_in_layers_are_seen() -> None:
    inner = {"class_name": "Lambda", "config": {"name": "deep"}}
    wrapped = {"class_name": "TimeDistributed", "config": {"name": "outer", "layer": inner}}
    nested = {"class_name": "Sequential", "config": [wrapped]}
    model = {"class_name": "Functional", "config": {"layers": [nested], "name": "all"}}
    with pytest.raises(LayerRefused, match="'deep'"):
        screen(model, tf_keras.layers)
    with pytest.raises(LayerRefused, match="'all' of class Mine"):
        screen({"class_name": "Mine", "config": {"name": "all"}}, tf_keras.layers)


def test_a_loss_of_ones_own_does_not_matter(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("tests")
    def loss(a: Any, b: Any) -> Any:
        return keras.ops.mean(a - b)

    model = network(keras)
    model.compile(loss=loss)
    model.save(tmp_path / "m.keras")
    assert open_source(tmp_path / "m.keras").parameters == model.count_params()


# Graphs ----------------------------------------------------------------------------------------


class Program(tf.Module):
    """A SavedModel of one function, with one variable."""

    def __init__(self, effect: str) -> None:
        super().__init__()
        self.weight = tf.Variable(tf.ones((24 * 24, 3)))
        self._effect = effect

    @tf.function(input_signature=[tf.TensorSpec((None, 24, 24, 1), tf.float32, "face")])
    def serve(self, face: Any) -> Any:
        if self._effect == "write":
            tf.io.write_file("written", "by a model")
        if self._effect == "invert":
            square = tf.linalg.inv(tf.matmul(self.weight, self.weight, transpose_a=True))
            return tf.matmul(tf.matmul(tf.reshape(face, (-1, 576)), self.weight), square)
        return tf.matmul(tf.reshape(face, (-1, 576)), self.weight)


def program(folder: Path, effect: str = "", **signatures: str) -> Path:
    made = Program(effect)
    names = signatures or {"serving_default": "serve"}
    functions = {name: getattr(made, function) for name, function in names.items()}
    tf.saved_model.save(made, str(folder / "graph"), functions)
    return folder / "graph"


def test_a_graph_that_writes_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphRefused, match=r"op WriteFile at '.*serve.*'"):
        open_source(program(tmp_path, "write"))


def test_an_op_that_onnx_lacks_is_named_with_its_place(tmp_path: Path) -> None:
    source = open_source(program(tmp_path, "invert"))
    with pytest.raises(UnsupportedOp, match=r"op MatrixInverse at '.*MatrixInverse.*'"):
        adopt(source, wish(output="logits"), tmp_path / "models", {})
    assert not list((tmp_path / "models").iterdir())


def test_signatures(tmp_path: Path) -> None:
    other = open_source(program(tmp_path / "one", other="serve"))
    assert other.outputs == {"output_0": (None, 3)}
    with pytest.raises(ShapeRefused, match="no signature serving_default, but a, b"):
        open_source(program(tmp_path / "two", a="serve", b="serve"))


# Files -----------------------------------------------------------------------------------------


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(FormatError, match=r"text\.h5 is no \.keras, HDF5 or JSON file"):
        open_source(tmp_path / "text.h5")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(FormatError, match="no structure of a Keras model"):
        open_source(tmp_path / "other.json")
    with pytest.raises(FormatError, match="there is no"):
        open_source(tmp_path / "missing.h5")
    with pytest.raises(FormatError, match=r"without saved_model\.pb"):
        open_source(tmp_path)
    for junk in (b"\xff" * 40, b"x" * 100, b""):
        (tmp_path / "saved_model.pb").write_bytes(junk)
        with pytest.raises(FormatError, match="is damaged"):
            open_source(tmp_path)
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("hello", "")
    with pytest.raises(FormatError, match=r"empty\.keras is no"):
        open_source(tmp_path / "empty.keras")


@pytest.mark.parametrize("version", ["", "new", b"-1"])
def test_a_version_that_is_none(version: str | bytes, tmp_path: Path) -> None:
    path, _ = save("hdf5", tmp_path)
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = version
    with pytest.raises(FormatError, match=r"old\.h5 says that Keras '.*' wrote it: no version"):
        open_source(path)


def test_halves_are_asked_for(tmp_path: Path) -> None:
    path, weights = save("json", tmp_path)
    assert weights is not None
    with pytest.raises(FormatError, match="no weights in it; name their HDF5 file with --weights"):
        open_source(path)
    with pytest.raises(FormatError, match="holds weights alone"):
        open_source(weights)
    whole, _ = save("hdf5", tmp_path)
    with pytest.raises(FormatError, match="has its weights in it"):
        open_source(whole, weights)


def test_weights_of_another_network(tmp_path: Path) -> None:
    path, _ = save("json", tmp_path)
    network(tf_keras, classes=5).save_weights(tmp_path / "five.h5")
    with pytest.raises(FormatError, match=r"five\.h5 cannot be loaded: .*answer"):
        open_source(path, tmp_path / "five.h5")


def test_every_reason_is_a_conversion_error() -> None:
    for reason in (FormatError, LayerRefused, GraphRefused, ShapeRefused):
        assert issubclass(reason, ConversionError)


def test_a_model_that_does_not_say_what_it_takes(tmp_path: Path) -> None:
    structure = {
        "class_name": "Sequential",
        "config": [{"class_name": "Dense", "config": {"units": 3, "name": "d"}}],
        "keras_version": "2.0.5",
    }
    (tmp_path / "m.json").write_text(json.dumps(structure))
    _, weights = save("json", tmp_path)
    with pytest.raises(ConversionError):
        open_source(tmp_path / "m.json", weights)
