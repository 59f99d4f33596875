"""Sequential fully-CNN: nine convolutions, global average pooling, and no dense layer.

`mini_xception.txt`, section VII: "9 convolution layers, ReLUs, Batch Normalization, and Global
Average Pooling", the last of them with as many maps as there are classes, about 600,000
parameters. Widths, kernels and poolings are those of Arriaga et al. 2017, whose published network
has a tenth convolution (a second one of 7x7); docs/adr/0006 says what was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

FILTERS = ((16,), (32, 32), (64, 64), (128, 128), (256,))
KERNELS = (7, 5, 3, 3, 3)


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    filters: tuple[tuple[int, ...], ...] = FILTERS,
    kernels: tuple[int, ...] = KERNELS,
    dropout: float = 0.1,
) -> Any:
    """A Keras model: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C.
        classes: number of labels of each head.
        filters: of each convolution, by stage; a pooling by two lies between stages.
        kernels: side of each stage's kernels.
        dropout: share of channels silenced after each pooling.
    """
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    for stage, (widths, kernel) in enumerate(zip(filters, kernels, strict=True)):
        if stage:
            x = layers.SpatialDropout2D(dropout)(layers.AveragePooling2D(2)(x))
        for width in widths:
            x = layers.Conv2D(width, kernel, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(image, {head: _head(x, head, n) for head, n in classes.items()})


def _head(x: Any, name: str, classes: int) -> Any:
    x = layers.Conv2D(classes, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D(name=f"{name}_logits", dtype="float32")(x)
