"""Tiny networks as other people save them, by Keras 3 and by the Keras before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import tf_keras

from export.foreign.wish import Wish

THEIRS = ("neutral", "happy", "angry")
"""Three emotions in an order that is not ours: ours is angry, happy, neutral."""


def network(library: Any, *, classes: int = 3, channels: int = 1, end: str = "softmax") -> Any:
    """A small network of `keras` or `tf_keras` with batch statistics that are not trivial."""
    library.utils.set_random_seed(3)
    layers = library.layers
    image = library.Input((24, 24, channels), name="face")
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.Activation("relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    model = library.Model(image, layers.Dense(classes, activation=end, name="answer")(x))
    norm = model.get_layer("norm")
    norm.set_weights([value + 0.1 * (i + 1) for i, value in enumerate(norm.get_weights())])
    return model


def save(kind: str, folder: Path, **network_options: Any) -> tuple[Path, Path | None]:
    """Write a network in one of the ways that are taken; path and weights."""
    old = network(tf_keras, **network_options) if kind != "keras" else None
    if old is None:
        network(keras, **network_options).save(folder / "new.keras")
        return folder / "new.keras", None
    if kind == "json":
        (folder / "old.json").write_text(old.to_json())
        old.save_weights(folder / "old.h5")
        return folder / "old.json", folder / "old.h5"
    if kind == "saved_model":
        old.save(folder / "graph", save_format="tf")
        return folder / "graph", None
    suffix = {"hdf5": "old.h5", "old_keras": "old.keras"}[kind]
    old.save(folder / suffix)
    return folder / suffix, None


def tampered(folder: Path, layer: dict[str, Any]) -> tuple[Path, Path]:
    """JSON and weights of a network, one layer of it replaced."""
    path, weights = save("json", folder)
    assert weights is not None
    structure = json.loads(path.read_text())
    layers = structure["config"]["layers"]
    place = next(i for i, part in enumerate(layers) if part["config"]["name"] == "norm")
    layers[place] |= layer
    path.write_text(json.dumps(structure))
    return path, weights


def wish(**fields: Any) -> Wish:
    """What is said of `network`."""
    return Wish.model_validate(
        {
            "name": "theirs",
            "source": "a test",
            "licence": "MIT",
            "labels": {"emotion": THEIRS},
            "input": {"color": "gray", "scaling": "-1..1", "framing": {"scale": 1.1}},
        }
        | fields
    )
