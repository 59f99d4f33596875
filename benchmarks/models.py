"""Time of one face in every committed model, on one CPU thread, in turns within one run.

What counts is the CPU time of the thread: ONNX Runtime with one thread runs on the caller's. Beside
other work the wall time of 2.5 ms came out as 6.5 ms within the hour, the CPU time as 2.3 to 2.6.
`python -m benchmarks.models` writes `benchmarks/models.json`, for `docs/results.md`.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from export.variants.timing import processor
from service.card import MODEL_FILE
from service.runtime.registry import Model, load_models
from service.runtime.session import SessionOptions
from service.types import CropItem

MODELS = Path(__file__).parent.parent / "models"
RECORD = Path(__file__).with_name("models.json")
REFERENCE = "mini_xception_emotion"
ROUNDS, MANY_ROUNDS, BATCH = 200, 20, 32


def main(path: Path | None = None) -> None:
    """Measure and print; write the record to `path`, if there is one."""
    record = measure(load_models(MODELS, (), SessionOptions("cpu", threads=1)))
    columns = ("model", "ms", f"times {REFERENCE}", f"ms a face in {BATCH}")
    table = Table(
        *columns, title=f"One face, one thread, CPU time, p50 of {ROUNDS}; {record['cpu']}"
    )
    for name, row in record["models"].items():
        table.add_row(name, *(f"{row[key]:.2f}" for key in ("ms", "ratio", "ms_in_batch")))
    Console().print(table)
    if path:
        path.write_text(json.dumps(record, indent=1) + "\n")


def measure(models: dict[str, Model], reference: str = REFERENCE) -> dict[str, Any]:
    """By model: `ms` of one face, `ratio` to the reference, `ms_in_batch` of a face among 32."""
    for model in models.values():
        model.warm_up()
    alone, batched = _median_ms(models, 1, ROUNDS), _median_ms(models, BATCH, MANY_ROUNDS)
    return {
        "cpu": processor(),
        "threads": 1,
        "reference": reference,
        "models": {
            name: {
                "sha256": model.card.sha256,
                "bytes": (MODELS / name / MODEL_FILE).stat().st_size,
                "ms": round(alone[name], 3),
                "ratio": round(alone[name] / alone[reference], 3),
                "ms_in_batch": round(batched[name] / BATCH, 3),
            }
            for name, model in models.items()
        },
    }


def _median_ms(models: dict[str, Model], faces: int, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    batches = {}
    for name, model in models.items():
        spec, heads = model.card.input, tuple(model.card.heads)
        crops = rng.integers(0, 256, (faces, spec.size, spec.size, spec.channels), np.uint8)
        batches[name] = [CropItem(crop, heads) for crop in crops]
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            started = time.thread_time()
            model.run(batches[name])
            times[name].append(time.thread_time() - started)
    return {name: statistics.median(taken) * 1000 for name, taken in times.items()}


if __name__ == "__main__":
    main(RECORD)
