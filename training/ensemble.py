"""The mean of published models as one model; `ensemble_cnn.txt`, section III.

The paper averages mini-Xception and a CNN of four layers ("Average"), since the mean varies less
than either. Its members are not trained again: each was calibrated alone, and so is their mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from training.datasets import Part, Samples
from training.errors import WorkError
from training.labels import narrowed
from training.publish import KERAS_FILE, load_keras
from training.recipe import Recipe, load_recipe
from training.train import fingerprints

FLOOR = 1e-7
"""Added before the logarithm: a probability of float32 may be 0."""


class MemberError(WorkError):
    """A member that does not fit: it sees other crops, or knows other labels."""


class Ensemble:
    """What `publish` needs of a run, made of published models.

    Args:
        recipe: names the members.
        datasets: name -> parts; their validation parts calibrate.
        models: folder of the published members.
    """

    def __init__(
        self, recipe: Recipe, datasets: Mapping[str, Mapping[Part, Samples]], models: Path
    ) -> None:
        self.recipe = recipe
        self.validation = {
            n: narrowed(parts["validation"], recipe.labels) for n, parts in datasets.items()
        }
        self._datasets = datasets
        self._files = {name: models / name / KERAS_FILE for name in recipe.members}

    @property
    def facts(self) -> dict[str, Any]:
        """The members by the sha256 of their files, and the parts of the sets."""
        return {
            "members": {
                name: hashlib.sha256(path.read_bytes()).hexdigest()
                for name, path in self._files.items()
            },
            "splits": fingerprints(self._datasets),
        }

    def averaged(self) -> Any:
        """The logarithm of the members' mean probabilities: `image` -> {head: (N, K)}.

        Raises:
            MemberError: a member's crop or labels are not the recipe's.
            NotPublished: a member is not there.
        """
        for name in self._files:
            _check(load_recipe(name), self.recipe)
        return mean({name: load_keras(path) for name, path in self._files.items()})


def mean(members: Mapping[str, Any]) -> Any:
    """One network of several, `image` -> {head: log of the mean probabilities (N, K)}.

    Its softmax at temperature 1 is the mean itself.

    Args:
        members: name -> a Keras model of the same crops and heads, that gives probabilities.
    """
    # Two files may hold models of one name, which one graph cannot.
    named = [keras.Model(m.input, m.output, name=name) for name, m in members.items()]
    image = keras.Input(named[0].input.shape[1:], name="image")
    answers = [member(image) for member in named]
    return keras.Model(
        image,
        {
            head: ops.log(layers.Average()([answer[head] for answer in answers]) + FLOOR)
            for head in answers[0]
        },
    )


def _check(member: Recipe, recipe: Recipe) -> None:
    if member.input != recipe.input:
        raise MemberError(f"{member.name} sees {member.input}, {recipe.name} {recipe.input}")
    if member.labels != recipe.labels:
        raise MemberError(f"{member.name} knows {member.labels}, {recipe.name} {recipe.labels}")
