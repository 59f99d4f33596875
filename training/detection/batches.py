"""Seeded batches of augmented pictures with their cells' targets."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from training.detection.assign import assign
from training.detection.augment import picture
from training.detection.recipe import DetectorRecipe
from training.detection.scenes import Scene


class SceneBatches(keras.utils.PyDataset):
    """One epoch: each scene once, as the first of its picture.

    Args:
        recipe: size, batch and augmentation.
        scenes: the training part.
        epoch: counted from 0; each has its own order and jitter.
        seed: of the run.
    """

    def __init__(
        self, recipe: DetectorRecipe, scenes: Sequence[Scene], epoch: int, seed: int
    ) -> None:
        super().__init__()
        self._recipe, self._scenes, self._key = recipe, scenes, [seed, epoch]
        self._order = np.random.default_rng(self._key).permutation(len(scenes))

    def __len__(self) -> int:
        return max(len(self._scenes) // self._recipe.batch, 1)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        side, size = self._recipe.side, self._recipe.batch
        rng = np.random.default_rng([*self._key, index])
        images, targets = [], []
        for row in self._order[index * size : (index + 1) * size]:
            made = picture(self._scenes, int(row), side, self._recipe.augment, rng)
            images.append(made.pixels)
            targets.append(assign(made.boxes, made.points, made.ignored, side, side))
        return np.stack(images), np.stack(targets)
