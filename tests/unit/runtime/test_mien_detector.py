"""Our detector: with a graph that takes what is bright for a face, and with the real weights."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from service.card import load_detector_card
from service.errors import CardInvalid, HashMismatch, ModelError
from service.runtime.detector import MienDetector
from service.runtime.session import OrtSession, SessionOptions
from service.settings import Settings
from service.types import Face, Pixels
from tests.detectors import COUNTS, stub_detector
from tests.fakes import make_model_folder
from tests.yunet import stub_yunet

CPU = SessionOptions(provider="cpu")
COMMITTED = Settings().detector_dir
ASTRONAUT = Path(__file__).parents[2] / "media" / "astronaut.jpg"


def opened(folder: Path, **options: Any) -> MienDetector:
    """What the stub finds is exact in whole pixels: nothing is enlarged."""
    return MienDetector(folder, options=CPU, **{"enlarge": 1.0, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stub_detector(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def stub(folder: Path) -> MienDetector:
    return opened(folder, max_side=320)


def detect(
    detector: MienDetector,
    pixels: Pixels,
    threshold: float | None = None,
    min_face_px: float = 1.0,
) -> list[Face]:
    return detector.detect(pixels, threshold=threshold, min_face_px=min_face_px)


def rows(faces: list[Face]) -> Any:
    """(N, 4) x, y, width, height, from left to right and top to bottom."""
    boxes = sorted([f.box.x, f.box.y, f.box.width, f.box.height] for f in faces)
    return np.array(boxes, np.float32).reshape(-1, 4)


def lit(height: int, width: int, *corners: tuple[int, int], side: int = 8) -> Pixels:
    """Black but for squares."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for x, y in corners:
        pixels[y : y + side, x : x + side] = 255
    return pixels


def test_box_and_points_lie_by_stride_row_and_column(stub: MienDetector) -> None:
    (face,) = detect(stub, lit(64, 256, (72, 24)))
    # Middle (76, 28), 2 x 3 cells of 8 pixels.
    np.testing.assert_allclose(rows([face])[0], [68, 16, 16, 24], atol=1e-3)
    expected = np.array([76, 28]) + np.arange(10).reshape(5, 2) * 0.8
    np.testing.assert_allclose(face.landmarks, expected, atol=1e-3)
    assert face.score == pytest.approx(1, abs=1e-4)


def test_places_are_pixels_of_the_image(stub: MienDetector) -> None:
    (face,) = detect(stub, lit(160, 1280, (640, 64), side=32))  # a quarter is worked on
    np.testing.assert_allclose(rows([face])[0], [624, 32, 64, 96], atol=1e-3)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 4000), (4000, 1), (31, 33), (480, 640), (6000, 8000), (8000, 50)]
)
def test_a_dark_image_of_any_size_has_no_face(stub: MienDetector, shape: tuple[int, int]) -> None:
    assert detect(stub, np.zeros((*shape, 3), np.uint8)) == []


def test_a_face_at_each_edge_is_found(stub: MienDetector) -> None:
    corners = [(0, 0), (152, 0), (0, 112), (152, 112), (72, 0), (72, 112), (0, 56), (152, 56)]
    found = rows(detect(stub, lit(120, 160, *corners)))
    expected = sorted([x - 4, y - 8, 16, 24] for x, y in corners)
    np.testing.assert_allclose(found, np.array(expected), atol=1e-3)


def test_300_faces_are_found(folder: Path) -> None:
    corners = [(16 * column, 24 * row) for row in range(15) for column in range(20)]
    found = rows(detect(opened(folder, max_side=384), lit(360, 320, *corners)))
    expected = sorted([x - 4, y - 8, 16, 24] for x, y in corners)
    np.testing.assert_allclose(found, np.array(expected), atol=1e-3)


@pytest.mark.parametrize("frame", [(96, 160), (97, 161), (300, 310)])
def test_what_fills_up_the_frame_changes_nothing(
    stub: MienDetector, frame: tuple[int, int]
) -> None:
    pixels = lit(96, 160, (72, 24), (8, 80))
    padded = np.zeros((*frame, 3), np.uint8)
    padded[:96, :160] = pixels
    np.testing.assert_array_equal(rows(detect(stub, padded)), rows(detect(stub, pixels)))


def test_a_small_image_is_enlarged_within_max_side(folder: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:40, 32:56] = 255
    plain = rows(detect(opened(folder, max_side=192), pixels))
    for side, scale in ((192, 2.0), (128, 4 / 3), (96, 1.0)):
        larger = opened(folder, max_side=side, enlarge=2)
        found = rows(detect(larger, pixels))
        assert found[:, 2].min() == pytest.approx(plain[:, 2].min() / scale, rel=0.01)
        middles = found[:, :2] + found[:, 2:] / 2
        assert ((middles > [24, 8]) & (middles < [64, 48])).all()


def test_a_threshold_of_the_callers_goes_before_the_cards(tmp_path: Path) -> None:
    strict = opened(stub_detector(tmp_path, threshold=0.9))
    pixels = lit(96, 96, (8, 8)) // 255 * 140  # says 0.73
    assert detect(strict, pixels) == []
    (face,) = detect(strict, pixels, threshold=0.7)
    assert face.score == pytest.approx(1 / (1 + np.exp(-(140 / 255 * 20 - 10))), abs=1e-4)
    side = np.sqrt(16 * 24)
    assert len(detect(strict, pixels, 0.7, side - 0.1)) == 1
    assert detect(strict, pixels, 0.7, side + 0.1) == []


def test_a_threshold_of_0_gives_everything_within_the_time_of_a_request(
    stub: MienDetector,
) -> None:
    faces = detect(stub, np.zeros((240, 320, 3), np.uint8), threshold=0)
    assert 0 < len(faces) <= 1575


def test_where_nothing_is_found_a_small_copy_shows_what_fills_the_image(tmp_path: Path) -> None:
    pixels = np.full((512, 640, 3), 255, np.uint8)  # its largest cells say 64 x 96
    sides = [face.box.side for face in detect(opened(stub_detector(tmp_path, "sure")), pixels)]
    assert max(sides) < 100
    unsure = opened(stub_detector(tmp_path, "unsure", threshold=0.99999))
    assert detect(unsure, pixels) == []
    found = [face.box.side for face in detect(unsure, pixels, threshold=0.9)]
    assert sorted(found)[-1] == pytest.approx(5 * np.sqrt(64 * 96), rel=1e-2)
    assert [
        side for side in found if 100 < side < 0.4 * 512
    ] == []  # it is not asked for smaller ones


def test_large_groups_are_searched_in_tiles(folder: Path) -> None:
    plain, tiled = opened(folder, max_side=320), opened(folder, max_side=320, tiles=4)
    assert (plain.max_side, tiled.max_side) == (320, 1280)
    corners = [(0, 0), (1272, 0), (640, 312), (1272, 792), (296, 504), (320, 600)]
    pixels = lit(800, 1280, *corners)
    assert detect(plain, pixels) == []
    expected = sorted([x - 4, y - 8, 16, 24] for x, y in corners)
    np.testing.assert_allclose(rows(detect(tiled, pixels)), np.array(expected), atol=1e-3)
    small = lit(64, 256, (72, 24))
    np.testing.assert_array_equal(rows(detect(tiled, small)), rows(detect(plain, small)))


def test_it_gives_the_same_from_many_threads(stub: MienDetector) -> None:
    images = [lit(96 + 32 * (k % 3), 160, (8 * k, 16)) for k in range(12)]
    alone = [rows(detect(stub, image)) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: rows(detect(stub, image)), images))
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_it_works_within_a_multiple_of_32(folder: Path) -> None:
    assert opened(folder, max_side=500).max_side == 480
    assert opened(folder, max_side=1).max_side == 32


def test_it_is_named_by_its_card(stub: MienDetector) -> None:
    assert stub.id == "detector@1.0.0"
    assert stub.provider == "cpu"


def test_a_file_that_is_not_its_cards_is_refused(tmp_path: Path) -> None:
    folder = stub_detector(tmp_path)
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(HashMismatch, match="detector"):
        opened(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"no readable model\.onnx"):
        opened(folder)
    shutil.rmtree(folder)
    with pytest.raises(CardInvalid, match=r"no readable card\.json"):
        opened(folder)


def test_a_graph_that_is_no_detectors_is_refused(tmp_path: Path) -> None:
    def dressed(name: str, data: bytes) -> Path:
        folder = stub_detector(tmp_path, name, sha256=hashlib.sha256(data).hexdigest())
        (folder / "model.onnx").write_bytes(data)
        return folder

    faces = make_model_folder(tmp_path, "faces") / "model.onnx"
    with pytest.raises(CardInvalid, match="no detector's"):
        opened(dressed("one", faces.read_bytes()))
    with pytest.raises(CardInvalid, match="no detector's"):
        opened(dressed("two", stub_yunet(tmp_path / "yunet.onnx").read_bytes()))
    with pytest.raises(CardInvalid, match="task"):
        opened(faces.parent)


# The committed weights ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> MienDetector:
    return MienDetector(COMMITTED, options=CPU)


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return np.asarray(cv2.imread(str(ASTRONAUT)), np.uint8)


# Its tight box by YuNet.
TIGHT = [178, 63, 90, 114]


def test_ours_finds_the_astronaut(ours: MienDetector, astronaut: Pixels) -> None:
    (face,) = detect(ours, astronaut, min_face_px=20)
    np.testing.assert_allclose(rows([face])[0], TIGHT, atol=12)
    assert face.landmarks is not None
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


def test_ours_takes_an_image_that_looks_grey(ours: MienDetector, astronaut: Pixels) -> None:
    gray = cv2.cvtColor(cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    np.testing.assert_allclose(rows(detect(ours, np.asarray(gray, np.uint8)))[0], TIGHT, atol=12)


@pytest.mark.parametrize("scale", [0.2, 0.5, 3.0])
def test_ours_finds_a_face_of_any_size(ours: MienDetector, astronaut: Pixels, scale: float) -> None:
    resized = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (box,) = rows(detect(ours, np.asarray(resized, np.uint8))) / scale
    np.testing.assert_allclose(box, TIGHT, atol=12)


def test_ours_finds_a_face_that_fills_the_image(ours: MienDetector, astronaut: Pixels) -> None:
    x, y, width, height = TIGHT
    tight = cv2.resize(astronaut[y : y + height, x : x + width], None, fx=6, fy=6)
    (face,) = detect(ours, np.asarray(tight, np.uint8))
    np.testing.assert_allclose(face.box.center, (3 * width, 3 * height), atol=60)
    assert face.box.side > 0.75 * 6 * np.sqrt(width * height)


@pytest.mark.parametrize("side", [480, 1600])
def test_ours_finds_a_face_that_fills_the_image_and_a_small_one(
    ours: MienDetector, astronaut: Pixels, side: int
) -> None:
    x, y, width, height = TIGHT
    filling = cv2.resize(
        astronaut[y : y + height, x : x + width], (round(side * width / height), side)
    )
    small = round(side * 0.12)
    filling[-small:, -small:] = cv2.resize(astronaut[40:210, 140:310], (small, small))

    faces = sorted(detect(ours, np.asarray(filling, np.uint8)), key=lambda face: face.box.side)

    assert len(faces) == 2
    assert faces[0].box.side < small
    assert faces[1].box.side > 0.75 * np.sqrt(filling.shape[0] * filling.shape[1])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_ours_finds_a_face_close_to_the_camera(
    ours: MienDetector, astronaut: Pixels, share: float
) -> None:
    x, y, width, height = TIGHT
    high = height / share
    left, top = x + width / 2 - high * 2 / 3, y + height / 2 - high / 2
    zoom = 480 / high
    matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
    near = cv2.warpAffine(astronaut, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE)
    (face,) = detect(ours, np.asarray(near, np.uint8), min_face_px=20)
    np.testing.assert_allclose(face.box.center, (320, 240), atol=40)
    assert face.box.side == pytest.approx(zoom * np.sqrt(width * height), rel=0.25)


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_ours_finds_a_face_at_an_edge(ours: MienDetector, astronaut: Pixels, edge: str) -> None:
    x, y, width, height = TIGHT
    cut = {
        "left": astronaut[:, x:],
        "right": astronaut[:, : x + width],
        "top": astronaut[y:],
        "bottom": astronaut[: y + height],
    }[edge]
    (face,) = detect(ours, np.ascontiguousarray(cut), min_face_px=20)
    shift = {"left": (-x, 0), "top": (0, -y)}.get(edge, (0, 0))
    expected = x + width / 2 + shift[0], y + height / 2 + shift[1]
    np.testing.assert_allclose(face.box.center, expected, atol=15)


def test_a_border_moves_no_box_of_ours(ours: MienDetector, astronaut: Pixels) -> None:
    plain = opened(COMMITTED)  # or the smaller image would be enlarged more
    bordered = cv2.copyMakeBorder(astronaut, 0, 40, 0, 100, cv2.BORDER_CONSTANT)
    a, b = rows(detect(plain, astronaut)), rows(detect(plain, np.asarray(bordered, np.uint8)))
    np.testing.assert_allclose(a, b, atol=3)


def test_ours_is_one_of_a_batch_as_it_is_alone(ours: MienDetector, astronaut: Pixels) -> None:
    session = OrtSession(COMMITTED / "model.onnx", CPU)
    others = [astronaut[:, ::-1], np.zeros_like(astronaut)]
    (together,) = session.run("image", np.stack([astronaut, *others]), ["cells"])
    (alone,) = session.run("image", astronaut[np.newaxis], ["cells"])
    np.testing.assert_allclose(together[0], alone[0], atol=1e-3)


@pytest.mark.shared
@pytest.mark.parametrize("name", COUNTS)
def test_ours_counts_the_faces_of_the_shared_photos(
    ours: MienDetector, shared: Path, name: str
) -> None:
    pixels = np.asarray(cv2.imread(str(shared / "data" / "media" / name)), np.uint8)
    assert len(detect(ours, pixels, min_face_px=20)) == COUNTS[name]


def test_the_card_of_ours_has_its_figures() -> None:
    card = load_detector_card(COMMITTED)
    assert {(m.name, m.size_px) for m in card.metrics} >= {("ap", "all"), ("recall", "all")}
    assert card.times
    assert card.parameters <= 100_000
    assert (COMMITTED / "model.onnx").stat().st_size <= 400_000
    assert (COMMITTED / "model.keras").exists()
    text = (COMMITTED / "README.md").read_text()
    assert card.sha256 in text
