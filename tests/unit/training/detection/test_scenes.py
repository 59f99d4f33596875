from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.datasets import DatasetError
from training.detection.scenes import Scene, fingerprints, mosaics, parts, scene


def test_a_photo_that_cannot_be_read_is_named() -> None:
    with pytest.raises(DatasetError, match=r"broken\.png"):
        scene("broken.png", b"no picture", []).pixels()


def bare(number: int) -> Scene:
    return scene(f"{number}.png", b"", [], group=f"{number // 2}")


def test_a_group_lies_on_one_side_whatever_else_is_there() -> None:
    scenes = [bare(number) for number in range(200)]
    found = parts(scenes)
    sides = {part: {scene.group for scene in some} for part, some in found.items()}
    assert sum(len(some) for some in found.values()) == 200
    assert not sides["train"] & sides["tune"] | sides["train"] & sides["validation"]
    fewer = parts(scenes[::2])
    assert {scene.group for scene in fewer["validation"]} == sides["validation"]
    assert fingerprints(found.items())["train"]["scenes"] == len(found["train"])


def test_an_empty_part_is_told() -> None:
    few = [bare(0), bare(1)]
    with pytest.raises(DatasetError, match=r"part is empty: 2 scenes in 1 groups"):
        parts(few)
    held = next(part for part, some in parts(few, []).items() if some)
    assert parts(few, [held])[held] == few


def test_mosaics_put_scenes_with_their_faces_in_a_grid() -> None:
    def one(width: int, height: int, level: int) -> Scene:
        pixels = np.full((height, width, 3), level, np.uint8)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        points = np.full((1, 5, 2), 6.0)
        return scene(f"{level}.png", data, [[4, 6, 8, 10]], points=points, doubtful=[level > 30])

    singles = [one(60, 40, 20), one(200, 100, 30), one(50, 50, 40), one(50, 50, 50), one(9, 9, 60)]
    (whole,) = mosaics(singles, 2, side=200)
    pixels = whole.pixels()
    assert pixels.shape == (200, 200, 3)
    assert [int(pixels[y, x, 0]) for y, x in ((5, 5), (5, 105), (105, 5), (105, 105), (70, 5))] == [
        20,
        30,
        40,
        50,
        0,
    ]
    # The second is shrunk by half.
    expected = [[4, 6, 8, 10], [102, 3, 4, 5], [4, 106, 8, 10], [104, 106, 8, 10]]
    assert whole.boxes.tolist() == expected
    assert whole.points[1, 0].tolist() == [103, 3]
    assert whole.doubtful.tolist() == [False, False, True, True]


def test_too_few_scenes_for_a_mosaic_are_told() -> None:
    with pytest.raises(DatasetError, match="9 scenes cannot be made of 8"):
        mosaics([bare(number) for number in range(8)], 3)
