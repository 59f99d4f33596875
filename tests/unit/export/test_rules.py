"""Each rule of `export.rules` against TensorFlow's gradient, on a graph of few nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from export.explain import explanation
from export.reverse import pull_back
from export.tape import Tape, UncoveredOp

SIZE, CHANNELS, CLASSES = 8, 2, 3
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 1, (4, 2, 3, 3)).astype(np.float32)
GROUPED = RNG.normal(0, 1, (4, 1, 3, 3)).astype(np.float32)
DENSE = RNG.normal(0, 1, (8, 5)).astype(np.float32)
VECTOR = np.array([0.5, 2.0], np.float32)
COLUMN = VECTOR.reshape(2, 1, 1)


def node(kind: str, *inputs: Any, out: str = "y", **attributes: Any) -> Any:
    """A node whose inputs are names or arrays."""
    return kind, inputs, out, attributes


def last(x: Any) -> Any:
    return tf.transpose(x, [0, 2, 3, 1])


def first(x: Any) -> Any:
    return tf.transpose(x, [0, 3, 1, 2])


def padded(x: Any, above: int, below: int) -> Any:
    return tf.pad(x, [[0, 0], [0, 0], [above, below], [above, below]])


def conv(x: Any, kernel: Any, stride: int = 1, dilation: int = 1) -> Any:
    filters = kernel.transpose(2, 3, 1, 0)  # kH, kW, C / groups, M
    return first(tf.nn.conv2d(last(x), filters, stride, "VALID", dilations=dilation))


def conv_transpose(x: Any) -> Any:
    # A stride of 2 puts zeros between, and a convolution with the turned kernel follows.
    spread = tf.reshape(tf.stack([x, tf.zeros_like(x)], -1), [-1, CHANNELS, SIZE, 2 * SIZE])
    spread = tf.stack([spread, tf.zeros_like(spread)], 3)
    spread = tf.reshape(spread, [-1, CHANNELS, 2 * SIZE, 2 * SIZE])
    turned = KERNEL[:2, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    return conv(tf.pad(spread, [[0, 0], [0, 0], [1, 1], [1, 1]]), turned)


def pool(x: Any, kind: str, stride: int, padding: str) -> Any:
    return first(tf.nn.pool(last(x), [3, 3], kind, [stride, stride], padding))


def whitened(x: Any) -> Any:
    spread = x - tf.reduce_mean(x, [1, 2, 3], keepdims=True)
    return spread / tf.sqrt(tf.reduce_mean(spread * spread, [1, 2, 3], keepdims=True) + 0.1)


SIDES = np.array([1, 2, 3])
ROUND = {"kernel_shape": [3, 3], "strides": [2, 2]}
CASES: dict[str, tuple[Sequence[Any], Callable[[Any], Any]]] = {
    "conv": ([node("Conv", "x", KERNEL)], lambda x: conv(x, KERNEL)),
    "conv strided, asymmetric": (
        [node("Conv", "x", KERNEL, strides=[2, 2], pads=[0, 0, 1, 1])],
        lambda x: conv(padded(x, 0, 1), KERNEL, 2),
    ),
    "conv same_upper": (
        [node("Conv", "x", KERNEL, strides=[2, 2], auto_pad="SAME_UPPER")],
        lambda x: conv(padded(x, 0, 1), KERNEL, 2),
    ),
    "conv same_lower": (
        [node("Conv", "x", KERNEL, strides=[2, 2], auto_pad="SAME_LOWER")],
        lambda x: conv(padded(x, 1, 0), KERNEL, 2),
    ),
    "conv with a rest": (
        [node("Conv", "x", KERNEL, strides=[3, 3], auto_pad="VALID")],
        lambda x: conv(x, KERNEL, 3),
    ),
    "conv dilated": (
        [node("Conv", "x", KERNEL, dilations=[2, 2])],
        lambda x: conv(x, KERNEL, dilation=2),
    ),
    "conv grouped": (
        [node("Conv", "x", GROUPED, group=2, pads=[1, 1, 1, 1])],
        lambda x: tf.concat(
            [conv(padded(x[:, g : g + 1], 1, 1), GROUPED[2 * g : 2 * g + 2]) for g in (0, 1)], 1
        ),
    ),
    "conv_transpose": (
        [
            node(
                "ConvTranspose",
                "x",
                KERNEL[:2],
                strides=[2, 2],
                pads=[1] * 4,
                output_padding=[1] * 2,
            )
        ],
        conv_transpose,
    ),
    "max_pool": (
        [node("MaxPool", "x", pads=[0, 0, 1, 1], **ROUND)],
        lambda x: pool(x, "MAX", 2, "SAME"),
    ),
    "average_pool": (
        [node("AveragePool", "x", pads=[0, 0, 1, 1], **ROUND)],
        lambda x: pool(x, "AVG", 2, "SAME"),
    ),
    "average_pool over its padding": (
        [node("AveragePool", "x", pads=[1] * 4, count_include_pad=1, **ROUND)],
        lambda x: pool(padded(x, 1, 1), "AVG", 2, "VALID"),
    ),
    "global_average_pool": (
        [node("GlobalAveragePool", "x")],
        lambda x: tf.reduce_mean(x, [2, 3]),
    ),
    "reduce_mean": (
        [node("ReduceMean", "x", np.array([2]), keepdims=0)],
        lambda x: tf.reduce_mean(x, 2),
    ),
    "reduce_sum": ([node("ReduceSum", "x", np.array([1]))], lambda x: tf.reduce_sum(x, 1)),
    "whitening": (
        [
            node("ReduceMean", "x", SIDES, out="mean"),
            node("Sub", "x", "mean", out="spread"),
            node("Mul", "spread", "spread", out="square"),
            node("ReduceMean", "square", SIDES, out="variance"),
            node("Add", "variance", np.float32(0.1), out="more"),
            node("Sqrt", "more", out="deviation"),
            node("Div", "spread", "deviation"),
        ],
        whitened,
    ),
    "a gate": (
        [node("Mul", "x", COLUMN, out="weighted"), node("Mul", "weighted", "x")],
        lambda x: COLUMN * x * x,
    ),
    "reciprocal and neg": (
        [
            node("Add", "x", np.float32(1), out="more"),
            node("Reciprocal", "more", out="part"),
            node("Neg", "part"),
        ],
        lambda x: -1 / (x + 1),
    ),
    "log": (
        [node("Softmax", "x", out="shares"), node("Log", "shares")],
        lambda x: tf.math.log(tf.nn.softmax(x)),
    ),
    "pow": ([node("Pow", "x", np.float32(3))], lambda x: x**3),
    "batch_normalization": (
        [node("BatchNormalization", "x", VECTOR, VECTOR + 1, VECTOR, VECTOR * 2, epsilon=0.01)],
        lambda x: (x - COLUMN) / np.sqrt(COLUMN * 2 + 0.01) * COLUMN + COLUMN + 1,
    ),
    "matmul": ([node("MatMul", "x", DENSE)], lambda x: x @ DENSE),
    "gemm": (
        [
            node("ReduceMean", "x", np.array([1, 2]), keepdims=0, out="flat"),
            node("Gemm", "flat", DENSE.T.copy(), transB=1, alpha=0.5, out="dense"),
            node("Gemm", "dense", DENSE[:5]),
        ],
        lambda x: 0.5 * tf.reduce_mean(x, [1, 2]) @ DENSE @ DENSE[:5],
    ),
    "shapes": (
        [
            node("Unsqueeze", "x", np.array([1]), out="wide"),
            node("Squeeze", "wide", np.array([1]), out="narrow"),
            node("Transpose", "narrow", perm=[0, 2, 3, 1], out="turned"),
            node("Identity", "turned", out="same"),
            node("Dropout", "same", out="kept"),
            node("Flatten", "kept", out="flat"),
            node("Mul", "flat", np.arange(128, dtype=np.float32)),
        ],
        lambda x: tf.reshape(last(x), [-1, 128]) * np.arange(128, dtype=np.float32),
    ),
    "concat": (
        [
            node("Mul", "x", np.float32(3), out="more"),
            node("Concat", "x", "more", axis=-3),
        ],
        lambda x: tf.concat([x, 3 * x], 1),
    ),
    "mirrored": (
        [
            node("Transpose", "x", perm=[3, 0, 1, 2], out="turned"),
            node("Shape", "x", start=0, end=1, out="count"),
            node("Expand", np.array([8]), "count", out="lengths"),
            node("ReverseSequence", "turned", "lengths", time_axis=0, batch_axis=1, out="flip"),
            node("Transpose", "flip", perm=[1, 2, 3, 0], out="back"),
            node("Concat", "x", "back", axis=0, out="both"),
            node("Pow", "both", np.float32(2), out="square"),
            node("Reshape", "square", np.array([2, -1, 2, 8, 8]), out="pair"),
            node("ReduceMean", "pair", np.array([0]), keepdims=0),
        ],
        lambda x: (x**2 + tf.reverse(x, [3]) ** 2) / 2,
    ),
    "slice": (
        [
            node(
                "Slice", "x", *(np.array(v) for v in ([0, 1], [2**31 - 1, -1], [0, 2])), out="cut"
            ),
            node("Slice", "cut", *(np.array([v]) for v in (-1, -9, 3, -2)), out="turned"),
            node("Slice", "turned", np.array([0, 0]), np.array([2**31 - 1, 1])),
        ],
        lambda x: x[:, :, 1:-1, ::-2][:, :1],
    ),
    "pad": (
        [node("Pad", "x", np.array([1, 2, 0, 3]), "", np.array([2, 3]))],
        lambda x: tf.pad(x, [[0, 0], [0, 0], [1, 0], [2, 3]]),
    ),
    "relu": ([node("Relu", "x")], tf.nn.relu),
    "clip": (
        [node("Clip", "x", np.float32(0), np.float32(0.501))],
        lambda x: tf.nn.relu(x) - tf.nn.relu(x - 0.501),
    ),
    "leaky_relu": ([node("LeakyRelu", "x", alpha=0.25)], lambda x: tf.nn.leaky_relu(x, 0.25)),
    "sigmoid": ([node("Sigmoid", "x")], tf.sigmoid),
    "tanh": ([node("Tanh", "x")], tf.tanh),
    "softmax inside": ([node("Softmax", "x", axis=-1)], tf.nn.softmax),
}


def image(count: int = 3) -> np.ndarray:
    shape = (count, SIZE, SIZE, CHANNELS)
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def scaled(pixels: Any) -> Any:
    """uint8 (N, S, S, C) -> the `x` of the cases, (N, C, S, S) about -1..1."""
    return first(pixels / 128.0 - 1.0)


def model(nodes: Sequence[Any], weights: np.ndarray, direct: np.ndarray) -> Any:
    """image -> x -> the nodes -> y; logits are a sum over y, and x itself past the nodes.

    The second part shows a sign that is turned, which the map's absolute values would hide.
    """
    wrapped = [
        node("Cast", "image", to=TensorProto.FLOAT, out="float"),
        node("Div", "float", np.float32(128), out="small"),
        node("Sub", "small", np.float32(1), out="centred"),
        node("Transpose", "centred", perm=[0, 3, 1, 2], out="x"),
        *nodes,
        node("Flatten", "y", out="flat_y"),
        node("MatMul", "flat_y", weights, out="logits_y"),
        node("Flatten", "x", out="flat_x"),
        node("MatMul", "flat_x", direct, out="logits_x"),
        node("Add", "logits_y", "logits_x", out="logits"),
        node("Softmax", "logits", out="emotion"),
    ]
    constants: list[Any] = []

    def name(value: Any) -> str:
        if isinstance(value, str):
            return value
        constants.append(numpy_helper.from_array(np.asarray(value), f"c{len(constants)}"))
        return constants[-1].name

    made = [
        helper.make_node(
            kind, [name(value) for value in inputs], [out], f"{kind}_{k}", **attributes
        )
        for k, (kind, inputs, out, attributes) in enumerate(wrapped)
    ]
    shape = ["N", SIZE, SIZE, CHANNELS]
    graph = helper.make_graph(
        made,
        "case",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("emotion", TensorProto.FLOAT, ["N", CLASSES])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("name", CASES)
def test_rule_gives_tensorflows_gradient(name: str) -> None:
    nodes, reference = CASES[name]
    pixels = image()
    count = int(np.prod(reference(scaled(pixels.astype(np.float32))).shape[1:]))
    rng = np.random.default_rng(2)
    weights = rng.normal(0, 1, (count, CLASSES)).astype(np.float32)
    direct = rng.normal(0, 1, (SIZE * SIZE * CHANNELS, CLASSES)).astype(np.float32)

    @tf.function
    def gradient(values: Any, classes: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            x = scaled(values)
            y = reference(x)
            flat_y, flat_x = (tf.reshape(t, [len(pixels), -1]) for t in (y, x))
            logits = tf.gather(flat_y @ weights + flat_x @ direct, classes, batch_dims=1)
        return tape.gradient(logits, values)

    classes = np.array([0, 1, 2])
    expected = gradient(tf.constant(pixels, tf.float32), classes).numpy()
    session = ort.InferenceSession(explanation(model(nodes, weights, direct)).SerializeToString())
    feeds = {"image": pixels, "class": classes, "guided": np.array(False)}
    (actual,) = session.run(["map"], feeds)
    np.testing.assert_allclose(actual, np.abs(expected).max(axis=3), rtol=1e-3, atol=1e-7)


def test_guided_relus_stop_what_would_lower_the_class() -> None:
    """x > 0 and gradient > 0, by hand: two ReLUs in a row over one weight of each sign."""
    nodes = [
        node("Mul", "x", np.float32(1), out="in"),
        node("Relu", "in", out="kept"),
        node("Clip", "kept", np.float32(0), np.float32(9)),
    ]
    weights = np.tile(np.array([[1.0, -1.0, 0.0]], np.float32), (SIZE * SIZE * CHANNELS, 1))
    graph = explanation(model(nodes, weights, np.zeros_like(weights)))
    session = ort.InferenceSession(graph.SerializeToString())
    pixels = image(1)
    positive = (pixels > 128).any(axis=3)
    for guided in (True, False):
        raises, lowers = (
            session.run(None, {"image": pixels, "class": [k], "guided": np.array(guided)})[0]
            for k in (0, 1)
        )
        np.testing.assert_array_equal(raises > 0, positive)
        np.testing.assert_array_equal(lowers > 0, positive & (not guided))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Cast", "x", to=TensorProto.FLOAT16)], "Cast node .*: only casts to float32"),
        ([node("Erf", "x")], "Erf node 'Erf_4': no rule for its gradient"),
        ([node("MatMul", "x", "x")], "MatMul node 'MatMul_4': its second input is no matrix"),
        (
            [node("Relu", "x", out="a"), node("Conv", "x", "a")],
            "Conv node 'Conv_5': its input 1 is no",
        ),
        ([node("Gemm", "x", "x")], "Gemm node 'Gemm_4': its input 1 depends on the image"),
        ([node("Clip", "x", np.float32(-1), np.float32(1))], "Clip node .*: only ReLUs"),
        ([node("Pad", "x", np.array([1] * 8), mode="reflect")], "Pad node .*: only padding"),
        ([node("ReduceSum", "x", noop_with_empty_axes=0)], "ReduceSum node .*: it has no axes"),
        ([node("AveragePool", "x", ceil_mode=1, **ROUND)], "AveragePool node .*: ceil_mode"),
        ([node("Pow", "x", COLUMN)], "Pow node .*: its exponent is not one number"),
    ],
)
def test_what_is_not_covered_is_named(nodes: Sequence[Any], message: str) -> None:
    filler = np.ones((1, CLASSES), np.float32)
    with pytest.raises(UncoveredOp, match=message):
        pull_back(Tape(model(nodes, filler, filler)), {"y": "seed"}, "image")
