from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.unit.training.makers import face
from training.detection.augment import Augment, affine, moved, picture, relight, tile
from training.detection.scenes import Scene, scene

STILL = Augment(
    mosaic=0, rotation_deg=0, light=0, tint=0, gray=0, blur=0, coarse=0, jpeg=0, noise=0, cover=0
)
POINTS = np.array([[[30, 40], [50, 40], [40, 50], [33, 60], [47, 60]]], np.float32)
BOX = np.array([[20, 20, 40, 50]], np.float32)


def photo(seed: int = 0, faces: bool = True) -> Scene:
    pixels = cv2.cvtColor(face(seed, 120), cv2.COLOR_GRAY2BGR)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    return scene("a.png", data, BOX if faces else [], points=POINTS if faces else None)


def test_a_flip_keeps_the_right_eye_on_the_right_as_seen() -> None:
    matrix = affine((0, 0), (100, 0), 1.0, 0.0, mirror=True)
    boxes, points = moved(BOX, POINTS, matrix)
    assert boxes.tolist() == [[40, 20, 40, 50]]
    np.testing.assert_allclose(points[0], [[50, 40], [70, 40], [60, 50], [53, 60], [67, 60]])
    again = moved(boxes, points, matrix)
    np.testing.assert_allclose(again[0], BOX)
    np.testing.assert_allclose(again[1], POINTS)


def test_a_quarter_turn_by_hand() -> None:
    # Counter-clockwise about the box's middle: what was right of it comes to lie above it.
    matrix = affine((40, 45), (40, 45), 2.0, 90.0, mirror=False)
    boxes, points = moved(BOX, np.array([[[50, 45]] * 5], np.float32), matrix)
    np.testing.assert_allclose(boxes, [[-10, 5, 100, 80]], atol=1e-4)
    np.testing.assert_allclose(points[0, 0], [40, 25], atol=1e-4)


def test_unknown_points_stay_unknown() -> None:
    _, points = moved(
        BOX, np.full((1, 5, 2), np.nan), affine((0, 0), (5, 5), 1.0, 9.0, mirror=True)
    )
    assert np.isnan(points).all()


@pytest.mark.parametrize("seed", range(6))
def test_points_go_where_their_pixels_go(seed: int) -> None:
    pixels = np.zeros((120, 120, 3), np.uint8)
    for number, (x, y) in enumerate(POINTS[0].astype(int)):
        cv2.circle(pixels, (int(x), int(y)), 3, (0, 0, 50 + 40 * number), -1)
    source = scene("a.png", cv2.imencode(".png", pixels)[1].tobytes(), BOX, points=POINTS)
    rng = np.random.default_rng(seed)
    plan = STILL.model_copy(update={"rotation_deg": 20.0, "smallest_px": 60.0, "largest": 0.5})
    made = tile(source, (160, 160), plan, rng)
    lit = [(x, y) for x, y in made.points[0].round().astype(int) if 0 <= x < 160 and 0 <= y < 160]
    assert all(made.pixels[y, x, 2] > 40 for x, y in lit)


def test_faces_are_from_smallest_to_filling_the_frame() -> None:
    rng = np.random.default_rng(0)
    made = [picture([photo()], photo(), 160, STILL, rng) for _ in range(200)]
    sides = np.array([np.sqrt(one.boxes[0, 2:].prod()) for one in made if len(one.boxes)])
    assert sides.min() >= 9
    assert sides.min() < 20
    assert sides.max() > 110
    assert all(one.pixels.shape == (160, 160, 3) for one in made)


def test_what_lies_outside_is_dropped_and_half_inside_ignored() -> None:
    rng = np.random.default_rng(3)
    both = scene("a.png", photo().data, [[20, 20, 40, 50], [95, 20, 40, 50]])
    made = [tile(both, (96, 96), STILL, rng) for _ in range(60)]
    for one in made:
        middle = one.boxes[:, :2] + one.boxes[:, 2:] / 2
        inside = ((middle >= 0) & (middle < 96)).all(axis=1)
        assert one.ignored[~inside].all()
    assert {len(one.boxes) for one in made} >= {1, 2}


def test_a_mosaic_holds_the_faces_of_four_scenes() -> None:
    plan = STILL.model_copy(update={"mosaic": 1.0, "background": 0.0})
    rng = np.random.default_rng(1)
    made = [picture([photo(0), photo(1)], photo(0), 128, plan, rng) for _ in range(20)]
    assert max(len(one.boxes) for one in made) == 4
    assert all(len(one.boxes) == len(one.points) == len(one.ignored) for one in made)


def test_a_background_fills_what_the_scene_leaves() -> None:
    plan = STILL.model_copy(update={"background": 1.0, "enlarge": 1.0, "largest": 0.2})
    bright = cv2.imencode(".png", np.full((20, 20, 3), 255, np.uint8))[1].tobytes()
    scenes = [photo(), *[scene(f"{n}.png", bright, []) for n in range(9)]]
    made = picture(scenes, scenes[0], 320, plan, np.random.default_rng(0))
    assert (made.pixels == 255).all(axis=2).mean() > 0.5


def test_light_alone_changes_nothing_when_it_is_off() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(relight(pixels, STILL, np.random.default_rng(0)), pixels)
    every = Augment(gray=1, blur=1, coarse=1, jpeg=1, noise=1)
    changed = relight(pixels, every, np.random.default_rng(0))
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8


def test_the_same_seed_is_the_same_picture() -> None:
    scenes = [photo(n, faces=n % 2 == 0) for n in range(5)]
    a, b = (picture(scenes, scenes[0], 96, Augment(), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a.pixels, b.pixels)
    np.testing.assert_array_equal(a.boxes, b.boxes)
