"""`model.keras` -> `model.onnx` by tf2onnx: uint8 crops in, probabilities by head out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from service.card import MODEL_FILE, InputSpec
from service.types import Head
from training.errors import WorkError
from training.publish import KERAS_FILE, load_keras
from training.recipe import Recipe

OPSET = 18


class Described(Protocol):
    """What a graph says of itself: a recipe, or what stands in for one."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def version(self) -> str:
        """Of the model."""

    @property
    def source(self) -> str:
        """Where the network comes from."""

    @property
    def summary(self) -> str:
        """One line."""

    @property
    def input(self) -> InputSpec:
        """What the graph takes."""

    @property
    def labels(self) -> Mapping[Head, tuple[str, ...]]:
        """By head, in the order of the probabilities."""


class UnsupportedOp(WorkError):
    """An op of the network that ONNX does not have.

    Attributes:
        op: its kind, as TensorFlow names it.
        place: the scopes that it stands in, the layer's name among them.
    """

    def __init__(self, op: str, place: str) -> None:
        super().__init__(f"tf2onnx cannot convert the op {op} at {place!r}")
        self.op, self.place = op, place


def convert(recipe: Recipe, folder: Path) -> Path:
    """Write `folder/model.onnx` from `folder/model.keras`.

    The graph takes `image` uint8 (N, S, S, C), N free, and gives float32 (N, K) under the name of
    each head; scaling, calibration and softmax are inside. The same versions on one machine give
    the same bytes; a file that differs by no more than another machine's rounding is left as it is,
    since its card, figures and variants name its sha256.

    Returns:
        The path of the ONNX file.

    Raises:
        NotPublished: there is no `model.keras`.
        UnsupportedOp: ONNX does not have an op of the network.
    """
    model = load_keras(folder / KERAS_FILE)

    def serve(image: Any) -> list[Any]:
        import tensorflow as tf

        outputs = model(tf.cast(image, tf.float32), training=False)
        return [outputs[head] for head in recipe.labels]

    return write_onnx(serve, recipe, folder)


def write_onnx(serve: Callable[[Any], list[Any]], model: Described, folder: Path) -> Path:
    """Write `folder/model.onnx` of a TensorFlow function.

    Args:
        serve: uint8 (N, S, S, C) -> float32 (N, K) for each head, in the order of `model.labels`.
        model: names, labels and input.
        folder: where the file goes.

    Raises:
        UnsupportedOp: ONNX does not have an op of the function.
    """
    graph = _exported(serve, model)
    _describe(graph, model)
    onnx.checker.check_model(graph, full_check=True)
    path = folder / MODEL_FILE
    if not _is_there(path, graph):
        path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def _is_there(path: Path, graph: Any) -> bool:
    """Whether the file is this graph but for the rounding of weights that tf2onnx folds."""
    try:
        theirs = onnx.load(path)
    except (FileNotFoundError, onnx.checker.ValidationError, DecodeError):
        return False
    if _but_for_weights(graph) != _but_for_weights(theirs):
        return False
    return all(
        _nearly_equal(onnx.numpy_helper.to_array(ours), onnx.numpy_helper.to_array(other))
        for ours, other in zip(graph.graph.initializer, theirs.graph.initializer, strict=True)
    )


def _but_for_weights(graph: Any) -> bytes:
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    for tensor in bare.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    return bytes(bare.SerializeToString(deterministic=True))


def _nearly_equal(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    if ours.dtype.kind != "f":
        return np.array_equal(ours, theirs)
    largest = float(np.abs(ours).max(initial=0))
    return np.allclose(ours, theirs, rtol=1e-5, atol=1e-6 * largest)


def _exported(serve: Callable[[Any], list[Any]], model: Described) -> Any:
    import tensorflow as tf
    import tf2onnx

    heads, spec = list(model.labels), model.input
    signature = tf.TensorSpec((None, spec.size, spec.size, spec.channels), tf.uint8, spec.name)

    @tf.function(input_signature=[signature])
    def named(image: Any) -> list[Any]:
        return [
            tf.identity(value, name=head) for head, value in zip(heads, serve(image), strict=True)
        ]

    graph, _ = tf2onnx.convert.from_function(named, input_signature=[signature], opset=OPSET)
    _check_ops(graph.graph)
    _rename(graph.graph, spec.name, heads)
    return graph


def _check_ops(graph: Any) -> None:
    # tf2onnx only logs what it cannot map, and leaves TensorFlow's own node in the graph.
    for node in graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            raise UnsupportedOp(node.op_type, node.name)


def _rename(graph: Any, image: str, heads: Sequence[str]) -> None:
    # tf2onnx names tensors after TensorFlow's counters, which differ from call to call, and the
    # outputs Identity:0, Identity_1:0 ... in the order of the function's results.
    names = {value.name: head for value, head in zip(graph.output, heads, strict=True)}
    names[graph.input[0].name] = image
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for tensor in node.input:
            if tensor in weights:
                names.setdefault(tensor, f"weight_{len(names)}")
        for tensor in node.output:
            names.setdefault(tensor, f"{node.op_type.lower()}_{len(names)}")
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}_{number}"
        node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
        node.output[:] = [names[tensor] for tensor in node.output]
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    graph.initializer.sort(key=lambda tensor: int(tensor.name.rpartition("_")[2]))
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"


def _describe(graph: Any, model: Described) -> None:
    framing = model.input.framing
    onnx.helper.set_model_props(
        graph,
        {
            "name": model.name,
            "version": model.version,
            "source": model.source,
            "color": model.input.color,
            "framing": f"scale={framing.scale} shift_y={framing.shift_y}",
            **{f"labels.{head}": ",".join(labels) for head, labels in model.labels.items()},
        },
    )
    graph.doc_string = model.summary
    graph.graph.name, graph.graph.doc_string = model.name, ""
