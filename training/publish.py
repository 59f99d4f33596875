"""From a run's averaged weights to `models/<name>/model.keras`: calibrated probabilities."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import layers, ops

from service.card import HeadSpec
from service.types import Head
from training import calibrate
from training.batches import whole_crops
from training.datasets import Samples
from training.datasets.splits import fold_numbers
from training.errors import WorkError
from training.recipe import Recipe
from training.train import predict

KERAS_FILE = "model.keras"
CALIBRATION_FILE = "calibration.json"
STRUCTURE_FILE = "model.json"
WEIGHTS_FILE = "model.weights.h5"


class NotPublished(WorkError):
    """A model without what `publish` writes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: train and publish the model first")


class Trained(Protocol):
    """What is published: a run, or an ensemble of models that are published already."""

    @property
    def recipe(self) -> Recipe:
        """Of the model."""

    @property
    def validation(self) -> Mapping[str, Samples]:
        """Dataset -> the part that calibrates, in the recipe's labels."""

    @property
    def facts(self) -> dict[str, Any]:
        """What made the weights, for `calibration.json`."""

    def averaged(self) -> Any:
        """A float32 network: `image` -> {head: logits (N, K)}."""


def publish(trained: Trained, models: Path) -> Path:
    """Calibrate a trained network on its validation parts and write it to `models/<name>`.

    Returns:
        The model's folder.
    """
    recipe = trained.recipe
    folder = models / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    logits = mirrored(trained.averaged()) if recipe.mirror else trained.averaged()
    heads = calibration(logits, recipe, trained.validation)
    temperatures = {head: values["temperature"] for head, values in heads.items()}
    model = probabilities(logits, temperatures)
    model.save(folder / KERAS_FILE)
    if recipe.network == "sequential_cnn":
        save_apart(model, folder)
    record = {"recipe": recipe.name, **trained.facts, "heads": heads}
    (folder / CALIBRATION_FILE).write_text(json.dumps(record, indent=1) + "\n")
    return folder


def published_file(path: Path) -> Path:
    """The path, if there is something at it.

    Raises:
        NotPublished: there is nothing.
    """
    if not path.exists():
        raise NotPublished(f"there is no {path}")
    return path


def load_keras(path: Path) -> Any:
    """The Keras model for inference, without optimizer or loss.

    Raises:
        NotPublished: there is none.
    """
    return keras.saving.load_model(published_file(path), compile=False)


def read_heads(recipe: Recipe, folder: Path) -> dict[Head, HeadSpec]:
    """The heads of a model, as its recipe and its calibration give them.

    Raises:
        NotPublished: there is no calibration, or it lacks a head.
    """
    path = published_file(folder / CALIBRATION_FILE)
    known = json.loads(path.read_text())["heads"]
    if missing := [head for head in recipe.labels if head not in known]:
        raise NotPublished(f"{path} lacks {', '.join(missing)}")
    return {
        head: HeadSpec(
            labels=labels,
            temperature=known[head]["temperature"],
            uncertain_below=known[head]["uncertain_below"],
        )
        for head, labels in recipe.labels.items()
    }


def save_apart(model: Any, folder: Path) -> None:
    """Write structure as JSON and weights as HDF5; `sequential_cnn_gui.txt`, section V, step 8.

    Args:
        model: a chain of layers with one head, as `probabilities` gives it; it is written as a
            Keras Sequential model, `image` (N, S, S, C) in 0..255 -> probabilities (N, K).
        folder: of the model.
    """
    chain = keras.Sequential(model.layers, name=folder.name)
    (folder / STRUCTURE_FILE).write_text(chain.to_json(indent=1) + "\n")
    chain.save_weights(folder / WEIGHTS_FILE)


def calibration(
    logits: Any, recipe: Recipe, validation: Mapping[str, Samples]
) -> dict[Head, dict[str, Any]]:
    """Temperature and threshold of each head, on the validation parts of all sets that label it."""
    found: dict[Head, list[Any]] = {head: [] for head in recipe.labels}
    for samples in validation.values():
        folds = fold_numbers(samples.name, samples.groups, calibrate.FOLDS)
        outputs = predict(logits, whole_crops(samples, recipe.input))
        for head in [head for head in recipe.labels if head in samples.labels]:
            found[head].append((outputs[head], samples.labels[head], folds))
    result: dict[Head, dict[str, Any]] = {}
    for head, rows in found.items():
        values, labels, folds = (np.concatenate(column) for column in zip(*rows, strict=True))
        fitted = calibrate.fit(values, labels, folds)
        result[head] = {
            **dataclasses.asdict(fitted),
            "samples": len(labels),
            "nll_before": round(calibrate.nll(values, labels, 1.0), 4),
            "nll_after": round(calibrate.nll(values, labels, fitted.temperature), 4),
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
