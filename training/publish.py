"""From a run's averaged weights to `models/<name>/model.keras`: calibrated probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from service.types import Head
from training import calibrate
from training.batches import whole_crops
from training.datasets import Samples
from training.recipe import Recipe
from training.train import Run, predict

KERAS_FILE = "model.keras"
CALIBRATION_FILE = "calibration.json"


def publish(run: Run, models: Path) -> Path:
    """Calibrate the run's averaged network on its tune parts and write it to `models/<name>`.

    Returns:
        The model's folder.
    """
    folder = models / run.recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    logits = mirrored(run.averaged()) if run.recipe.mirror else run.averaged()
    heads = calibration(logits, run.recipe, run.tune)
    temperatures = {head: values["temperature"] for head, values in heads.items()}
    probabilities(logits, temperatures).save(folder / KERAS_FILE)
    record = {
        "recipe": run.recipe.name,
        "seed": run.seed,
        "epochs": len(run.epochs),
        "splits": run.splits,
        "heads": heads,
    }
    (folder / CALIBRATION_FILE).write_text(json.dumps(record, indent=1) + "\n")
    return folder


def calibration(
    logits: Any, recipe: Recipe, tune: Mapping[str, Samples]
) -> dict[Head, dict[str, float]]:
    """Temperature and threshold of each head, on the tune parts of all sets that label it."""
    found: dict[Head, list[Any]] = {head: [] for head in recipe.labels}
    for samples in tune.values():
        outputs = predict(logits, whole_crops(samples, recipe.input))
        for head in [head for head in recipe.labels if head in samples.labels]:
            found[head].append((outputs[head], samples.labels[head]))
    result: dict[Head, dict[str, float]] = {}
    for head, pairs in found.items():
        values = np.concatenate([outputs for outputs, _ in pairs])
        labels = np.concatenate([labels for _, labels in pairs])
        temperature = calibrate.temperature(values, labels)
        calibrated = calibrate.softmax(values, temperature)
        result[head] = {
            "temperature": temperature,
            "uncertain_below": calibrate.uncertain_below(calibrated, labels),
            "samples": len(labels),
            "nll_before": round(calibrate.nll(values, labels, 1.0), 4),
            "nll_after": round(calibrate.nll(values, labels, temperature), 4),
        }
    return result


def mirrored(logits: Any) -> Any:
    """The same network, giving the mean of its logits over a crop and its mirror image."""
    image = keras.Input(logits.input.shape[1:], name="image")
    # One pass over both: (2N, S, S, C), the mirror images last.
    outputs = logits(layers.Concatenate(axis=0)([image, ops.flip(image, axis=2)]))
    return keras.Model(
        image,
        {
            head: ops.mean(ops.reshape(values, (2, -1, values.shape[-1])), axis=0)
            for head, values in outputs.items()
        },
    )


def probabilities(logits: Any, temperatures: Mapping[Head, float]) -> Any:
    """The network with temperature and softmax inside: `image` -> {head: probabilities (N, K)}."""
    outputs = {}
    for head, temperature in temperatures.items():
        scaled = layers.Rescaling(1 / temperature, name=f"{head}_temperature")(logits.output[head])
        outputs[head] = layers.Softmax(name=head)(scaled)
    return keras.Model(logits.input, outputs)
