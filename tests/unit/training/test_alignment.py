from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.card import Framing, InputSpec
from service.types import Box, Face
from tests.fakes import encode, make_model_folder
from tests.yunet import stub_yunet
from training.__main__ import app
from training.alignment import _crop, aligned, mean_face
from training.datasets.fairface import Photo
from training.photos import Found

MEDIA = Path(__file__).parents[2] / "media"
MEAN = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.1], [-0.15, 0.3], [0.15, 0.3]], np.float32)


def turned(degrees: float, side: float, middle: tuple[float, float]) -> np.ndarray:
    """Points of the mean face, turned clockwise, of this size and in this place."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(MEAN @ turn.T * side + middle, np.float32)


@pytest.mark.parametrize("degrees", [-40.0, 0.0, 10.0, 170.0])
def test_the_box_is_that_of_the_mean_face_in_its_place(degrees: float) -> None:
    face = Face(Box(0, 0, 1, 1), 1.0, turned(degrees, 80, (120, 90)))
    box, turn = aligned(face, MEAN)
    assert box.center == pytest.approx((120, 90), abs=1e-3)
    assert box.side == pytest.approx(80, abs=1e-3)
    assert turn == pytest.approx(degrees, abs=1e-3)


def test_the_mean_face_is_in_sides_of_the_box() -> None:
    faces = [Face(Box(30, 40, 50, 50), 1.0, turned(0, 50, (55, 65))) for _ in range(2)]
    np.testing.assert_allclose(mean_face([*faces, Face(Box(0, 0, 1, 1), 1.0)]), MEAN, atol=1e-6)


def test_a_turned_face_is_cut_as_the_upright_one() -> None:
    pixels = np.asarray(cv2.imread(str(MEDIA / "astronaut.jpg")), np.uint8)
    box = Box(178, 63, 100, 100)
    face = Face(box, 1.0, turned(0, box.side, box.center))
    matrix = cv2.getRotationMatrix2D(box.center, -25, 1.0)  # clockwise, in pixels
    rotated = np.asarray(cv2.warpAffine(pixels, matrix, pixels.shape[1::-1]), np.uint8)
    other = Face(box, 1.0, turned(25, box.side, box.center))
    spec = InputSpec(size=48, color="gray", framing=Framing(scale=1.2, shift_y=0.15))
    upright = _crop(Found(Photo("", b"", {}), pixels, face), spec, "box", MEAN)
    put_in_place = _crop(Found(Photo("", b"", {}), rotated, other), spec, "aligned", MEAN)
    left = _crop(Found(Photo("", b"", {}), rotated, other), spec, "box", MEAN)

    def difference(crop: np.ndarray) -> float:
        return float(np.abs(crop.astype(float) - upright).mean())

    assert difference(put_in_place) < 5 < difference(left)


def test_the_trial_prints_a_table(tmp_path: Path) -> None:
    make_model_folder(tmp_path / "models", heads=("gender", "age"), size=32)
    astronaut = np.asarray(cv2.imread(str(MEDIA / "astronaut.jpg")), np.uint8)
    photos = tmp_path / "fairface"
    photos.mkdir()
    for name in ("20-29_female_1.png", "40-49_male_4.png"):
        pixels = 128 + astronaut[0:240, 100:340] // 2
        (photos / name).write_bytes(encode(np.asarray(pixels, np.uint8)))
    words = ["alignment", "tiny", "--yunet", str(stub_yunet(tmp_path / "yunet.onnx"))]
    flags = ["--fairface", str(photos), "--models", str(tmp_path / "models")]
    done = CliRunner().invoke(app, [*words, *flags], catch_exceptions=False)
    assert "fairface, landmarks of yunet@" in done.output
    assert "| tiny@1.0.0 | gender | 2 | 50.0% | 50.0% | 50.0% |" in done.output
