"""The framing of a face, by construction: every expected crop is worked out by hand."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.card import Framing, InputSpec
from service.types import Box, Pixels
from service.vision.crops import WHOLE, crop_face, crop_whole, sharpness
from tests.fakes import noise


def spec(
    size: int, *, color: Literal["gray", "rgb"] = "rgb", scale: float = 1.0, shift_y: float = 0.0
) -> InputSpec:
    return InputSpec(size=size, color=color, framing=Framing(scale=scale, shift_y=shift_y))


def bgr(crop: Pixels) -> Pixels:
    return np.asarray(crop[..., ::-1], np.uint8)


def ramp(height: int, width: int) -> Pixels:
    """Blue is x, green is y, red is constant: where a pixel came from can be read off it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8)


# Identity and plain resizing ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 48, 65])
def test_the_whole_image_at_its_own_size_is_the_image(size: int) -> None:
    image = noise(size, size)
    whole = Box(0, 0, size, size)
    np.testing.assert_array_equal(bgr(crop_face(image, whole, spec(size))), image)
    np.testing.assert_array_equal(bgr(crop_whole(image, spec(size))), image)


@pytest.mark.parametrize(("side", "size"), [(20, 48), (48, 30), (60, 40)])
def test_up_to_half_the_size_it_is_a_bilinear_resize(side: int, size: int) -> None:
    image = noise(side, side)
    crop = bgr(crop_face(image, Box(0, 0, side, side), spec(size)))
    plain = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    # The warp rounds its weights to 1/32 of a pixel.
    assert np.abs(crop.astype(int) - plain).max() <= 8


@pytest.mark.parametrize("times", [3, 4, 7])
def test_below_half_the_size_it_is_an_area_resize(times: int) -> None:
    image = noise(32 * times, 32 * times)
    crop = bgr(crop_whole(image, spec(32)))
    area = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(crop, area)


def test_fine_stripes_become_grey_not_moire() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_face(stripes, Box(37.3, 41.9, 300, 300), spec(48, color="gray"))
    assert 120 <= crop.min() <= crop.max() <= 135


def test_large_faces_agree_with_an_exact_average() -> None:
    image = noise(480, 480)
    crop = crop_face(image, Box(48, 96, 192, 192), spec(48))
    cells = image[96:288, 48:240].reshape(48, 4, 48, 4, 3).mean(axis=(1, 3))
    assert np.abs(bgr(crop) - cells).max() <= 1


# Position ----------------------------------------------------------------------------------------


def test_a_box_is_cut_where_it_stands() -> None:
    image = ramp(100, 200)
    crop = bgr(crop_face(image, Box(30, 20, 16, 16), spec(16)))
    np.testing.assert_array_equal(crop, image[20:36, 30:46])


def test_scale_and_shift_are_in_units_of_the_boxs_side() -> None:
    image = ramp(200, 200)
    # Side 20 around (60, 50); 1.6 times that is 32, and 0.25 x 20 = 5 lower: 44..76, 39..71.
    crop = bgr(crop_face(image, Box(50, 40, 20, 20), spec(32, scale=1.6, shift_y=0.25)))
    np.testing.assert_array_equal(crop, image[39:71, 44:76])


def test_an_oblong_box_gives_the_square_of_its_area() -> None:
    image = ramp(200, 200)
    # 9 x 36 is as large as 18 x 18, around (64.5, 68): 55.5..73.5, 59..77.
    crop = bgr(crop_face(image, Box(60, 50, 9, 36), spec(18)))
    np.testing.assert_array_equal(crop[..., 1], np.repeat([np.arange(59, 77)], 18, 0).T)
    np.testing.assert_allclose(crop[0, :, 0], np.arange(55.5, 73.5), atol=0.51)


def test_the_shift_follows_the_box_not_the_crop() -> None:
    near = spec(16, scale=1.0, shift_y=0.5)
    far = spec(32, scale=2.0, shift_y=0.5)
    image = ramp(200, 200)
    small, large = (bgr(crop_face(image, Box(80, 80, 16, 16), s)) for s in (near, far))
    np.testing.assert_array_equal(large[8:24, 8:24], small)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_about_the_middle_and_clockwise(turn: int) -> None:
    image = noise(64, 64)
    upright = crop_face(image, Box(20, 20, 24, 24), spec(24))
    turned = crop_face(image, Box(20, 20, 24, 24), spec(24), rotation_deg=turn)
    np.testing.assert_array_equal(turned, np.rot90(upright, -turn // 90))


# Edges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"), [(-8, 20), (20, -8), (-8, -8), (72, 20), (20, 72), (72, 72), (-16, 84)]
)
def test_a_face_at_the_edge_is_padded_not_shifted(x: int, y: int) -> None:
    image = noise(80, 80)
    padded = cv2.copyMakeBorder(image, 40, 40, 40, 40, cv2.BORDER_REPLICATE)
    crop = bgr(crop_face(image, Box(x, y, 16, 16), spec(16)))
    np.testing.assert_array_equal(crop, padded[y + 40 : y + 56, x + 40 : x + 56])


@pytest.mark.parametrize(("x", "y"), [(-64, 64), (64, -64), (-64, -64), (256, 256)])
def test_a_large_face_at_the_edge_is_padded_not_shifted(x: int, y: int) -> None:
    image = noise(320, 320)
    small = cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder(small, 32, 32, 32, 32, cv2.BORDER_REPLICATE)
    crop = bgr(crop_face(image, Box(x, y, 128, 128), spec(32)))
    left, top = x // 4 + 32, y // 4 + 32
    np.testing.assert_array_equal(crop, padded[top : top + 32, left : left + 32])


def test_far_outside_the_image_there_is_only_its_edge() -> None:
    image = ramp(50, 60)
    for x, y, corner in [(-500, -500, (0, 0)), (900, 900, (49, 59)), (-500, 900, (49, 0))]:
        for side in (16, 200):
            crop = bgr(crop_face(image, Box(x, y, side, side), spec(16)))
            expected = np.broadcast_to(image[corner], crop.shape)
            np.testing.assert_array_equal(crop, expected)


def test_a_huge_box_shows_a_dot_in_the_middle() -> None:
    image = np.full((10, 10, 3), 200, np.uint8)
    crop = crop_face(image, Box(-5e5, -5e5, 1e6, 1e6), spec(48, color="gray"))
    assert crop.shape == (48, 48, 1)
    assert (crop == 200).all()


@pytest.mark.parametrize("side", [0.0, 1e-6, 0.5, 1.0])
def test_a_tiny_box_shows_one_pixel(side: float) -> None:
    image = ramp(40, 40)
    crop = bgr(crop_face(image, Box(20.5 - side / 2, 10.5 - side / 2, side, side), spec(16)))
    assert crop.shape == (16, 16, 3)
    assert np.abs(crop.astype(int) - image[10, 20]).max() <= 1


def test_a_one_pixel_image_fills_the_crop() -> None:
    image = np.array([[[1, 2, 3]]], np.uint8)
    for crop in (crop_whole(image, spec(16)), crop_face(image, Box(0, 0, 1, 1), spec(16))):
        assert (crop == [3, 2, 1]).all()


@settings(max_examples=60)
@given(
    st.tuples(*[st.floats(-1e4, 1e4)] * 2, *[st.floats(0, 1e4)] * 2),
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["gray", "rgb"]),
)
def test_any_box_on_any_image_gives_a_crop_of_the_images_own_colours(
    box: tuple[float, float, float, float], height: int, width: int, color: Literal["gray", "rgb"]
) -> None:
    image = np.full((height, width, 3), (10, 10, 200), np.uint8)
    image[: height // 2] = (200, 200, 10)
    crop = crop_face(image, Box(*box), spec(24, color=color, scale=1.3, shift_y=0.1))
    assert crop.shape == (24, 24, 1 if color == "gray" else 3)
    assert crop.dtype == np.uint8
    assert crop.min() >= 10
    assert crop.max() <= 200


# Colour ------------------------------------------------------------------------------------------


def test_colour_models_get_red_first() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 2] = 255
    crop = crop_whole(red, spec(16))
    assert crop[0, 0].tolist() == [255, 0, 0]


def test_grey_models_get_one_channel_weighted_as_ever() -> None:
    image = noise(16, 16)
    crop = crop_whole(image, spec(16, color="gray"))
    assert crop.shape == (16, 16, 1)
    expected = image.astype(float) @ [0.114, 0.587, 0.299]
    assert np.abs(crop[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("size", [16, 48, 200])
def test_a_grey_image_gives_what_its_colour_copy_gives(size: int) -> None:
    gray = noise(150, 150, channels=1)
    box = Box(20.2, 31.7, 90, 100)
    for color in ("gray", "rgb"):
        from_gray = crop_face(gray, box, spec(size, color=color))
        copy = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
        np.testing.assert_array_equal(from_gray, crop_face(copy, box, spec(size, color=color)))


def test_the_image_is_left_alone() -> None:
    image = noise(300, 300)
    before = image.copy()
    image.setflags(write=False)
    crop_face(image, Box(10, 10, 200, 200), spec(48, color="gray"))
    np.testing.assert_array_equal(image, before)


# The whole image ---------------------------------------------------------------------------------


def test_the_whole_image_is_squeezed_to_the_square() -> None:
    image = ramp(20, 40)
    crop = bgr(crop_whole(image, spec(20)))
    np.testing.assert_allclose(crop[0, :, 0], np.arange(20) * 2 + 0.5, atol=0.51)
    np.testing.assert_array_equal(crop[:, 0, 1], np.arange(20))


@pytest.mark.parametrize("shape", [(32, 640), (640, 32)])
def test_a_long_image_keeps_the_detail_of_its_short_side(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    across = 0 if shape[0] == 32 else 1
    np.moveaxis(image, across, 0)[::2] = 255
    crop = np.moveaxis(crop_whole(image, spec(32, color="gray"))[..., 0], across, 0)
    assert (crop[::2] == 255).all()
    assert (crop[1::2] == 0).all()


# Sharpness ---------------------------------------------------------------------------------------


def test_sharpness_falls_with_blur() -> None:
    image = noise(256, 256)
    box = Box(64, 64, 128, 128)
    blurs = [image, *(cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (1, 2, 4, 8, 16))]
    values = [sharpness(np.asarray(blurred, np.uint8), box) for blurred in blurs]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert values[0] > 0.5 > values[-1]
    assert all(0 <= value < 1 for value in values)


def test_a_flat_face_has_no_sharpness() -> None:
    assert sharpness(np.full((64, 64, 3), 90, np.uint8), Box(0, 0, 64, 64)) == 0.0


def test_sharpness_looks_at_the_face_alone() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    image[:, 100:] = noise(200, 100)
    assert sharpness(image, Box(10, 10, 64, 64)) == 0.0
    assert sharpness(image, Box(120, 10, 64, 64)) > 0.1


def test_whole_is_the_tight_box() -> None:
    assert (WHOLE.scale, WHOLE.shift_y) == (1.0, 0.0)
