"""The networks, one family a file; each ends in logits, see `training.calibrate` for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.networks import (
    four_layer,
    guided_fusion,
    joint_cnn,
    mien,
    mini_xception,
    sequential_cnn,
    sequential_fcn,
    vgg,
)
from training.recipe import Recipe

_BUILDERS: dict[str, Callable[..., Any]] = {
    "mini_xception": mini_xception.build,
    "guided_fusion": guided_fusion.build,
    "vgg": vgg.build,
    "mien": mien.build,
    "sequential_fcn": sequential_fcn.build,
    "four_layer": four_layer.build,
    "joint_cnn": joint_cnn.build,
    "sequential_cnn": sequential_cnn.build,
}


def build(recipe: Recipe) -> Any:
    """The recipe's network as a Keras model: `image` uint8 (N, S, S, C) -> {head: logits}.

    Raises:
        KeyError: the recipe names a network that is not here.
    """
    spec = recipe.input
    classes = {head: len(labels) for head, labels in recipe.labels.items()}
    shape = (spec.size, spec.size, spec.channels)
    return _BUILDERS[recipe.network](shape, classes, **recipe.network_options)
