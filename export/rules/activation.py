"""Activations. Only ReLU has a guided rule; the others have their derivative alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.tape import Tape, UncoveredOp, attribute

FLOOR = "gradient_floor"
"""float32 (): gradients below it stop at a ReLU; 0 guides, minus infinity lets all through."""


def relu(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Springenberg et al. 2015, figure 1: a gradient passes where input and it are positive."""
    return [tape.op("Mul", [_floored(tape, gradient), tape.op("Sign", [node.output[0]])])]


def clip(tape: Tape, node: Any, gradient: str) -> list[str]:
    """A ReLU with a ceiling (ReLU6): guided likewise."""
    if len(node.input) < 3 or tape.value(node, 1) != 0:
        raise UncoveredOp(node, "only ReLUs with a ceiling are covered")
    positive = tape.op("Sign", [node.output[0]])
    below = tape.op("Cast", [tape.op("Less", [node.input[0], node.input[2]])], to=1)
    inside = tape.op("Mul", [positive, below])
    return [tape.op("Mul", [_floored(tape, gradient), inside])]


def leaky_relu(tape: Tape, node: Any, gradient: str) -> list[str]:
    """The slope is 1 or alpha."""
    zero = tape.scalar(0.0)
    alpha = tape.scalar(attribute(node, "alpha", 0.01))
    slope = tape.op("Where", [tape.op("Greater", [node.input[0], zero]), tape.scalar(1.0), alpha])
    return [tape.op("Mul", [gradient, slope])]


def sigmoid(tape: Tape, node: Any, gradient: str) -> list[str]:
    """The slope is y (1 - y)."""
    value = node.output[0]
    slope = tape.op("Mul", [value, tape.op("Sub", [tape.scalar(1.0), value])])
    return [tape.op("Mul", [gradient, slope])]


def tanh(tape: Tape, node: Any, gradient: str) -> list[str]:
    """The slope is 1 - y y."""
    square = tape.op("Mul", [node.output[0], node.output[0]])
    slope = tape.op("Sub", [tape.scalar(1.0), square])
    return [tape.op("Mul", [gradient, slope])]


def softmax(tape: Tape, node: Any, gradient: str) -> list[str]:
    """One inside the graph, as where networks are averaged: y (g - sum of g y)."""
    axis = tape.constant(np.array([attribute(node, "axis", -1)], np.int64))
    weighted = tape.op("Mul", [gradient, node.output[0]])
    mean = tape.op("ReduceSum", [weighted, axis], keepdims=1)
    return [tape.op("Mul", [node.output[0], tape.op("Sub", [gradient, mean])])]


def _floored(tape: Tape, gradient: str) -> str:
    return tape.op("Max", [gradient, FLOOR])
