"""Convolutions: plain, strided, dilated, grouped; a transposed one is the gradient of a plain one.

Both keep the same weights (M, C / groups, kH, kW), so that no weight is stored for the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from export.tape import Tape, attribute


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel goes over a picture; (y, x) each."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    """Padding above and to the left."""
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels from the first to the last that a kernel sees."""
        (height, width), (down, right) = self.kernel, self.dilations
        return (height - 1) * down + 1, (width - 1) * right + 1

    def rest(self, sides: tuple[int, ...]) -> list[int]:
        """Padded pixels below and to the right that no step of the kernel reaches."""
        return [
            (side + before + after - reach) % stride
            for side, before, after, reach, stride in zip(
                sides, self.before, self.after, self.reach, self.strides, strict=True
            )
        ]

    def attributes(self) -> dict[str, Any]:
        """As a node's attributes."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": [*self.before, *self.after],
        }


def window(
    node: Any, kernel: tuple[int, ...], large: tuple[int, ...], small: tuple[int, ...]
) -> Window:
    """Read a node's window, with its padding in numbers.

    Args:
        node: a convolution or pooling.
        kernel: kH, kW.
        large: height and width of its input; of its output if it is transposed.
        small: of the other one.
    """
    strides = tuple(attribute(node, "strides", [1, 1]))
    dilations = tuple(attribute(node, "dilations", [1, 1]))
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = attribute(node, "pads", [0, 0, 0, 0])
        return Window(kernel, strides, dilations, tuple(pads[:2]), tuple(pads[2:]))
    bare = Window(kernel, strides, dilations, (0, 0), (0, 0))
    totals = [
        0 if auto == "VALID" else max((few - 1) * stride + reach - many, 0)
        for few, stride, reach, many in zip(small, strides, bare.reach, large, strict=True)
    ]
    # SAME_LOWER has the odd pixel before, SAME_UPPER behind.
    before = tuple((total + (auto == "SAME_LOWER")) // 2 for total in totals)
    after = tuple(total - first for total, first in zip(totals, before, strict=True))
    return Window(kernel, strides, dilations, before, after)


def conv(tape: Tape, node: Any, gradient: str) -> list[str]:
    """A transposed convolution with the same weights."""
    kernel = tape.value(node, 1).shape[2:]
    large = tape.sides(node, node.input[0])[1:]
    small = tape.sides(node, node.output[0])[1:]
    seen = window(node, kernel, large, small)
    return [
        tape.op(
            "ConvTranspose",
            [gradient, node.input[1]],
            group=attribute(node, "group", 1),
            output_padding=seen.rest(large),
            **seen.attributes(),
        )
    ]


def conv_transpose(tape: Tape, node: Any, gradient: str) -> list[str]:
    """A convolution with the same weights."""
    kernel = tape.value(node, 1).shape[2:]
    small = tape.sides(node, node.input[0])[1:]
    large = tape.sides(node, node.output[0])[1:]
    seen = window(node, kernel, large, small)
    group = attribute(node, "group", 1)
    return [tape.op("Conv", [gradient, node.input[1]], group=group, **seen.attributes())]
