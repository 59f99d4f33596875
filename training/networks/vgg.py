"""VGG: stacks of 3x3 convolutions, each with batch normalisation, and pooling between the stacks.

After Simonyan and Zisserman 2015 (arXiv:1409.1556), for small pictures and without its dense
layers. Larger than the papers' networks: it teaches them (`training.distill`), and is served to
those who would rather be right than fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

FILTERS = (32, 64, 64, 128, 128, 256, 256)


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    filters: tuple[int, ...] = FILTERS,
    dropout: float = 0.4,
    spatial_dropout: float = 0.1,
) -> Any:
    """A Keras model: `image` (N, S, S, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C.
        classes: number of labels of each head.
        filters: of each convolution; a pooling by two comes before every change.
        dropout: share of features silenced before the heads.
        spatial_dropout: share of channels silenced after each pooling.
    """
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 255.0)(image)
    # Per-image mean 0 and variance 1: the light of a scene is no cue.
    x = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, epsilon=1e-4)(x)
    for number, width in enumerate(filters):
        if number and width != filters[number - 1]:
            x = layers.SpatialDropout2D(spatial_dropout)(layers.MaxPooling2D()(x))
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(
            x
        )
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(
        image,
        {
            head: layers.Dense(n, name=f"{head}_logits", dtype="float32")(x)
            for head, n in classes.items()
        },
    )
