"""The detector as ONNX: uint8 pictures of any multiple of 32 in, cells out; compared with Keras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.convert import OPSET
from service.card import MODEL_FILE
from service.runtime.detector import CELLS, IMAGE
from service.runtime.session import OrtSession, SessionOptions
from service.vision.cells import CHANNELS, STRIDES
from training.detection.recipe import DetectorRecipe
from training.networks import detector
from training.publish import load_keras

_TWICE, _ROWS, _CHANNEL = "twice", "as_rows", "one_channel"


def convert(recipe: DetectorRecipe, keras_file: Path, folder: Path) -> Path:
    """Write `folder/model.onnx` from a Keras file.

    The graph takes `image` uint8 (N, H, W, 3) BGR, all three free, and gives `cells` float32
    (N, A, 15) as `service.vision.cells` reads them.

    Returns:
        The path of the ONNX file.
    """
    model = detector.folded(load_keras(keras_file), **recipe.network_options)
    graph = _exported(model)
    _double_by_scales(graph.graph)
    _read_rows(graph.graph)
    _prune(graph.graph)
    _rename(graph.graph)
    onnx.helper.set_model_props(
        graph,
        {
            "name": recipe.name,
            "version": recipe.version,
            "source": recipe.source,
            "color": "bgr",
            "strides": ",".join(map(str, STRIDES)),
        },
    )
    graph.doc_string = recipe.summary
    graph.graph.name, graph.graph.doc_string = recipe.name, ""
    onnx.checker.check_model(graph, full_check=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def parity(keras_file: Path, onnx_file: Path, images: Sequence[NDArray[np.uint8]]) -> float:
    """Largest difference of any number of any cell between ONNX and Keras.

    Args:
        keras_file: float32, as training wrote it.
        onnx_file: what `convert` made of it.
        images: uint8 (N, H, W, 3) each, H and W multiples of 32.
    """
    model = load_keras(keras_file)
    session = OrtSession(onnx_file, SessionOptions(provider="cpu"))
    worst = 0.0
    for image in images:
        (cells,) = session.run(IMAGE, image, [CELLS])
        expected = np.asarray(model(image.astype(np.float32), training=False))
        worst = max(worst, float(np.abs(cells - expected).max()))
    return worst


def _exported(model: Any) -> Any:
    import tensorflow as tf
    import tf2onnx

    signature = tf.TensorSpec((None, None, None, 3), tf.uint8, IMAGE)

    @tf.function(input_signature=[signature])
    def serve(image: Any) -> list[Any]:
        return [model(tf.cast(image, tf.float32), training=False)]

    graph, _ = tf2onnx.convert.from_function(serve, input_signature=[signature], opset=OPSET)
    return graph


def _double_by_scales(graph: Any) -> None:
    # ONNX Runtime keeps a resize in its blocked layout only if the scales are constants; tf2onnx
    # computes the size from the shape, with ten small nodes.
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), _TWICE))
    for node in graph.node:
        if node.op_type == "Resize":
            node.input[:] = [node.input[0], "", _TWICE]


def _read_rows(graph: Any) -> None:
    # The first convolution, 3 x 3 over three channels in steps of 2, takes a picture's rows as they
    # lie in memory: one channel, three times as wide, 3 x 9 in steps of 2 and 6. The same sums
    # without a transposition: a tenth of the whole time.
    cast, transposed, conv = graph.node[:3]
    if [node.op_type for node in (cast, transposed, conv)] != ["Cast", "Transpose", "Conv"]:
        raise ValueError("the graph does not begin with a cast, a transposition and a convolution")
    kernel = next(tensor for tensor in graph.initializer if tensor.name == conv.input[1])
    weights = numpy_helper.to_array(kernel).transpose(0, 2, 3, 1)  # (16, 3, 3, 3) of y, x, channel
    rows = weights.reshape(len(weights), 1, 3, 9)
    kernel.CopyFrom(numpy_helper.from_array(rows, kernel.name))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0, 0, -1]), _ROWS),  # (N, H, 3 W)
            numpy_helper.from_array(np.array([1]), _CHANNEL),
        ]
    )
    begin = [
        helper.make_node("Reshape", [cast.input[0], _ROWS], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", _CHANNEL], ["picture"]),
        helper.make_node("Cast", ["picture"], ["pixels"], to=onnx.TensorProto.FLOAT),
        # Sides are even: with steps of 2 SAME fills below and on the right alone.
        helper.make_node(
            "Conv",
            ["pixels", *conv.input[1:]],
            conv.output,
            kernel_shape=[3, 9],
            strides=[2, 6],
            pads=[0, 0, 1, 3],
        ),
    ]
    rest = list(graph.node)[3:]
    del graph.node[:]
    graph.node.extend([*begin, *rest])


def _prune(graph: Any) -> None:
    while True:
        used = {name for node in graph.node for name in node.input}
        used |= {value.name for value in graph.output}
        idle = [node for node in graph.node if not used.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _rename(graph: Any) -> None:
    # As in `export.convert`: TensorFlow's counters would differ from call to call.
    names = {graph.input[0].name: IMAGE, graph.output[0].name: CELLS, "": ""}
    weights = {tensor.name for tensor in graph.initializer}
    for tensor in (name for node in graph.node for name in node.input if name in weights):
        names.setdefault(tensor, f"weight_{len(names)}")
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    graph.initializer.sort(key=lambda tensor: int(tensor.name.rpartition("_")[2]))
    for number, node in enumerate(graph.node):
        for tensor in node.output:
            names.setdefault(tensor, f"{node.op_type.lower()}_{len(names)}")
        node.name = f"{node.op_type.lower()}_{number}"
        node.input[:] = [names[tensor] for tensor in node.input]
        node.output[:] = [names[tensor] for tensor in node.output]
    del graph.value_info[:]
    graph.input[0].name, graph.output[0].name = IMAGE, CELLS
    _name_sizes(graph.input[0], ("N", "H", "W", 3))
    _name_sizes(graph.output[0], ("N", "A", CHANNELS))


def _name_sizes(value: Any, sizes: Sequence[str | int]) -> None:
    del value.type.tensor_type.shape.dim[:]
    for size in sizes:
        dimension = value.type.tensor_type.shape.dim.add()
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size
