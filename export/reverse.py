"""Reverse mode over an ONNX graph: from the gradient of one tensor to that of another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from export.rules import RULES
from export.tape import Tape, UncoveredOp


def pull_back(tape: Tape, seeds: Mapping[str, str], source: str) -> str:
    """Put the nodes behind `tape` that give the gradient with respect to `source`.

    Each node of the graph is visited once, last first: its rule turns the gradient of its output
    into those of its inputs, and what a tensor gets from several nodes is added up.

    Args:
        tape: the graph.
        seeds: tensor -> tensor of the same shape, its gradient.
        source: a tensor that the seeds' keys depend on.

    Returns:
        The name of the gradient.

    Raises:
        UncoveredOp: a node on the way has no rule, or a form that its rule does not cover.
    """
    reached = tape.reached_from(source)
    gradients: dict[str, list[str]] = defaultdict(list)
    for tensor, seed in seeds.items():
        gradients[tensor].append(seed)
    for node in reversed(list(tape.nodes)):
        if not gradients[node.output[0]]:
            continue
        if node.op_type not in RULES:
            raise UncoveredOp(node)
        gradient = _sum(tape, gradients[node.output[0]])
        parts = RULES[node.op_type](tape, node, gradient)
        for index, tensor in enumerate(node.input):
            if tensor not in reached:
                continue
            if index >= len(parts):
                raise UncoveredOp(node, f"its input {index} depends on the image")
            gradients[tensor].append(parts[index])
    return _sum(tape, gradients[source])


def _sum(tape: Tape, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else tape.op("Sum", parts)
