from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.types import Box
from tests.unit.training.makers import face, fusion_recipe, write_faces, write_fer2013
from training.batches import Batches, askew, relight, whole_crops
from training.datasets import Samples, fer2013, utkface
from training.recipe import Augment, Recipe


@pytest.fixture
def samples(tmp_path: Path) -> dict[str, Samples]:
    fer = write_fer2013(tmp_path, [(seed % 7, seed, "Training") for seed in range(9)])
    names = {f"{20 + seed}_{seed % 2}_0_2017011617452512{seed}.png": seed for seed in range(3)}
    return {
        "fer2013": fer2013.load(fer),
        "utkface": utkface.load(write_faces(tmp_path / "u", names)),
    }


def still(recipe: Recipe) -> Recipe:
    augment = Augment(scale=0, shift=0, rotation_deg=0, contrast=0, brightness=0, erase=0, blur=0)
    training = recipe.training.model_copy(update={"augment": augment})
    return recipe.model_copy(update={"training": training})


def test_an_epoch_is_one_pass_over_the_first_set(samples: dict[str, Samples]) -> None:
    batches = Batches(fusion_recipe(), samples, epoch=0)
    assert len(batches) == 2
    images, targets = batches[0]
    assert images.shape == (8, 48, 48, 1)
    assert images.dtype == np.uint8
    assert {head: values.shape[1] for head, values in targets.items()} == {
        "emotion": 7,
        "gender": 2,
        "age": 4,
    }


def test_each_set_has_targets_for_its_heads_alone(samples: dict[str, Samples]) -> None:
    _, targets = Batches(fusion_recipe(), samples, epoch=0)[0]
    sums = {head: values.sum(axis=1) for head, values in targets.items()}
    np.testing.assert_allclose(sums["emotion"], [1, 1, 1, 1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(sums["gender"], [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(sums["age"], [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-6)


def test_same_seed_and_epoch_give_the_same_batch(samples: dict[str, Samples]) -> None:
    first, again, later, other = (
        Batches(fusion_recipe(), samples, epoch, seed)[1][0]
        for epoch, seed in [(0, 0), (0, 0), (1, 0), (0, 1)]
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["fer2013", "utkface"])
def test_without_jitter_the_crop_is_the_whole_image(samples: dict[str, Samples], name: str) -> None:
    recipe = still(fusion_recipe())
    whole = whole_crops(samples[name], recipe.input)[1].astype(int)
    rng = np.random.default_rng(0)
    crops = [askew(samples[name], 1, recipe, rng).astype(int) for _ in range(6)]
    gaps = [min(abs(crop - whole).mean(), abs(crop[:, ::-1] - whole).mean()) for crop in crops]
    # The measured boxes put the square within a pixel of the image.
    assert max(gaps) < 6


def test_scaling_keeps_the_centre_of_the_square() -> None:
    image = face(1, 96)
    box = Box(20, 10, 40, 40)
    recipe = still(fusion_recipe())
    zoomed = recipe.training.augment.model_copy(update={"scale": 0.5})
    training = recipe.training.model_copy(update={"augment": zoomed})
    wide = recipe.model_copy(update={"training": training})
    spot = np.zeros_like(image)
    x, y = box.center
    y += box.side * recipe.input.framing.shift_y
    spot[round(y) - 3 : round(y) + 3, round(x) - 3 : round(x) + 3] = 255
    one = Samples("x", [spot], [box], None, {}, {}, np.zeros(1, np.int64), np.array([""]))
    rng = np.random.default_rng(3)
    for _ in range(8):
        rows, columns = np.nonzero(askew(one, 0, wide, rng)[..., 0] > 128)
        assert abs(rows.mean() - 23.5) < 1.5
        assert abs(columns.mean() - 23.5) < 1.5


def test_relight_erases_and_blurs_within_range() -> None:
    images = np.stack([face(seed)[..., None] for seed in range(5)])
    augment = Augment(erase=1.0, blur=1.0)
    result = relight(images, augment, np.random.default_rng(0))
    assert result.shape == images.shape
    assert result.dtype == np.uint8
    assert not np.array_equal(result, images)


def test_relight_bleaches_a_share_of_colour_crops() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), np.uint8)
    augment = Augment(contrast=0, brightness=0, erase=0, blur=0, gray=0.3)
    out = relight(crops, augment, np.random.default_rng(1))
    bleached = (out == out[..., :1]).all(axis=(1, 2, 3))
    assert 40 <= bleached.sum() <= 80
    unlit = relight(crops, augment.model_copy(update={"gray": 0.0}), np.random.default_rng(1))
    np.testing.assert_array_equal(out[~bleached], unlit[~bleached])
    assert not (unlit == unlit[..., :1]).all(axis=(1, 2, 3)).any()
