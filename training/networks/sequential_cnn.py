"""A Keras Sequential CNN: convolutions, max pooling, dropout and dense layers.

`sequential_cnn_gui.txt`, section V, steps 4 and 5. The paper names the kinds of its layers alone;
their list is that of the tutorials whose `emotion_model.json` and `emotion_model.h5` it saves, with
half of the 1024 dense units (docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

HIDDEN = 512


def build(shape: tuple[int, int, int], classes: Mapping[str, int], hidden: int = HIDDEN) -> Any:
    """A Keras model, one chain: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C.
        classes: number of labels of the one head.
        hidden: width of the dense layer.
    """
    ((head, count),) = classes.items()
    chain = keras.Sequential(
        [
            keras.Input(shape, name="image"),
            layers.Rescaling(1 / 255.0),
            _convolution(32),
            _convolution(64),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            _convolution(128),
            layers.MaxPooling2D(),
            _convolution(128),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(hidden, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(count, name=f"{head}_logits", dtype="float32"),
        ]
    )
    return keras.Model(chain.inputs[0], {head: chain.outputs[0]})


def _convolution(filters: int) -> Any:
    return layers.Conv2D(filters, 3, activation="relu")
