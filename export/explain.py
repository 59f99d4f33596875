"""`model.onnx` -> `explain.onnx`: the guided back-propagation map of one class, by ONNX nodes.

Springenberg et al. 2015 (arXiv:1412.6806), section 3.4; `mini_xception.txt` shows it for this
network. The second graph holds the forward nodes and those that go back; its weights are ranges of
bytes of `model.onnx`, so that none is stored twice. docs/adr/0004 says why it is so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.reverse import pull_back
from export.rules.activation import FLOOR
from export.tape import Tape, UncoveredOp
from service.card import EXPLAIN_FILE, MODEL_FILE

_INLINE_BYTES = 128
"""Smaller constants, as shapes, are copied: ONNX Runtime reads them before any other file."""


def write_explanation(folder: Path) -> str:
    """Write `folder/explain.onnx` for `folder/model.onnx`; the same model gives the same bytes.

    Returns:
        Its sha256.

    Raises:
        UncoveredOp: the gradient of a node is not known.
    """
    data = (folder / MODEL_FILE).read_bytes()
    graph = explanation(onnx.load_from_string(data))
    _refer(graph, data)
    written = graph.SerializeToString(deterministic=True)
    (folder / EXPLAIN_FILE).write_bytes(written)
    return hashlib.sha256(written).hexdigest()


def explain_sha256(folder: Path) -> str | None:
    """The same for the card: None, and no file, for a model that has no such graph."""
    try:
        return write_explanation(folder)
    except UncoveredOp:
        (folder / EXPLAIN_FILE).unlink(missing_ok=True)
        return None


def explanation(model: Any) -> Any:
    """The graph that explains a model, with its weights.

    It takes `image` uint8 (N, S, S, C) as the model does, `class` int64 (N,), counted through the
    labels of all outputs in their order, and `guided` bool (): false gives the plain gradient. It
    gives `map` float32 (N, S, S): the largest absolute gradient of the class's logit over the
    channels (Simonyan et al. 2014, arXiv:1312.6034, section 3.1).

    Raises:
        UncoveredOp: the gradient of a node is not known.
    """
    tape = Tape(model)
    (image,) = model.graph.input
    _floor(tape)
    gradient = pull_back(tape, _seeds(tape, model.graph.output), image.name)
    magnitude = tape.op("Abs", [gradient])
    tape.nodes.append(
        helper.make_node("ReduceMax", [magnitude, tape.integers(3)], ["map"], "map", keepdims=0)
    )
    nodes = tape.needed_for("map")
    used = {tensor for node in nodes for tensor in node.input}
    size = image.type.tensor_type.shape.dim[1].dim_value
    graph = helper.make_graph(
        nodes,
        f"{model.graph.name}_explain",
        [
            image,
            helper.make_tensor_value_info("class", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("guided", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", size, size])],
        [tensor for name, tensor in tape.constants.items() if name in used],
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(made, full_check=True)
    return made


def _floor(tape: Tape) -> None:
    bounds = tape.scalar(0.0), tape.scalar(-np.inf)
    tape.nodes.append(helper.make_node("Where", ["guided", *bounds], [FLOOR], FLOOR))


def _seeds(tape: Tape, outputs: Any) -> dict[str, str]:
    """The gradient of the chosen class's logit: 1 for itself and 0 for every other class."""
    chosen = tape.op("Unsqueeze", ["class", tape.integers(1)])
    seeds, first = {}, 0
    for output in outputs:
        count = output.type.tensor_type.shape.dim[1].dim_value
        logits, order = _logits(tape, output.name, np.arange(count))
        classes = tape.constant(first + order[None])
        seeds[logits] = tape.op("Cast", [tape.op("Equal", [chosen, classes])], to=TensorProto.FLOAT)
        first += count
    return seeds


def _logits(tape: Tape, tensor: str, order: NDArray[np.int64]) -> tuple[str, NDArray[np.int64]]:
    """What a head's softmax is taken of, and which class each of its columns is.

    Behind a softmax the gradient of a class that is certain vanishes. The temperature before it
    scales every map alike, which changes no picture. A head that ends in no softmax, as a mean of
    networks, is taken as it is, before the powers that are its temperature
    (`export.foreign.temperature`): at a probability of 0 their gradient has no bounds.
    """
    node = _maker(tape, tensor)
    if node.op_type == "Gather":  # labels that were put into our order
        return _logits(tape, node.input[0], np.argsort(tape.value(node, 1)))
    if node.op_type == "Div":
        powers, total = (_maker(tape, part) for part in node.input)
        if powers.op_type == "Pow" and node.input[0] in total.input:
            return _logits(tape, powers.input[0], order)
    return (str(node.input[0]) if node.op_type == "Softmax" else tensor), order


def _maker(tape: Tape, tensor: str) -> Any:
    """The node that gives a tensor; an empty one for a constant."""
    return next((node for node in tape.nodes if tensor in node.output), onnx.NodeProto())


def _refer(graph: Any, data: bytes) -> None:
    """Let the large constants of `graph` be ranges of `data`, the content of `model.onnx`."""
    for tensor in graph.graph.initializer:
        raw = onnx.numpy_helper.to_array(tensor).tobytes()
        # Wherever these bytes stand: it is their value that counts.
        offset = data.find(raw) if len(raw) >= _INLINE_BYTES else -1
        if offset < 0:
            continue
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in ("location", MODEL_FILE), ("offset", offset), ("length", len(raw)):
            tensor.external_data.add(key=key, value=str(value))
