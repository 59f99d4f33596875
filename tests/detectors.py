"""A detector for tests that needs no training: what is bright is a face."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from service.vision.cells import CHANNELS, STRIDES

COUNTS = {
    "astronaut.png": 1,
    "detection1.jpg": 1,
    "detection2.jpg": 1,
    "detection3.jpg": 1,
    "detection4.jpg": 3,
    "detection5.jpg": 3,
    "detection6.jpg": 2,
    "faces.jpg": 6,
    "identification1.jpg": 4,
    "multi_face.jpg": 5,
    "Family1-Son1.jpg": 1,
    "Family2-Lady1.jpg": 1,
    "Family3-Man1.jpg": 1,
    "dog.jpg": 0,
    "house.jpg": 0,
    "printed_text.jpg": 0,
}
"""Faces in the photos of ../shared/data/media, as the README there says."""


def detector_fields(name: str, **changes: Any) -> dict[str, Any]:
    """The JSON of a detector's valid card, with `changes` to its top fields."""
    return {
        "name": name,
        "task": "detection",
        "version": "1.0.0",
        "summary": "A detector for tests.",
        "source": "tests/detectors.py",
        "parameters": 1,
        "sha256": "0" * 64,
        "licence": "Apache-2.0",
        "data": [],
        "parity": {"max_abs_error": 0.0, "samples": 1},
        "limits": ["for tests only"],
        "threshold": 0.5,
        "metrics": [],
        "times": [],
    } | changes


def stub_detector(parent: Path, name: str = "detector", **changes: Any) -> Path:
    """Write `parent/name` with a card and a graph that takes the brightness of a cell for a face.

    Each cell says the score of the mean of its blue, 0.5 at half of it; a box about its middle of
    2 x 3 cells, and points on a diagonal from there.

    Args:
        parent: the models folder.
        name: of the detector and its folder.
        changes: to the top fields of the card.
    """
    import onnx

    folder = parent / name
    folder.mkdir(parents=True)
    model = _graph()
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    fields = detector_fields(name, sha256=hashlib.sha256(data).hexdigest()) | changes
    (folder / "card.json").write_text(json.dumps(fields))
    return folder


def _graph() -> Any:
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    blue = np.zeros((1, 3, 1, 1), np.float32)
    blue[0, 0] = 1
    weight, bias = np.zeros((CHANNELS, 1, 1, 1), np.float32), np.zeros(CHANNELS, np.float32)
    weight[0], bias[0] = 20 / 255, -10
    bias[3:5] = np.log([2, 3])
    bias[5:] = np.arange(10) / 10
    constants = {"blue": blue, "weight": weight, "bias": bias, "rows": np.array([0, -1, CHANNELS])}
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "blue"], ["gray"]),
    ]
    for stride in STRIDES:
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            node("AveragePool", ["gray"], [f"mean_{stride}"], **pool),
            node("Conv", [f"mean_{stride}", "weight", "bias"], [f"maps_{stride}"]),
            node("Transpose", [f"maps_{stride}"], [f"last_{stride}"], perm=[0, 2, 3, 1]),
            node("Reshape", [f"last_{stride}", "rows"], [f"cells_{stride}"]),
        ]
    nodes.append(node("Concat", [f"cells_{stride}" for stride in STRIDES], ["cells"], axis=1))
    graph = helper.make_graph(
        nodes,
        "stub",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("cells", TensorProto.FLOAT, ["N", "A", CHANNELS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
