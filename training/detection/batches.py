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
    """One epoch: each scene once at the most, as the first of its picture, and crops with them.

    Scenes that do not fill a last batch are left out: others in each epoch.

    Args:
        recipe: size, batch and augmentation.
        scenes: the training part.
        crops: of faces, to be pasted into photos; needed where the recipe has some in a batch.
        epoch: counted from 0; each has its own order and jitter.
        seed: of the run.
    """

    def __init__(
        self,
        recipe: DetectorRecipe,
        scenes: Sequence[Scene],
        crops: Sequence[Scene],
        epoch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self._recipe, self._scenes, self._crops = recipe, scenes, crops
        self._key = [seed, epoch]
        self._order = np.random.default_rng(self._key).permutation(len(scenes))

    def __len__(self) -> int:
        return max(len(self._scenes) // self._recipe.scenes, 1)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        side, size = self._recipe.side, self._recipe.scenes
        rng = np.random.default_rng([*self._key, index])
        firsts = [self._scenes[row] for row in self._order[index * size : (index + 1) * size]]
        if self._recipe.crops:
            drawn = rng.integers(0, len(self._crops), self._recipe.crops)
            firsts += [self._crops[row] for row in drawn]
        images, targets = [], []
        for first in firsts:
            made = picture(self._scenes, first, side, self._recipe.augment, rng)
            images.append(made.pixels)
            targets.append(assign(made.boxes, made.points, made.ignored, side, side))
        return np.stack(images), np.stack(targets)
