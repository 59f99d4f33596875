from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.vision.saliency import draw, draw_over, occlusion_map, occlusions


def opened(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def crop(size: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels), np.uint8)


@pytest.mark.parametrize(("size", "channels", "count"), [(64, 1, 49), (48, 3, 49), (50, 1, 64)])
def test_squares_of_the_mean_colour_cover_every_pixel(size, channels, count):
    picture = crop(size, channels)
    covered = occlusions(picture)
    assert covered.shape == (count, size, size, channels)
    changed = (covered != picture).any(axis=3)
    assert changed.any(axis=0).mean() > 0.98  # but those that have the mean colour already
    assert (changed.sum(axis=(1, 2)) <= (size // 4) ** 2).all()
    mean = picture.mean(axis=(0, 1)).round()
    assert (covered[0, : size // 4, : size // 4] == mean).all()
    assert (covered[-1, -(size // 4) :, -(size // 4) :] == mean).all()
    assert picture.base is None or not np.shares_memory(picture, covered)


def test_the_map_is_where_the_probability_falls():
    falls = np.zeros(49, np.float32)
    falls[24] = 0.5  # the middle square
    falls[0] = -0.5  # one that only disturbed
    values = occlusion_map(falls, 64)
    assert values.shape == (64, 64)
    assert values[31, 31] == pytest.approx(0.5 / 4)  # four squares lie over each inner pixel
    assert values.max() == values[24:40, 24:40].max()
    assert values[:24].max() == values[40:].max() == 0
    assert values.min() == 0


def test_a_map_is_drawn_pixel_by_pixel():
    values = np.zeros((48, 48), np.float32)
    values[10:20, 30:40] = 3e-5
    values[0, 0] = 1.5e-5
    picture = opened(draw(values))
    assert (picture.shape, picture.dtype) == ((48, 48), np.uint8)
    assert (picture[10:20, 30:40] == 255).all()
    assert picture[0, 0] == 128
    assert (picture > 0).sum() == 101


def test_a_single_strong_pixel_does_not_hide_the_rest():
    values = np.full((64, 64), 1e-3, np.float32)
    values[5, 5] = 1.0
    assert (opened(draw(values)) == 255).all()


def test_a_map_of_few_pixels_is_drawn_by_its_strongest():
    values = np.zeros((64, 64), np.float32)
    values[5, 5] = 1e-6
    assert opened(draw(values))[5, 5] == 255


def test_an_empty_map_is_black():
    assert not opened(draw(np.zeros((64, 64), np.float32))).any()


def test_over_a_photo_only_what_counts_is_coloured():
    values = np.zeros((64, 64), np.float32)
    values[16:32, 32:48] = 1
    photo = np.full((256, 256, 3), (200, 100, 50), np.uint8)
    picture = opened(draw_over(values, photo))
    assert picture.shape == (256, 256, 3)
    colored = np.ptp(picture.astype(int), axis=2) > 8
    assert colored[70:122, 134:186].all()
    assert not colored[:50].any()
    assert not colored[140:].any()
    assert (picture[200, 20] > 60).all()  # the photo is still seen, in grey
