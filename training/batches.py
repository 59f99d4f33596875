"""Seeded, augmented batches: the service's own crop, taken askew, in a changed light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from service.card import Framing, InputSpec
from service.types import Box
from service.vision.crops import crop_face, crop_whole
from training.datasets.samples import Samples
from training.recipe import Augment, Recipe

Targets = dict[str, NDArray[np.float32]]


class Batches(keras.utils.PyDataset):
    """One epoch of training batches; the same seed and epoch give the same batches.

    Args:
        recipe: input, labels, batch shares and augmentation.
        samples: training part of each dataset that the recipe names.
        epoch: counted from 0; each has its own order and jitter.
        seed: overrides the recipe's.
    """

    def __init__(
        self, recipe: Recipe, samples: Mapping[str, Samples], epoch: int, seed: int | None = None
    ) -> None:
        super().__init__()
        self._recipe, self._samples = recipe, samples
        self._key = [recipe.training.seed if seed is None else seed, epoch]
        self._count = steps_per_epoch(recipe, samples)
        rng = np.random.default_rng(self._key)
        self._orders = {
            name: _order(len(samples[name]), self._count * share, rng)
            for name, share in recipe.training.per_batch.items()
        }

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], Targets]:
        rng = np.random.default_rng([*self._key, index])
        crops: list[NDArray[np.uint8]] = []
        targets: list[Targets] = []
        for name, share in self._recipe.training.per_batch.items():
            rows = self._orders[name][index * share : (index + 1) * share]
            samples = self._samples[name]
            crops += [askew(samples, int(row), self._recipe, rng) for row in rows]
            targets.append(_targets(samples, rows, self._recipe))
        images = relight(np.stack(crops), self._recipe.training.augment, rng)
        heads = self._recipe.labels
        return images, {head: np.concatenate([part[head] for part in targets]) for head in heads}


def steps_per_epoch(recipe: Recipe, samples: Mapping[str, Samples]) -> int:
    """Batches that pass once over the first dataset of the recipe."""
    name, share = next(iter(recipe.training.per_batch.items()))
    return max(len(samples[name]) // share, 1)


def whole_crops(samples: Samples, spec: InputSpec) -> NDArray[np.uint8]:
    """What a model is measured on: whole images where the set is cropped, else its framing.

    Returns:
        uint8 (N, S, S, C).
    """
    if samples.framing is not None:
        return np.stack([crop_whole(image, spec) for image in samples.images])
    pairs = zip(samples.images, samples.boxes, strict=True)
    return np.stack([crop_face(image, box, spec) for image, box in pairs])


def askew(
    samples: Samples, row: int, recipe: Recipe, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One training crop: the native framing, turned, scaled, shifted and perhaps mirrored."""
    augment, spec = recipe.training.augment, recipe.input
    framing = samples.framing or spec.framing
    box, side = samples.boxes[row], samples.boxes[row].side
    zoom = float(np.exp(rng.uniform(-augment.scale, augment.scale)))
    reach = side * framing.scale * augment.shift
    dx, dy = rng.uniform(-reach, reach, 2)
    # The jittered box has its own side: the framing is laid out so that its centre stays.
    dy += side * framing.shift_y * (1 - zoom)
    side *= zoom
    center_x, center_y = box.center
    moved = Box(center_x + dx - side / 2, center_y + dy - side / 2, side, side)
    turn = float(rng.uniform(-augment.rotation_deg, augment.rotation_deg))
    crop = crop_face(samples.images[row], moved, _framed(spec, framing), rotation_deg=turn)
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def relight(
    images: NDArray[np.uint8], augment: Augment, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change contrast and brightness of each image; blur, erase a patch of, and bleach some.

    Args:
        images: uint8 (N, S, S, C).
        augment: ranges and shares.
        rng: the batch's own generator.

    Returns:
        uint8 (N, S, S, C).
    """
    count = len(images)
    gain = rng.uniform(1 - augment.contrast, 1 + augment.contrast, (count, 1, 1, 1))
    shift = rng.uniform(-augment.brightness, augment.brightness, (count, 1, 1, 1))
    middle = images.mean(axis=(1, 2, 3), keepdims=True)
    light = (images - middle) * gain.astype(np.float32) + (middle + shift).astype(np.float32)
    result = np.clip(light, 0, 255).astype(np.uint8)
    for row in np.flatnonzero(rng.random(count) < augment.blur):
        result[row] = _coarsened(result[row], rng.uniform(0.4, 0.8))
    for row in np.flatnonzero(rng.random(count) < augment.erase):
        _erase(result[row], rng)
    if result.shape[-1] == 3:
        for row in np.flatnonzero(rng.random(count) < augment.gray):
            result[row] = cv2.cvtColor(result[row], cv2.COLOR_RGB2GRAY)[..., np.newaxis]
    return result


_SPECS: dict[tuple[InputSpec, Framing], InputSpec] = {}


def _framed(spec: InputSpec, framing: Framing) -> InputSpec:
    # Building a pydantic model for every crop costs more than the crop.
    key = spec, framing
    if key not in _SPECS:
        _SPECS[key] = spec.model_copy(update={"framing": framing})
    return _SPECS[key]


def _order(samples: int, needed: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-needed // samples)
    return np.concatenate([rng.permutation(samples) for _ in range(rounds)])[:needed]


def _targets(samples: Samples, rows: NDArray[np.int64], recipe: Recipe) -> Targets:
    smoothing = recipe.training.label_smoothing
    result: Targets = {}
    for head, labels in recipe.labels.items():
        known = np.zeros((len(rows), len(labels)), np.float32)
        if head in samples.targets:
            known = samples.targets[head][rows]
        smooth = known * (1 - smoothing) + smoothing / len(labels)
        labelled = known.sum(axis=1, keepdims=True) > 0
        result[head] = np.where(labelled, smooth, 0).astype(np.float32)
    return result


def _coarsened(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    size = image.shape[0]
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    large: Any = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.uint8).reshape(image.shape)


def _erase(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    size = image.shape[0]
    height, width = rng.integers(size // 8, size // 3 + 1, 2)
    top, left = rng.integers(0, size - height), rng.integers(0, size - width)
    image[top : top + height, left : left + width] = rng.integers(0, 256)
