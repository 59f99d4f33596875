"""Maxima and means, over windows and over whole sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.rules.convolution import Window, window
from export.tape import Tape, UncoveredOp, attribute


def max_pool(tape: Tape, node: Any, gradient: str) -> list[str]:
    """To the pixel that each window took; one that several windows took gets the sum.

    ONNX's MaxUnpool overwrites instead of adding, which is wrong for windows that overlap.
    """
    if len(node.output) == 1:
        node.output.append(f"{node.output[0]}_indices")
    size = tape.op("Reshape", [tape.op("Size", [node.input[0]]), tape.integers(1)])
    flat = tape.op(
        "ScatterElements",
        [
            tape.op("ConstantOfShape", [size]),
            tape.op("Reshape", [node.output[1], tape.integers(-1)]),
            tape.op("Reshape", [gradient, tape.integers(-1)]),
        ],
        reduction="add",
    )
    return [tape.op("Reshape", [flat, tape.op("Shape", [node.input[0]])])]


def average_pool(tape: Tape, node: Any, gradient: str) -> list[str]:
    """An equal share to each pixel of a window."""
    if attribute(node, "ceil_mode", 0):
        raise UncoveredOp(node, "ceil_mode is not covered")
    sides = tape.sides(node, node.input[0])
    channels, large, small = sides[0], sides[1:], tape.sides(node, node.output[0])[1:]
    seen = window(node, tuple(attribute(node, "kernel_shape", [])), large, small)
    counts = _counts(seen, large, small, padded=bool(attribute(node, "count_include_pad", 0)))
    shares = tape.op("Div", [gradient, tape.constant(counts)])
    ones = tape.constant(np.ones((channels, 1, *seen.kernel), np.float32))
    return [
        tape.op(
            "ConvTranspose",
            [shares, ones],
            group=channels,
            output_padding=seen.rest(large),
            **seen.attributes(),
        )
    ]


def global_average_pool(tape: Tape, node: Any, gradient: str) -> list[str]:
    """An equal share to each pixel."""
    return [_spread(tape, node, _share(tape, node, gradient))]


def reduce_mean(tape: Tape, node: Any, gradient: str) -> list[str]:
    """An equal share to each value of the mean."""
    return reduce_sum(tape, node, _share(tape, node, gradient))


def reduce_sum(tape: Tape, node: Any, gradient: str) -> list[str]:
    """All of it to each value of the sum."""
    if len(node.input) < 2:
        raise UncoveredOp(node, "it has no axes")
    if not attribute(node, "keepdims", 1):
        gradient = tape.op("Unsqueeze", [gradient, node.input[1]])
    return [_spread(tape, node, gradient)]


def _share(tape: Tape, node: Any, gradient: str) -> str:
    few, many = (
        tape.op("Cast", [tape.op("Size", [tensor])], to=1)
        for tensor in (node.output[0], node.input[0])
    )
    return tape.op("Mul", [gradient, tape.op("Div", [few, many])])


def _spread(tape: Tape, node: Any, gradient: str) -> str:
    return tape.op("Expand", [gradient, tape.op("Shape", [node.input[0]])])


def _counts(
    seen: Window, large: tuple[int, ...], small: tuple[int, ...], *, padded: bool
) -> NDArray[np.float32]:
    """How many pixels each window's mean is taken over: float32 (1, 1, H, W)."""
    rows, columns = (_along(axis, seen, large[axis], small[axis], padded=padded) for axis in (0, 1))
    return np.outer(rows, columns)[None, None].astype(np.float32)


def _along(axis: int, seen: Window, side: int, steps: int, *, padded: bool) -> NDArray[np.int64]:
    first = np.arange(steps) * seen.strides[axis] - seen.before[axis]
    taps = first[:, None] + np.arange(seen.kernel[axis]) * seen.dilations[axis]  # (steps, k)
    inside = (taps >= 0) & (taps < side)
    return (inside | padded).sum(axis=1)
