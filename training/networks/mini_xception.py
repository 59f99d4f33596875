"""mini-Xception: four residual modules of depth-wise separable convolutions.

`mini_xception.txt`, section VII; layer for layer the published network of Arriaga et al. 2017
(58,423 parameters for seven classes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

STEM_FILTERS = (8, 8)
MODULE_FILTERS = (16, 32, 64, 128)


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    stem: tuple[int, ...] = STEM_FILTERS,
    modules: tuple[int, ...] = MODULE_FILTERS,
    standardize: bool = False,
) -> Any:
    """A Keras model: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C; the original takes 64, 64, 1.
        classes: number of labels of each head.
        stem: filters of the plain convolutions.
        modules: filters of the residual modules.
        standardize: bring each image to mean 0 and variance 1, so that no weights are spent on the
            light of a scene; the original only scales the pixels.
    """
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    if standardize:
        x = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, epsilon=4e-4)(x)
    for filters in stem:
        x = layers.Conv2D(filters, 3, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    for filters in modules:
        x = _module(x, filters)
    return keras.Model(image, {head: _head(x, head, n) for head, n in classes.items()})


def _module(x: Any, filters: int) -> Any:
    # (N, S, S, C) -> (N, S/2, S/2, filters)
    shortcut = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False)(x)
    shortcut = layers.BatchNormalization()(shortcut)
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.BatchNormalization()(x))
    return layers.Add()([x, shortcut])


def _head(x: Any, name: str, classes: int) -> Any:
    x = layers.Conv2D(classes, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D(name=f"{name}_logits", dtype="float32")(x)
