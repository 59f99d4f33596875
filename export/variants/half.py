"""A float32 graph -> fp16: half the bytes, float32 at both ends."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16


def to_half(source: Path, target: Path) -> None:
    """Write the fp16 variant of a graph; input and outputs stay uint8 and float32.

    Softmax stays float32: the service refuses probabilities whose sum is not 1.

    Args:
        source: the float32 file.
        target: where the variant goes.
    """
    blocked = [*DEFAULT_OP_BLOCK_LIST, "Softmax"]
    half = convert_float_to_float16(onnx.load(source), keep_io_types=True, op_block_list=blocked)
    onnx.save(half, target)
