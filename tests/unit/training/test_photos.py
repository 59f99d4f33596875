from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.runtime.registry import Model
from service.runtime.session import SessionOptions
from service.types import Box, Face
from tests.detectors import stub_detector
from tests.fakes import FakeDetector, encode, make_model_folder
from tests.yunet import stub_yunet
from training.__main__ import app
from training.datasets import DatasetError
from training.datasets.fairface import Photo, load_photos
from training.framing import SCALES, SHIFTS, roll, try_framings
from training.photos import Found, accuracy, central, find
from training.served import measure_photos

MEDIA = Path(__file__).parents[2] / "media"
NAMES = (
    "20-29_female_1.png",
    "0-2_female_2.png",
    "10-19_female_3.png",
    "40-49_male_4.png",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four times one face, in the middle, bright enough for the stub of YuNet."""
    astronaut = cv2.imread(str(MEDIA / "astronaut.jpg"))
    face = 128 + astronaut[0:240, 100:340] // 2
    folder = tmp_path / "fairface"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(encode(np.asarray(face, np.uint8)))
    return folder


def test_names_say_gender_and_the_bands_that_fit(photos: Path) -> None:
    labels = {photo.name: photo.labels for photo in load_photos(photos)}
    assert labels["20-29_female_1.png"] == {"gender": "female", "age": "19-30"}
    assert labels["0-2_female_2.png"]["age"] == "0-18"
    # 10 to 19 lies across our bands of 0-18 and 19-30.
    assert labels["10-19_female_3.png"] == {"gender": "female"}


@pytest.mark.parametrize("name", ["a.png", "20-29_f_1.png", "21-29_female_1.png"])
def test_other_names_are_refused(photos: Path, name: str) -> None:
    (photos / name).write_bytes(b"")
    with pytest.raises(DatasetError, match=name):
        load_photos(photos)


def test_no_photo(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no photo"):
        load_photos(tmp_path)


def test_the_central_face_is_the_nearest_that_holds_the_middle() -> None:
    middle, beside, away = (Face(Box(x, 40.0, 30.0, 30.0), 1.0) for x in (36.0, 30.0, 5.0))
    assert central([away, beside, middle], 100, 100) is middle
    assert central([away], 100, 100) is None


def test_photos_without_their_face_are_left_out(photos: Path) -> None:
    loaded = load_photos(photos)
    assert find(loaded, FakeDetector((0.0, 0.0, 0.2, 0.2))) == []
    found = find(loaded, FakeDetector((0.0, 0.0, 0.2, 0.2), (0.3, 0.3, 0.4, 0.4)))
    assert [f.face.box.x for f in found] == [0.3 * 240] * 4


def test_accuracy_is_over_the_photos_that_have_the_label() -> None:
    photos = [
        Photo("a", b"", {"gender": "female", "age": "0-18"}),
        Photo("b", b"", {"gender": "male"}),
        Photo("c", b"", {"gender": "male"}),
    ]
    said = [{"gender": "male", "age": "0-18", "emotion": "sad"} for _ in photos]
    assert accuracy(photos, said) == {
        "gender": {"samples": 3, "accuracy": pytest.approx(2 / 3)},
        "age": {"samples": 1, "accuracy": 1.0},
    }
    assert accuracy([], []) == {}


def test_service_against_the_best_box(tmp_path: Path, photos: Path) -> None:
    models = tmp_path / "models"
    folder = make_model_folder(models, heads=("gender", "age"), size=32)
    make_model_folder(models, "moody", heads=("emotion",))
    stub_detector(models)
    yunet = stub_yunet(tmp_path / "yunet.onnx")
    flags = ["--fairface", str(photos), "--yunet", str(yunet), "--models", str(models)]
    result = CliRunner().invoke(app, ["photos", *flags], catch_exceptions=False)
    assert "tiny, haar: 4 of 4 faces" in result.output
    assert not (models / "moody" / "photos.json").exists()
    record = json.loads((folder / "photos.json").read_text())
    assert record["sha256"] == json.loads((folder / "card.json").read_text())["sha256"]
    assert list(record["services"]) == ["haar", "yunet", "mien"]
    best = record["best_box"]
    assert (record["photos"], best["found"]) == (4, 4)
    # One face has one answer: right for three photos, or for the one that is left.
    assert best["heads"]["gender"]["accuracy"] in (0.75, 0.25)
    assert best["heads"]["age"]["samples"] == 3
    # The same box, cut and run by the whole service: the same answers.
    through = record["services"]["yunet"]["heads"]
    assert record["services"]["yunet"]["found"] == 4
    assert record["services"]["yunet"]["boxes"]["side"] == {"median": 1.0, "deviation": 0.0}
    assert record["services"]["haar"]["boxes"].keys() == {"side", "x", "y"}
    for head, figures in through.items():
        assert figures["accuracy"] == figures["best_box_accuracy"]
        assert figures["accuracy"] == best["heads"][head]["accuracy"]
        assert figures["other_answers"] == 0


def test_a_detector_that_finds_nothing(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path, heads=("gender",), size=32)
    blob = np.zeros((160, 160, 3), np.uint8)
    blob[48:112, 48:112] = 250
    photo = Photo("blob", encode(blob), {"gender": "male"})
    record = measure_photos(folder, [photo], stub_yunet(tmp_path / "yunet.onnx"))
    assert record["best_box"]["found"] == 1
    haar = record["services"]["haar"]
    assert (haar["found"], haar["heads"], haar["boxes"]) == (0, {}, {})
    assert haar["ms"]["total"] >= haar["ms"]["detect"] > 0


def test_every_framing_is_tried(tmp_path: Path) -> None:
    model = Model(make_model_folder(tmp_path, heads=("gender",), size=32), SessionOptions("cpu"))
    face = Face(Box(30.0, 30.0, 40.0, 40.0), 1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    found = [Found(Photo(s, b"", {"gender": s}), pixels, face) for s in ("male", "female")]
    rows = try_framings(model, found)
    assert len(rows) == 2 + len(SCALES) * len(SHIFTS) * 2
    assert (SCALES[0], SCALES[-1]) == (1.0, 1.8)
    # The same face twice, once of each label: one answer is right.
    assert {row["accuracy"] for row in rows} == {0.5}


def test_a_levelled_crop_has_its_eyes_on_one_line() -> None:
    from service.card import Framing, InputSpec
    from service.vision.crops import crop_face

    pixels = np.zeros((100, 100, 3), np.uint8)
    right, left = (35, 40), (65, 55)  # the line falls to the right
    for eye in (right, left):
        cv2.circle(pixels, eye, 3, (255, 255, 255), -1)
    landmarks = np.array([right, left, (50, 60), (40, 70), (60, 70)], np.float32)
    face = Face(Box(20.0, 20.0, 60.0, 60.0), 1.0, landmarks)
    assert roll(face) == pytest.approx(26.565, abs=1e-3)
    spec = InputSpec(size=60, color="gray", framing=Framing())
    crop = crop_face(pixels, face.box, spec, rotation_deg=-roll(face))[..., 0]
    _, _, _, middles = cv2.connectedComponentsWithStats((crop > 127).astype(np.uint8))
    (_, y1), (_, y2) = middles[1:]
    assert abs(y1 - y2) < 1
    assert roll(Face(face.box, 1.0)) == 0.0


@pytest.mark.shared
def test_yunet_serves_what_the_best_box_gives(shared: Path, tmp_path: Path) -> None:
    """A tenth of FairFace: the service with YuNet cuts what the best box cuts."""
    photos = load_photos(shared / "data" / "fairface.zip")[::10]
    folder = make_model_folder(tmp_path, heads=("gender", "age"), size=32)
    record = measure_photos(folder, photos, shared / "peers" / "yunet_2023mar.onnx")
    assert record["best_box"]["found"] == record["services"]["yunet"]["found"] == 27
    assert record["services"]["haar"]["found"] >= 15
    for figures in record["services"]["yunet"]["heads"].values():
        assert abs(figures["accuracy"] - figures["best_box_accuracy"]) <= 0.01
