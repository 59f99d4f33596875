"""The CNN of four layers that the ensemble averages with mini-Xception.

`ensemble_cnn.txt`, section III, calls it "a simple 4-layer CNN model" and shows it in a figure
alone: four convolutions, each pooled, and dense layers, widths chosen here (docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

FILTERS = (32, 64, 128, 256)


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    filters: tuple[int, ...] = FILTERS,
    hidden: int = 256,
    dropout: float = 0.4,
    spatial_dropout: float = 0.1,
) -> Any:
    """A Keras model: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C.
        classes: number of labels of each head.
        filters: of each convolution; each is pooled by two.
        hidden: width of the dense layer before the heads.
        dropout: share of features silenced before each dense layer.
        spatial_dropout: share of channels silenced after each pooling.
    """
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 255.0)(image)
    # Per-image mean 0 and variance 1: unlike its partner it does not see the light of a scene.
    x = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, epsilon=1e-4)(x)
    for number, width in enumerate(filters):
        x = layers.Conv2D(width, 3 if number else 5, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.SpatialDropout2D(spatial_dropout)(layers.MaxPooling2D()(x))
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    x = layers.Dense(hidden, use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.Dropout(dropout)(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(
        image,
        {
            head: layers.Dense(n, name=f"{head}_logits", dtype="float32")(x)
            for head, n in classes.items()
        },
    )
