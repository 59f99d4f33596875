"""Sums, products and the like, with broadcasting; dense layers and batch normalisation."""

from __future__ import annotations

from typing import Any

from export.tape import Tape, UncoveredOp, attribute


def add(tape: Tape, node: Any, gradient: str) -> list[str]:
    """To both alike."""
    return [_narrowed(tape, node, index, gradient) for index in (0, 1)]


def sub(tape: Tape, node: Any, gradient: str) -> list[str]:
    """To the second with its sign turned."""
    parts = (gradient, tape.op("Neg", [gradient]))
    return [_narrowed(tape, node, index, part) for index, part in enumerate(parts)]


def mul(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Each gets it times the other; both may depend on the image, as a gate and what it gates."""
    parts = (tape.op("Mul", [gradient, other]) for other in reversed(node.input))
    return [_narrowed(tape, node, index, part) for index, part in enumerate(parts)]


def div(tape: Tape, node: Any, gradient: str) -> list[str]:
    """The first gets g / b, the second - g y / b."""
    above = tape.op("Div", [gradient, node.input[1]])
    below = tape.op("Neg", [tape.op("Mul", [above, node.output[0]])])
    return [_narrowed(tape, node, index, part) for index, part in enumerate((above, below))]


def neg(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Its sign is turned."""
    return [tape.op("Neg", [gradient])]


def sqrt(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Half of g / y."""
    half = tape.op("Mul", [gradient, tape.scalar(0.5)])
    return [tape.op("Div", [half, node.output[0]])]


def reciprocal(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Minus g y y."""
    square = tape.op("Mul", [node.output[0], node.output[0]])
    return [tape.op("Neg", [tape.op("Mul", [gradient, square])])]


def log(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Over its input, as where an ensemble takes the logarithm of its members' mean."""
    return [tape.op("Div", [gradient, node.input[0]])]


def power(tape: Tape, node: Any, gradient: str) -> list[str]:
    """For a constant power p that is one number: g p x^(p - 1)."""
    exponent = tape.value(node, 1)
    if exponent.size != 1:
        raise UncoveredOp(node, "its exponent is not one number")
    lower = tape.op("Pow", [node.input[0], tape.scalar(exponent.item() - 1)])
    slope = tape.op("Mul", [lower, tape.scalar(exponent.item())])
    return [tape.op("Mul", [gradient, slope])]


def matmul(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Times the weights, transposed."""
    if len(tape.shape(node, node.input[1])) != 2:
        raise UncoveredOp(node, "its second input is no matrix")
    turned = tape.op("Transpose", [node.input[1]], perm=[1, 0])
    return [tape.op("MatMul", [gradient, turned])]


def gemm(tape: Tape, node: Any, gradient: str) -> list[str]:
    """The same for a matrix product with its sum and factors in one node."""
    if attribute(node, "transA", 0):
        raise UncoveredOp(node, "transA is not covered")
    turn, alpha = 1 - attribute(node, "transB", 0), attribute(node, "alpha", 1.0)
    return [tape.op("Gemm", [gradient, node.input[1]], transB=turn, alpha=alpha)]


def batch_normalization(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Each channel times its scale / sqrt(variance + epsilon)."""
    _, scale, _, _, variance = node.input
    epsilon = tape.scalar(attribute(node, "epsilon", 1e-5))
    deviation = tape.op("Sqrt", [tape.op("Add", [variance, epsilon])])
    spread = (len(tape.shape(node, node.input[0])) - 2) * [1]
    factor = tape.op("Reshape", [tape.op("Div", [scale, deviation]), tape.integers(1, -1, *spread)])
    return [tape.op("Mul", [gradient, factor])]


def _narrowed(tape: Tape, node: Any, index: int, gradient: str) -> str:
    """Add up what a gradient has along the sides to which an operand was broadcast."""
    given = tape.shape(node, node.input[index])
    wide = tape.shape(node, node.output[0])
    lead = len(wide) - len(given)
    axes = [
        axis
        for axis, side in enumerate(wide)
        if axis < lead or (given[axis - lead] == 1 and side != 1)
    ]
    if not axes:
        return gradient
    total = tape.op("ReduceSum", [gradient, tape.integers(*axes)], keepdims=1)
    return tape.op("Reshape", [total, tape.op("Shape", [node.input[index]])])
