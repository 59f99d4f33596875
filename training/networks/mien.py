"""The project's own network: a small residual network with a head for each attribute.

Blocks after He et al. 2016 (arXiv:1512.03385): plain 3x3 convolutions, which ONNX Runtime runs at
several times the arithmetic of depth-wise ones; strides instead of pooling, so that little is
computed at full size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

STEM = 32
FILTERS = (48, 96, 160)


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    stem: int = STEM,
    filters: tuple[int, ...] = FILTERS,
    dropout: float = 0.2,
) -> Any:
    """A Keras model: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C; S is a multiple of 16.
        classes: number of labels of each head.
        stem: filters of the first convolution.
        filters: of each stage; a stage halves the picture and adds one residual block.
        dropout: share of features silenced before the heads.
    """
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.ReLU()(_convolve(x, stem, 2))  # (N, S/2, S/2, stem)
    for width in filters:
        x = layers.ReLU()(_convolve(x, width, 2))
        y = _convolve(layers.ReLU()(_convolve(x, width)), width)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(
        image,
        {
            head: layers.Dense(n, name=f"{head}_logits", dtype="float32")(x)
            for head, n in classes.items()
        },
    )


def _convolve(x: Any, filters: int, strides: int = 1) -> Any:
    x = layers.Conv2D(
        filters,
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    return layers.BatchNormalization()(x)
