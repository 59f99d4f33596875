"""What was measured of a model and its variants, and which of them is to be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from export.variants.timing import Times
from training.tables import table

RECORD_FILE = "quantization.json"
PAGE_FILE = "quantization.md"
BASE = "float32"
ALLOWED_LOSS = 0.3
"""Points of accuracy that a variant may lose, for any head on any set."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One file.

    Attributes:
        size: in bytes.
        accuracy: (head, set) -> share of right answers.
        times: of a face.
    """

    size: int
    accuracy: Mapping[tuple[str, str], float]
    times: Times


def rows(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """One row for each file, ready for JSON; the first is what the others are held against."""
    base = next(iter(measured.values()))
    return [
        {
            "variant": name,
            "bytes": found.size,
            "accuracy": [
                {"head": head, "data": data, "value": value}
                for (head, data), value in found.accuracy.items()
            ],
            "lost_points": _lost(found, base),
            "ms_per_face": {str(faces): ms for faces, ms in found.times.ms.items()},
            "time_ratio": {str(faces): ratio for faces, ratio in found.times.ratio.items()},
        }
        for name, found in measured.items()
    ]


def chosen(measured: Mapping[str, Measured]) -> str:
    """The fastest variant that loses no more than is allowed and is faster at every batch size.

    Returns:
        Its name; that of the first file where no variant is.
    """
    base_name, base = next(iter(measured.items()))
    good = {
        name: max(found.times.ratio.values())
        for name, found in measured.items()
        if _lost(found, base) <= ALLOWED_LOSS and max(found.times.ratio.values()) < 1
    }
    return min(good, key=lambda name: good[name], default=base_name)


def page(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    sizes = list(record["rows"][0]["ms_per_face"])
    measures = [f"{a['head']}, {a['data']}" for a in record["rows"][0]["accuracy"]]
    times = [f"ms a face, {size} in a run" for size in sizes]
    header = ["file", "MB", *measures, "points lost", *times]
    return "\n".join(
        [
            f"# Variants of {record['model']}",
            "",
            f"Served by default: **{record['default']}**. Written by `python -m export quantize "
            f"{record['model']}`; do not edit.",
            "",
            *table(header, ([*_cells(row, sizes)] for row in record["rows"])),
            "",
            f"One thread of {record['cpu']}, ONNX Runtime {record['onnxruntime']}, in turns within "
            f"one run; in brackets the time over that of {BASE}. A variant is the default where it "
            f"loses at most {record['allowed_loss_points']} points on every set and is faster.",
            "",
        ]
    )


def _cells(row: Mapping[str, Any], sizes: list[str]) -> list[str]:
    ratios = row["time_ratio"]
    return [
        row["variant"],
        f"{row['bytes'] / 1e6:.2f}",
        *(f"{accuracy['value']:.2%}" for accuracy in row["accuracy"]),
        f"{row['lost_points']:.2f}",
        *(f"{row['ms_per_face'][size]:.2f} ({ratios[size]:.2f})" for size in sizes),
    ]


def _lost(found: Measured, base: Measured) -> float:
    # The worst head and set; less than nothing where the variant is better on all of them.
    worst = max(base.accuracy[key] - found.accuracy[key] for key in base.accuracy)
    return round(worst * 100, 2) + 0.0
