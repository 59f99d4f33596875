"""A float32 graph -> fp16: half the bytes, uint8 and float32 at its ends."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16


def to_half(source: Path, target: Path) -> None:
    """Write the fp16 variant of a graph; input and outputs stay uint8 and float32.

    Args:
        source: the float32 file.
        target: where the variant goes.
    """
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
