"""What moves values without changing them: the gradient moves back."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from export.tape import Tape, UncoveredOp, attribute

_TO_THE_END = 2**31 - 1


def same(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Through as it is."""
    return [gradient]


def cast(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Through as it is, from the pixels to float32."""
    if attribute(node, "to", None) != TensorProto.FLOAT:
        raise UncoveredOp(node, "only casts to float32 are covered")
    return [gradient]


def reshape(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Back into the input's shape."""
    return [tape.op("Reshape", [gradient, tape.op("Shape", [node.input[0]])])]


def transpose(tape: Tape, node: Any, gradient: str) -> list[str]:
    """By the inverse permutation."""
    rank = len(tape.shape(node, node.input[0]))
    order = attribute(node, "perm", list(range(rank))[::-1])
    return [tape.op("Transpose", [gradient], perm=np.argsort(order).tolist())]


def reverse_sequence(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Turned round again: so TensorFlow's flip is exported."""
    axes = {name: attribute(node, name, 0) for name in ("time_axis", "batch_axis")}
    return [tape.op("ReverseSequence", [gradient, node.input[1]], **axes)]


def concat(tape: Tape, node: Any, gradient: str) -> list[str]:
    """To each input its part."""
    axis = attribute(node, "axis", 0) % len(tape.shape(node, node.output[0]))
    lengths = [tape.op("Shape", [part], start=axis, end=axis + 1) for part in node.input]
    first = tape.op("Split", [gradient, tape.op("Concat", lengths, axis=0)], axis=axis)
    others = [f"{first}_{number}" for number in range(1, len(node.input))]
    tape.nodes[-1].output.extend(others)
    return [first, *others]


def cut(tape: Tape, node: Any, gradient: str) -> list[str]:
    """Each value back to where it was cut from, whatever the step; zeros elsewhere."""
    sides = tape.shape(node, node.input[0])
    starts, ends = tape.value(node, 1), tape.value(node, 2)
    axes = tape.value(node, 3) if len(node.input) > 3 else range(len(starts))
    steps = tape.value(node, 4) if len(node.input) > 4 else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if (start, step) == (0, 1) and end >= _TO_THE_END:
            continue
        side = sides[axis]
        if side is None:
            raise UncoveredOp(node, f"the length of its axis {axis} is not known")
        gradient = _put_back(
            tape, gradient, axis % len(sides), _taken(side, start, end, step), side
        )
    return [gradient]


def gather(tape: Tape, node: Any, gradient: str) -> list[str]:
    """The same for places that are named: so labels or channels are put into another order."""
    taken = tape.value(node, 1)
    sides = tape.shape(node, node.input[0])
    axis = attribute(node, "axis", 0) % len(sides)
    side = sides[axis]
    if side is None or taken.ndim != 1 or len({*(taken % side)}) < len(taken):
        raise UncoveredOp(node, "only distinct places on an axis of known length are covered")
    return [_put_back(tape, gradient, axis, (taken % side).tolist(), side)]


def pad(tape: Tape, node: Any, gradient: str) -> list[str]:
    """What was put around is cut off."""
    if attribute(node, "mode", "constant") != "constant":
        raise UncoveredOp(node, "only padding with a constant is covered")
    pads = tape.value(node, 1)
    rank = len(tape.shape(node, node.input[0]))
    axes = tape.value(node, 3) if len(node.input) > 3 else np.arange(rank)
    starts = tape.integers(*pads[: len(axes)])
    lengths = tape.op("Gather", [tape.op("Shape", [node.input[0]]), tape.integers(*axes)])
    ends = tape.op("Add", [starts, lengths])
    return [tape.op("Slice", [gradient, starts, ends, tape.integers(*axes)])]


def _taken(side: int, start: int, end: int, step: int) -> list[int]:
    """The places that a Slice takes; ONNX counts from the end and clamps as Python does."""
    stop: int | None = int(end)
    if step < 0 and end < -side:
        stop = None
    return list(range(side))[int(start) : stop : int(step)]


def _put_back(tape: Tape, gradient: str, axis: int, taken: list[int], side: int) -> str:
    # One zero is put behind the gradient, and every place that was not taken reads it.
    source = np.full(side, len(taken), np.int64)
    source[taken] = np.arange(len(taken))
    ends = tape.op("Pad", [gradient, tape.integers(0, 1), "", tape.integers(axis)], mode="constant")
    return tape.op("Gather", [ends, tape.constant(source)], axis=axis)
