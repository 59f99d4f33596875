"""How the gradient goes back through each kind of node; a file for each family of them.

A rule takes the tape, the node and the name of the gradient of its output, and gives those of its
first inputs, in their order. What an input that does not depend on the image gets is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from export.rules import activation, arithmetic, convolution, pooling, shaping
from export.tape import Tape

Rule = Callable[[Tape, Any, str], Sequence[str]]

RULES: Mapping[str, Rule] = {
    "Relu": activation.relu,
    "LeakyRelu": activation.leaky_relu,
    "Clip": activation.clip,
    "Sigmoid": activation.sigmoid,
    "Tanh": activation.tanh,
    "Softmax": activation.softmax,
    "Add": arithmetic.add,
    "Sub": arithmetic.sub,
    "Mul": arithmetic.mul,
    "Div": arithmetic.div,
    "Neg": arithmetic.neg,
    "Sqrt": arithmetic.sqrt,
    "Reciprocal": arithmetic.reciprocal,
    "Log": arithmetic.log,
    "Pow": arithmetic.power,
    "MatMul": arithmetic.matmul,
    "Gemm": arithmetic.gemm,
    "BatchNormalization": arithmetic.batch_normalization,
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "MaxPool": pooling.max_pool,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_average_pool,
    "ReduceMean": pooling.reduce_mean,
    "ReduceSum": pooling.reduce_sum,
    "Identity": shaping.same,
    "Cast": shaping.cast,
    "Dropout": shaping.same,
    "Reshape": shaping.reshape,
    "Flatten": shaping.reshape,
    "Squeeze": shaping.reshape,
    "Unsqueeze": shaping.reshape,
    "Transpose": shaping.transpose,
    "Concat": shaping.concat,
    "Slice": shaping.cut,
    "Gather": shaping.gather,
    "Pad": shaping.pad,
    "ReverseSequence": shaping.reverse_sequence,
}
