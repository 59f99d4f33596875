"""The guided fusion network: two CNNs, guide modules that gate their features, three heads.

`guided_fusion_2024.txt`, section 3 (architecture), 3.1 (guide), 3.2 (fusion) and the ablation of
section 6. The paper leaves widths, strides and the guide's body open: docs/adr/0003 says how it
was read and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import layers, ops

Variant = Literal["none", "fusion", "one_guide", "two_guides"]
HEADS = ("emotion", "gender", "age")


@dataclass(frozen=True, slots=True)
class Branch:
    """Widths of one CNN and of the guide that gates it."""

    filters: tuple[int, int, int]
    guide: tuple[int, int]


EMOTION = Branch(filters=(32, 64, 96), guide=(64, 96))
AGE_GENDER = Branch(filters=(32, 48, 64), guide=(48, 64))
# Hidden dense widths: with the classifier these are two, six and four dense layers.
DENSE: Mapping[str, tuple[int, ...]] = {
    "emotion": (128,),
    "gender": (48, 48, 48, 32, 32),
    "age": (48, 48, 32),
}


@keras.saving.register_keras_serializable("mien")
class WeightNorm(keras.regularizers.Regularizer):
    """`factor * ||W||`: the paper's regularisation term (section 3, Training Process)."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        """Euclidean norm of all weights of one layer; the constant keeps its slope finite at 0."""
        return self.factor * ops.sqrt(ops.sum(ops.square(x)) + 1e-12)

    def get_config(self) -> dict[str, float]:
        """The arguments of `__init__`."""
        return {"factor": self.factor}


def build(
    shape: tuple[int, int, int],
    classes: Mapping[str, int],
    variant: Variant = "two_guides",
    dropout: float = 0.3,
    weight_norm: float = 1e-3,
    emotion: Branch = EMOTION,
    age_gender: Branch = AGE_GENDER,
) -> Any:
    """A Keras model: `image` (N, 48, 48, C) in 0..255 -> {head: logits (N, K)}.

    Args:
        shape: S, S, C; the paper takes 48, 48.
        classes: number of labels of each head, of `HEADS`.
        variant: `none` = each head sees its own CNN; `fusion` = all heads see both;
            `one_guide` = a guide gates the emotion CNN; `two_guides` = each CNN has its own.
        dropout: share of inputs that each dropout layer silences.
        weight_norm: factor of the norm of the last two dense layers of each head.
        emotion: widths of the emotion CNN.
        age_gender: widths of the age and gender CNN.
    """
    image = keras.Input(shape, name="image")
    # Per-image mean 0 and variance 1: the light of a scene is no cue.
    x = layers.Rescaling(1 / 255.0)(image)
    x = layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, epsilon=1e-4)(x)
    pooled_e, tau_e = _branch(x, emotion)
    pooled_a, tau_a = _branch(x, age_gender)
    seen = layers.Concatenate()([pooled_e, pooled_a])  # (N, 12, 12, C)
    if variant in ("one_guide", "two_guides"):
        tau_e = layers.Multiply()([tau_e, _guide(seen, emotion)])
    if variant == "two_guides":
        tau_a = layers.Multiply()([tau_a, _guide(seen, age_gender)])
    fused = layers.Concatenate()([tau_e, tau_a])  # (N, 6, 6, C)
    inputs = dict.fromkeys(HEADS, fused)
    if variant == "none":
        inputs = {"emotion": tau_e, "gender": tau_a, "age": tau_a}
    outputs = {
        head: _head(inputs[head], head, n, dropout, weight_norm) for head, n in classes.items()
    }
    return keras.Model(image, outputs)


def _convolve(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _branch(x: Any, branch: Branch) -> tuple[Any, Any]:
    # Three convolutions, pooled after the second and the third; the first one strides instead.
    first, second, third = branch.filters
    x = layers.ReLU()(_convolve(x, first, 5, strides=2))  # (N, 24, 24, first)
    pooled = layers.MaxPooling2D()(layers.ReLU()(_convolve(x, second)))  # (N, 12, 12, second)
    tau = layers.MaxPooling2D()(layers.ReLU()(_convolve(pooled, third)))  # (N, 6, 6, third)
    return pooled, tau


def _guide(x: Any, branch: Branch) -> Any:
    # g(x) of G = tau * g(x), a weight >= 0 for every place and channel of tau (section 3.1).
    wide, deep = branch.guide
    x = layers.ReLU()(_convolve(x, wide))  # (N, 12, 12, wide)
    x = layers.ReLU()(_convolve(x, deep, strides=2))  # (N, 6, 6, deep)
    y = layers.ReLU()(_convolve(x, deep))
    x = layers.ReLU()(layers.Add()([x, _convolve(y, deep)]))
    return layers.ReLU()(_convolve(x, branch.filters[2], 1))


def _head(x: Any, name: str, classes: int, dropout: float, weight_norm: float) -> Any:
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))  # (N, 3 * 3 * C)
    x = layers.Dropout(dropout)(x)
    hidden = DENSE[name]
    for number, width in enumerate(hidden, start=1):
        last = number == len(hidden)
        x = _dense(x, width, weight_norm if last else 0.0)
        # Of the three heads only gender has dropout layers, in the plural (section 3).
        if name == "gender" and number == 1:
            x = layers.Dropout(dropout / 2)(x)
    return layers.Dense(
        classes, kernel_regularizer=WeightNorm(weight_norm), name=f"{name}_logits", dtype="float32"
    )(x)


def _dense(x: Any, width: int, weight_norm: float) -> Any:
    norm = WeightNorm(weight_norm) if weight_norm else None
    x = layers.Dense(
        width, use_bias=False, kernel_initializer="he_normal", kernel_regularizer=norm
    )(x)
    return layers.ReLU()(layers.BatchNormalization()(x))
