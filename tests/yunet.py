"""A file of YuNet's format for tests, that needs no training."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def stub_yunet(path, *, side=None, rigid=False, drop=None, classes=1, kind=TensorProto.FLOAT):
    """A file of YuNet's format that takes the brightness of a cell for a face.

    Each cell gives score = mean of blue / 255, a box about the cell's middle of 2 x 3 cells, and
    points on a diagonal.

    Args:
        path: where to write.
        side: size that is declared; None for any.
        rigid: the graph's constants hold for `side` alone.
        drop: an output to leave out.
        classes: width of `cls`.
        kind: element type of the input.
    """
    nodes, outputs = [], []
    constants = {"scale": np.float32([1 / 255]), "zero": np.zeros(1, np.float32)}
    blue = np.zeros((1, 3, 1, 1), np.float32)
    blue[0, 0] = 1
    constants["blue"] = blue
    cast = helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT)
    nodes += [cast, helper.make_node("Conv", ["float", "blue"], ["gray"])]
    bias = {
        **({"cls": np.ones(classes, np.float32)} if classes > 1 else {}),
        "bbox": np.float32([0.5, 0.5, np.log(2), np.log(3)]),
        "kps": np.arange(10, dtype=np.float32) / 10,
    }
    for stride in (8, 16, 32):
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["gray"], [f"mean_{stride}"], **pool))
        nodes.append(helper.make_node("Mul", [f"mean_{stride}", "scale"], [f"unit_{stride}"]))
        for name, width in (("cls", classes), ("obj", 1), ("bbox", 4), ("kps", 10)):
            out = f"{name}_{stride}"
            source = f"unit_{stride}"
            if name in bias:
                constants |= {
                    f"b_{name}": bias[name],
                    f"w_{name}": np.zeros((width, 1, 1, 1), np.float32),
                }
                source = f"map_{out}"
                parts = [f"unit_{stride}", f"w_{name}", f"b_{name}"]
                nodes.append(helper.make_node("Conv", parts, [source]))
            cells = (side // stride) ** 2 if rigid else -1
            constants[f"shape_{out}"] = np.array([1, cells, width], np.int64)
            nodes.append(helper.make_node("Transpose", [source], [f"t_{out}"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"t_{out}", f"shape_{out}"], [out]))
            cells = None if side is None else (side // stride) ** 2
            if out != drop:
                outputs.append(
                    helper.make_tensor_value_info(out, TensorProto.FLOAT, (1, cells, width))
                )
    graph = helper.make_graph(
        nodes,
        "stub",
        [helper.make_tensor_value_info("input", kind, (1, 3, side or "height", side or "width"))],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if side is not None:
        model = onnx.shape_inference.infer_shapes(model)  # as exporters leave them in the file
    path.write_bytes(model.SerializeToString())
    return path
