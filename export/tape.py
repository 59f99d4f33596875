"""A copy of an ONNX graph that is extended, node by node, towards its own gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

_SHAPELESS = frozenset({"Shape", "Size"})


class UncoveredOp(Exception):
    """The gradient of a node is not known."""

    def __init__(self, node: Any, why: str = "no rule for its gradient") -> None:
        super().__init__(f"{node.op_type} node {node.name!r}: {why}")


class Tape:
    """The nodes and constants of a model, and what is put behind them.

    Attributes:
        nodes: in an order in which they can be run.
        constants: tensors by name, the model's own and new ones.
    """

    def __init__(self, model: Any) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.nodes = [_copy(node) for node in inferred.node]
        self.constants = {tensor.name: tensor for tensor in inferred.initializer}
        self._shapes = {
            value.name: _dims(value)
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
            if value.type.tensor_type.HasField("shape")
        } | {name: tuple(tensor.dims) for name, tensor in self.constants.items()}

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output and give its name."""
        name = f"{kind.lower()}_back_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant and give its name."""
        name = f"constant_back_{len(self.constants)}"
        self.constants[name] = onnx.numpy_helper.from_array(value, name)
        return name

    def integers(self, *values: int) -> str:
        """Add a constant int64 (K,)."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """Add a constant float32 ()."""
        return self.constant(np.array(value, np.float32))

    def value(self, node: Any, index: int) -> NDArray[Any]:
        """What a node's input holds.

        Raises:
            UncoveredOp: it is no constant.
        """
        tensor = self.constants.get(node.input[index])
        if tensor is None:
            raise UncoveredOp(node, f"its input {index} is no constant")
        return onnx.numpy_helper.to_array(tensor)

    def shape(self, node: Any, tensor: str) -> tuple[int | None, ...]:
        """The shape of one of a node's tensors; None for a side that is free, as N.

        Raises:
            UncoveredOp: not even its rank is known.
        """
        if tensor not in self._shapes:
            raise UncoveredOp(node, f"the shape of {tensor!r} is not known")
        return self._shapes[tensor]

    def sides(self, node: Any, tensor: str) -> tuple[int, ...]:
        """Channels, height and width of one of a node's tensors, (N, C, H, W) without N.

        Raises:
            UncoveredOp: one of them is not known.
        """
        known = tuple(side for side in self.shape(node, tensor)[1:] if side is not None)
        if len(known) != 3:
            raise UncoveredOp(node, f"{tensor!r} is not (N, C, H, W) with known sides")
        return known

    def reached_from(self, source: str) -> frozenset[str]:
        """Every tensor whose values depend on `source`'s."""
        reached = {source}
        for node in self.nodes:
            if node.op_type not in _SHAPELESS and reached.intersection(node.input):
                reached.update(node.output)
        return frozenset(reached)

    def needed_for(self, output: str) -> list[Any]:
        """The nodes without which `output` cannot be run, in order."""
        needed, nodes = {output}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        return nodes[::-1]


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute of a node, or what ONNX says it is when it is not given."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _copy(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _dims(value: Any) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
