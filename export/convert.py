"""`model.keras` -> `model.onnx` by tf2onnx: uint8 crops in, probabilities by head out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import onnx

from service.card import MODEL_FILE
from training.publish import KERAS_FILE
from training.recipe import Recipe

OPSET = 18


def convert(recipe: Recipe, folder: Path) -> Path:
    """Write `folder/model.onnx` from `folder/model.keras`.

    The graph takes `image` uint8 (N, S, S, C), N free, and gives float32 (N, K) under the name of
    each head; scaling, calibration and softmax are inside. The same versions give the same bytes.

    Returns:
        The path of the ONNX file.
    """
    model = load_keras(folder / KERAS_FILE)
    graph = _exported(model, recipe)
    _describe(graph, recipe)
    onnx.checker.check_model(graph, full_check=True)
    path = folder / MODEL_FILE
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def load_keras(path: Path) -> Any:
    """The Keras model for inference, without optimizer or loss."""
    return keras.saving.load_model(path, compile=False)


def _exported(model: Any, recipe: Recipe) -> Any:
    import tensorflow as tf
    import tf2onnx

    heads = list(recipe.labels)
    spec = recipe.input
    signature = tf.TensorSpec((None, spec.size, spec.size, spec.channels), tf.uint8, spec.name)

    @tf.function(input_signature=[signature])
    def serve(image: Any) -> list[Any]:
        outputs = model(tf.cast(image, tf.float32), training=False)
        return [tf.identity(outputs[head], name=head) for head in heads]

    graph, _ = tf2onnx.convert.from_function(serve, input_signature=[signature], opset=OPSET)
    _rename(graph.graph, spec.name, heads)
    return graph


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


def _describe(graph: Any, recipe: Recipe) -> None:
    framing = recipe.input.framing
    onnx.helper.set_model_props(
        graph,
        {
            "name": recipe.name,
            "version": recipe.version,
            "source": recipe.source,
            "color": recipe.input.color,
            "framing": f"scale={framing.scale} shift_y={framing.shift_y}",
            **{f"labels.{head}": ",".join(labels) for head, labels in recipe.labels.items()},
        },
    )
    graph.doc_string = recipe.summary
    graph.graph.name, graph.graph.doc_string = recipe.name, ""
