"""Temperatures for the heads of a graph that is written already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from service.types import Head


def insert_temperatures(path: Path, temperatures: Mapping[Head, float]) -> None:
    """Divide what each head's softmax is taken of by a temperature, in the file itself."""
    model = onnx.load(path)
    for head, temperature in temperatures.items():
        place = _softmax(model.graph, head)
        if place is None:
            _end_in_powers(model.graph, head, temperature)
        else:
            _scale_before(model.graph, place, head, temperature)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _softmax(graph: Any, head: Head) -> int | None:
    """Where the softmax stands that a head ends in; None without one for this head alone."""
    tensor: str = head
    while True:
        place = next(i for i, node in enumerate(graph.node) if tensor in node.output)
        node = graph.node[place]
        readers = [name for other in graph.node for name in other.input if name == tensor]
        if len(readers) > (tensor != head):  # another part of the network needs it as it is
            return None
        if node.op_type == "Softmax":
            return place
        if node.op_type != "Gather":  # labels that were put into our order
            return None
        tensor = node.input[0]


def _scale_before(graph: Any, place: int, head: Head, temperature: float) -> None:
    # Before the softmax and not behind it, as `export.explain` starts from what a softmax is of.
    softmax, scaled = graph.node[place], f"{head}_scaled"
    factor = _constant(graph, f"{head}_factor", np.array(1 / temperature, np.float32))
    node = helper.make_node("Mul", [softmax.input[0], factor], [scaled], scaled)
    softmax.input[0] = scaled
    graph.node.insert(place, node)


def _end_in_powers(graph: Any, head: Head, temperature: float) -> None:
    # softmax(log(p) / T) is p^(1/T) over its sum, which needs no logarithm of zero.
    plain, powers, total = (f"{head}_{part}" for part in ("plain", "powers", "total"))
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [plain if name == head else name for name in names]
    exponent = _constant(graph, f"{head}_exponent", np.array(1 / temperature, np.float32))
    axis = _constant(graph, f"{head}_axis", np.array([1], np.int64))
    graph.node.extend(
        [
            helper.make_node("Pow", [plain, exponent], [powers], powers),
            helper.make_node("ReduceSum", [powers, axis], [total], total, keepdims=1),
            helper.make_node("Div", [powers, total], [head], head),
        ]
    )


def _constant(graph: Any, name: str, value: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name
