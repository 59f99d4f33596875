from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import TensorProto

from service.errors import ModelError
from service.runtime.haar import HaarDetector
from service.runtime.session import SessionOptions
from service.runtime.yunet import YunetDetector
from tests.detectors import COUNTS
from tests.yunet import stub_yunet

ROOT = Path(__file__).parents[3]
ASTRONAUT = ROOT / "tests" / "media" / "astronaut.jpg"
CPU = SessionOptions(provider="cpu")


def detect(detector, pixels, threshold=None, min_face_px=1.0):
    return detector.detect(pixels, threshold=threshold, min_face_px=min_face_px)


def rows(faces):
    """(N, 4) x, y, width, height."""
    boxes = [[face.box.x, face.box.y, face.box.width, face.box.height] for face in faces]
    return np.array(boxes, np.float32).reshape(-1, 4)


def by_place(boxes):
    return boxes[np.lexsort((boxes[:, 1], boxes[:, 0]))]


@pytest.fixture(scope="module")
def haar():
    if not hasattr(cv2, "CascadeClassifier"):
        pytest.skip("OpenCV 5 has no cascades")
    return HaarDetector()


@pytest.fixture
def yunet(tmp_path):
    return YunetDetector(stub_yunet(tmp_path / "stub.onnx"), max_side=320, options=CPU)


@pytest.fixture(params=["haar", "yunet"])
def detector(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def astronaut():
    return cv2.imread(str(ASTRONAUT))


def lit(height, width, x, y, side):
    """Black but for one square."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y : y + side, x : x + side] = 255
    return pixels


# Either ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 4000), (4000, 1), (50, 8000), (8000, 50), (19, 19), (20, 20), (480, 640)]
)
def test_a_blank_image_of_any_size_has_no_face(detector, shape):
    assert detect(detector, np.full((*shape, 3), 90, np.uint8)) == []


# Haar -----------------------------------------------------------------------------------------


def test_haar_finds_the_astronaut(haar, astronaut):
    (face,) = detect(haar, astronaut, min_face_px=20)
    # Tight box by YuNet: x 178, y 63, 90 x 114.
    np.testing.assert_allclose(rows([face])[0], [178, 63, 90, 114], atol=15)
    assert face.landmarks is None
    assert 0.7 <= face.score <= 1


def test_haar_takes_an_image_that_looks_grey(haar, astronaut):
    gray = cv2.cvtColor(cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    np.testing.assert_array_equal(rows(detect(haar, gray)), rows(detect(haar, astronaut)))


def test_haar_finds_a_face_in_pixels_of_a_large_image(haar, astronaut):
    large = cv2.resize(astronaut, None, fx=3, fy=3)
    (face,) = detect(haar, large, min_face_px=60)
    np.testing.assert_allclose(rows([face])[0] / 3, [178, 63, 90, 114], atol=15)


def test_haar_finds_a_face_that_fills_the_image(haar, astronaut):
    tight = cv2.resize(astronaut[63:177, 178:268], None, fx=2, fy=2)
    (face,) = detect(haar, tight)
    np.testing.assert_allclose(face.box.center, (90, 114), atol=15)
    assert face.box.side > 110


def test_haar_keeps_to_threshold_and_smallest_face(haar, astronaut):
    many = detect(haar, astronaut, threshold=0)
    assert all(0 < face.score <= 1 for face in many)
    (best,) = detect(haar, astronaut)
    assert detect(haar, astronaut, threshold=best.score - 1e-3) == [best]
    assert detect(haar, astronaut, threshold=1.0) == []
    # A smallest size close to that of a face must not change its box.
    assert detect(haar, astronaut, min_face_px=best.box.side - 1) == [best]
    assert detect(haar, astronaut, min_face_px=best.box.side + 5) == []


def test_haar_gives_the_same_from_many_threads(haar, astronaut):
    small = cv2.resize(astronaut, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    images = [np.roll(small, 7 * k, axis=1) for k in range(8)]
    alone = [rows(detect(haar, image)) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: rows(detect(haar, image)), images * 2))
    for expected, found in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_haar_needs_an_opencv_that_has_cascades(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier", raising=False)
    with pytest.raises(ModelError, match="no cascade classifier"):
        HaarDetector()


@pytest.mark.usefixtures("haar")
def test_haar_says_which_cascade_it_cannot_load(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    with pytest.raises(ModelError, match="haarcascade_frontalface_alt2"):
        HaarDetector()


# YuNet's format -------------------------------------------------------------------------------


def test_yunet_places_box_and_points_by_stride_row_and_column(yunet):
    (face,) = detect(yunet, lit(64, 256, 72, 24, 8), threshold=0.9)  # one cell of stride 8
    # Middle (76, 28), 2 x 3 cells of 8 pixels.
    np.testing.assert_allclose(rows([face])[0], [68, 16, 16, 24], atol=1e-3)
    expected = np.array([72, 24]) + np.arange(10).reshape(5, 2) * 0.8
    np.testing.assert_allclose(face.landmarks, expected, atol=1e-3)


def test_yunet_gives_pixels_of_the_image(yunet):
    (face,) = detect(yunet, lit(160, 1280, 640, 64, 32), threshold=0.9)  # a quarter is worked on
    np.testing.assert_allclose(rows([face])[0], [624, 32, 64, 96], atol=1e-3)


def test_yunet_keeps_to_threshold_and_smallest_face(yunet):
    pixels = lit(96, 96, 8, 8, 8) // 2
    score = float(pixels.max()) / 255
    (face,) = detect(yunet, pixels, threshold=score - 1e-3)
    assert face.score == pytest.approx(score, abs=1e-4)
    assert detect(yunet, pixels, threshold=score + 1e-3) == []
    assert detect(yunet, pixels) == []  # below the default of 0.7
    side = np.sqrt(16 * 24)
    assert len(detect(yunet, pixels, threshold=0.4, min_face_px=side - 0.1)) == 1
    assert detect(yunet, pixels, threshold=0.4, min_face_px=side + 0.1) == []


@pytest.mark.parametrize(("side", "rigid"), [(None, False), (128, False), (128, True)])
def test_yunet_finds_the_same_whatever_size_the_file_declares(tmp_path, side, rigid):
    path = stub_yunet(tmp_path / "stub.onnx", side=side, rigid=rigid)
    detector = YunetDetector(path, max_side=256, options=CPU)
    # A file that works at its own size alone keeps it; another is freed of it.
    assert detector.max_side == (128 if rigid else 256)
    (face,) = detect(detector, lit(128, 100, 72, 24, 8), threshold=0.9)
    np.testing.assert_allclose(rows([face])[0], [68, 16, 16, 24], atol=1e-3)
    cell = 8 * 512 // detector.max_side  # a cell of stride 8, once 512 pixels are shrunk
    (face,) = detect(detector, lit(160, 512, 256, 64, cell), threshold=0.9)
    np.testing.assert_allclose(face.box.center, (256 + cell / 2, 64 + cell / 2), atol=0.1)


def test_yunet_works_within_a_multiple_of_32(tmp_path):
    path = stub_yunet(tmp_path / "stub.onnx")
    assert YunetDetector(path, max_side=500, options=CPU).max_side == 480
    assert YunetDetector(path, max_side=1, options=CPU).max_side == 32


def test_yunet_is_named_by_its_file(tmp_path):
    one = YunetDetector(stub_yunet(tmp_path / "one.onnx"), options=CPU)
    other = YunetDetector(stub_yunet(tmp_path / "other.onnx", side=64), options=CPU)
    assert one.id.startswith("yunet@")
    assert len(one.id) == len("yunet@") + 8
    assert one.id != other.id


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"drop": "kps_16"}, "no output 'kps_16'"),
        ({"kind": TensorProto.UINT8}, "float32"),
        ({"classes": 2}, r"cls_8 is \(1, 96, 2\) for an image of 96 x 64"),
        ({"classes": 2, "side": 64, "rigid": True}, r"cls_8 is \(1, 64, 2\)"),
    ],
)
def test_another_format_is_told_from_yunets(tmp_path, changes, reason):
    path = stub_yunet(tmp_path / "other.onnx", **changes)
    with pytest.raises(ModelError, match=reason) as told:
        YunetDetector(path, options=CPU)
    assert str(path) in str(told.value)


def test_a_file_that_is_missing_or_no_model_is_named(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    for path in (tmp_path / "missing.onnx", tmp_path, broken, Path("nul\0.onnx")):
        with pytest.raises(ModelError) as told:
            YunetDetector(path, options=CPU)
        assert path.name in str(told.value)


# YuNet itself ---------------------------------------------------------------------------------


@pytest.mark.shared
def test_yunet_counts_the_faces_of_the_shared_photos(shared):
    detector = YunetDetector(shared / "peers" / "yunet_2023mar.onnx", options=CPU)
    counts = {
        name: len(detect(detector, cv2.imread(str(shared / "data" / "media" / name)), None, 20))
        for name in COUNTS
    }
    assert counts == COUNTS


@pytest.mark.shared
@pytest.mark.parametrize("name", COUNTS)
def test_yunet_agrees_with_opencvs(shared, name):
    path = shared / "peers" / "yunet_2023mar.onnx"
    pixels = cv2.imread(str(shared / "data" / "media" / name))
    side = min(1.0, 640 / max(pixels.shape))
    pixels = cv2.resize(pixels, None, fx=side, fy=side, interpolation=cv2.INTER_AREA)
    height, width = pixels.shape[:2]
    peer = cv2.FaceDetectorYN.create(str(path), "", (width, height), 0.5, 0.3)
    expected = peer.detect(pixels)[1]
    expected = np.zeros((0, 15), np.float32) if expected is None else expected

    faces = detect(YunetDetector(path, options=CPU), pixels, 0.5)
    assert len(faces) == len(expected)
    if not faces:
        return
    order = np.lexsort((expected[:, 1], expected[:, 0]))
    np.testing.assert_allclose(by_place(rows(faces)), expected[order, :4], atol=1)
    faces.sort(key=lambda face: (face.box.x, face.box.y))
    points = np.stack([face.landmarks.reshape(-1) for face in faces])
    np.testing.assert_allclose(points, expected[order, 4:14], atol=1)
    np.testing.assert_allclose([face.score for face in faces], expected[order, 14], atol=0.01)
