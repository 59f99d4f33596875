"""A tiny anchor-free face detector: strides 8, 16 and 32, depth-wise separable all the way.

After YuNet (Wu, Peng, Yu 2023: separable blocks; a face score, a box and five points from one head
for each stride), SCRFD (Guo et al. 2021, arXiv:2105.04714: few channels where the picture is large)
and FCOS (Tian et al. 2019, arXiv:1904.01355: each cell answers itself, without anchors; here by the
middle and the logarithm of the size in place of the distances to the four sides).
docs/adr/0007-detector.md has the measured times behind the widths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from service.vision.cells import CHANNELS

SCALE = 1 / 64
"""Pixels 0..255 are multiplied by it. The export folds it into the first convolution, which at the
border would not be possible if pixels were shifted as well."""
PRIOR = 0.01
"""Score of every cell before training: cells with a face are that rare (RetinaNet,
arXiv:1708.02002)."""


def build(
    stem: Sequence[int] = (16, 32),
    widths: Sequence[int] = (48, 64, 64),
    blocks: Sequence[int] = (2, 2, 3),
    *,
    served: bool = False,
) -> Any:
    """A Keras model: `image` (N, H, W, 3) BGR in 0..255 -> `cells` (N, A, 15).

    H and W are any multiples of 32; `service.vision.cells` says what a cell's 15 numbers mean and
    in which order the A cells come.

    Args:
        stem: channels at strides 2 and 4.
        widths: channels at strides 8, 16 and 32.
        blocks: separable blocks at those strides, besides the one that halves the size.
        served: without the scaling of pixels, and with a resize that ONNX knows; see `folded`.
    """
    image = keras.Input((None, None, 3), name="image")
    x = image if served else layers.Rescaling(SCALE)(image)
    x = layers.Conv2D(
        stem[0], 3, 2, "same", use_bias=False, kernel_initializer="he_normal", name="stem"
    )(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = _block(x, stem[1], strides=2)
    levels = []
    for width, count in zip(widths, blocks, strict=True):
        x = _block(x, width, strides=2)
        for _ in range(count):
            x = _block(x, width)
        levels.append(x)
    grids: list[Any] = []
    above: Any = None
    for level in reversed(levels):
        fused = level if above is None else _fused(level, above, served)
        grids.insert(0, _head(_block(fused, fused.shape[-1])))
        above = fused
    return keras.Model(image, layers.Concatenate(axis=1, name="cells", dtype="float32")(grids))


def folded(model: Any, **options: Any) -> Any:
    """The same network for serving: what scales the pixels is in the first convolution.

    Args:
        model: what `build` gave.
        options: what it was built with.
    """
    twin = build(**options, served=True)
    twin.set_weights(model.get_weights())
    kernel = twin.get_layer("stem").kernel
    kernel.assign(kernel * SCALE)
    return twin


class Doubled(layers.Layer):
    """Nearest-neighbour resize by two, as one op: UpSampling2D becomes eight in ONNX."""

    def call(self, x: Any) -> Any:
        """(N, H, W, C) -> (N, 2H, 2W, C)."""
        import tensorflow as tf

        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=2 * tf.shape(x)[1:3])

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Sizes are free: only N and C are known."""
        return (input_shape[0], None, None, input_shape[3])


def _block(x: Any, filters: int, strides: int = 1) -> Any:
    # Nothing non-linear between the two, as in Xception and YuNet: one pass over memory less.
    x = layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(x)
    x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _fused(level: Any, above: Any, served: bool) -> Any:
    width = level.shape[-1]
    if above.shape[-1] != width:
        above = layers.Conv2D(width, 1, use_bias=False, kernel_initializer="he_normal")(above)
        above = layers.BatchNormalization()(above)
    up = Doubled()(above) if served else layers.UpSampling2D()(above)
    return _block(layers.Add()([level, up]), width)


def _head(x: Any) -> Any:
    # (N, H, W, C) -> (N, H * W, 15); one convolution for all: 15 channels cost as much as 1.
    small = keras.initializers.RandomNormal(stddev=0.01)
    head = layers.Conv2D(CHANNELS, 1, kernel_initializer=small, dtype="float32")
    x = head(x)
    # An initializer of our own would be written into the file, and not be read from it.
    head.bias.assign([-math.log((1 - PRIOR) / PRIOR)] + [0.0] * (CHANNELS - 1))
    return layers.Reshape((-1, CHANNELS), dtype="float32")(x)
