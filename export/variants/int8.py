"""A float32 graph -> int8: QuantizeLinear and DequantizeLinear around what is then run in int8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

OPS = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "GlobalAveragePool", "Concat")
BATCH = 32


class Crops(CalibrationDataReader):
    """Calibration crops, uint8 (N, S, S, C), in batches under the input's name."""

    def __init__(self, name: str, crops: NDArray[np.uint8]) -> None:
        starts = range(0, len(crops), BATCH)
        self._batches: Iterator[dict[str, Any]] = iter(
            [{name: crops[start : start + BATCH]} for start in starts]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None when there are no more."""
        return next(self._batches, None)


def to_int8(source: Path, target: Path, crops: NDArray[np.uint8]) -> None:
    """Write the int8 variant of a graph; input and outputs stay uint8 and float32.

    Weights are int8 by output channel and keep to 7 bits: without VNNI, an x86 adds two products
    of 8 bits in 16, which overflows (onnxruntime#12088), and the variant would answer otherwise
    there than here. Activations are uint8 between the mean of the least and of the greatest values
    of the batches: docs/adr/0005 has what else was tried.

    Args:
        source: the float32 file.
        target: where the variant goes.
        crops: uint8 (N, S, S, C), of training faces.
    """
    with tempfile.TemporaryDirectory() as place:
        prepared = Path(place) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared)
        quantize_static(
            str(prepared),
            str(target),
            Crops(graph.graph.input[0].name, crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPS),
            nodes_to_exclude=_first_layers(graph.graph),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )


def _first_layers(graph: Any) -> list[str]:
    # Scaling of the pixels and the first layer stay in float: its few channels are no faster in
    # int8, and what it loses every other layer is told.
    names = []
    for node in graph.node:
        names.append(str(node.name))
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            break
    return names
