"""The joint CNN: convolutions, pooling and dense layers, shared by an emotion and a gender head.

`joint_emotion_gender_cnn.txt`, section IV (layers, pixels in 0..1) and section VI (the ablation of
dense layers, convolutions and batch normalisation). It gives no numbers: widths are chosen here
(docs/adr/0006).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

FILTERS = (16, 32, 64, 128)
DENSE = (256, 128)


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    filters: tuple[int, ...] = FILTERS,
    convolutions: int = 2,
    dense: tuple[int, ...] = DENSE,
    batch_norm: bool = True,
) -> Any:
    """A Keras model: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C.
        classes: number of labels of each head.
        filters: of each stage; each is pooled by two.
        convolutions: of each stage.
        dense: widths of the shared dense layers; with none, the mean of each map goes to the heads.
        batch_norm: after each convolution and each shared dense layer.
    """
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 255.0)(image)
    for width in filters:
        for _ in range(convolutions):
            x = _activated(_convolution(x, width, batch_norm), batch_norm)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x) if dense else layers.GlobalAveragePooling2D()(x)
    for width in dense:
        x = _activated(_dense(x, width, batch_norm), batch_norm)
    return keras.Model(
        image,
        {
            head: layers.Dense(n, name=f"{head}_logits", dtype="float32")(x)
            for head, n in classes.items()
        },
    )


def _convolution(x: Any, width: int, batch_norm: bool) -> Any:
    return layers.Conv2D(
        width, 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal"
    )(x)


def _dense(x: Any, width: int, batch_norm: bool) -> Any:
    return layers.Dense(width, use_bias=not batch_norm, kernel_initializer="he_normal")(x)


def _activated(x: Any, batch_norm: bool) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(x) if batch_norm else x)
