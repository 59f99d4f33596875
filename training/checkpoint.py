"""A run's state in one file: weights, optimizer, averages, history; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.schedule import WeightAverage

CHECKPOINT = "checkpoint.npz"


def write(
    folder: Path,
    model: Any,
    average: WeightAverage,
    epochs: Sequence[dict[str, Any]],
    best: Sequence[NDArray[np.float32]] = (),
) -> None:
    """Write `folder/checkpoint.npz`.

    Args:
        folder: of the run.
        model: compiled; its optimizer's moments are written too.
        average: of the weights.
        epochs: the history.
        best: averaged weights of the epoch that is kept, if it need not be the last.
    """
    arrays: dict[str, Any] = {f"state{i}": np.asarray(v) for i, v in enumerate(_state(model))}
    arrays |= {f"average{i}": v for i, v in enumerate(average.weights or ())}
    arrays |= {f"best{i}": v for i, v in enumerate(best)}
    arrays["updates"] = np.asarray(average.updates)
    arrays["history"] = np.asarray(json.dumps(list(epochs)))
    temporary = folder / "checkpoint.tmp.npz"
    np.savez(temporary, **arrays)
    os.replace(temporary, folder / CHECKPOINT)


def read(
    folder: Path, model: Any, average: WeightAverage
) -> tuple[list[dict[str, Any]], list[NDArray[np.float32]]]:
    """Put a checkpoint's state into model and average.

    Returns:
        The history, and the weights of the best epoch; both empty where there is no checkpoint.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return [], []
    with np.load(path) as saved:
        for index, variable in enumerate(_state(model)):
            variable.assign(saved[f"state{index}"])
        count = len(model.get_weights())
        average.weights = [saved[f"average{index}"] for index in range(count)]
        average.updates = int(saved["updates"])
        best = [saved[f"best{index}"] for index in range(count)] if "best0" in saved else []
        return json.loads(str(saved["history"])), best


def _state(model: Any) -> list[Any]:
    # Weights, the state of dropout's random generators, and the optimizer's moments.
    seeds = [
        layer.seed_generator.state for layer in model.layers if hasattr(layer, "seed_generator")
    ]
    return [*model.weights, *seeds, *model.optimizer.variables]
