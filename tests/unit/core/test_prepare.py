"""bytes -> faces and crops, with the real codec and a detector that knows where the faces are."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

from service.core import prepare as module
from service.core.prepare import PrepareJob, Preparer
from service.errors import ImageError, InvalidImage, TooLarge
from service.types import Image
from service.vision.codec import ImageLimits
from service.vision.crops import crop_face, crop_whole
from tests.fakes import FakeDetector, encode, make_card, noise

GRAY, RGB = make_card("gray", size=48).input, make_card("rgb", size=96, color="rgb").input
BIG, SMALL, MIDDLE = (0.5, 0.1, 0.3, 0.4), (0.1, 0.7, 0.02, 0.03), (0.1, 0.1, 0.2, 0.25)


def job(data: bytes, **changes: Any) -> PrepareJob:
    options = {
        "detect": True,
        "detection_threshold": None,
        "min_face_px": 0.0,
        "max_faces": 100,
        "specs": {"gray": GRAY},
        "answer": lambda prepared: None,
    } | changes
    return PrepareJob(data, **options)


def prepare(detector: FakeDetector, data: bytes, **changes: Any) -> module.Prepared:
    (prepared,) = Preparer(detector, ImageLimits()).run([job(data, **changes)])
    return prepared


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    """Every image that was decoded."""
    made: list[Image] = []
    real = module.decode

    def decode(*args: Any, **options: Any) -> Image:
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr(module, "decode", decode)
    return made


# Faces -------------------------------------------------------------------------------------------


def test_faces_come_largest_first_with_their_crops() -> None:
    pixels = noise(300, 400)
    prepared = prepare(
        FakeDetector(SMALL, BIG, MIDDLE), encode(pixels), specs={"gray": GRAY, "rgb": RGB}
    )
    sides = [face.box.side for face in prepared.faces]
    assert sides == sorted(sides, reverse=True)
    assert len(sides) == 3
    for name, spec in (("gray", GRAY), ("rgb", RGB)):
        crops = prepared.crops[name]
        assert len(crops) == 3
        for face, crop in zip(prepared.faces, crops, strict=True):
            np.testing.assert_array_equal(crop, crop_face(pixels, face.box, spec))


def test_of_too_many_faces_the_largest_stay() -> None:
    prepared = prepare(FakeDetector(SMALL, BIG, MIDDLE), encode(noise(300, 400)), max_faces=2)
    assert [round(face.box.width) for face in prepared.faces] == [120, 80]
    assert len(prepared.crops["gray"]) == len(prepared.qualities) == 2


def test_no_face_is_no_face() -> None:
    prepared = prepare(FakeDetector(), encode(noise(50, 60)))
    assert prepared.faces == prepared.qualities == ()
    assert prepared.crops == {"gray": []}


def test_the_detector_is_told_the_threshold_and_the_smallest_face() -> None:
    detector = FakeDetector(BIG, MIDDLE, scores=[0.4, 0.8])
    data = encode(noise(300, 400))
    assert len(prepare(detector, data, detection_threshold=0.5).faces) == 1
    assert len(prepare(detector, data, min_face_px=100).faces) == 1
    assert len(prepare(detector, data, min_face_px=200).faces) == 0


def test_without_models_there_are_faces_and_no_crops() -> None:
    prepared = prepare(FakeDetector(BIG), encode(noise(300, 400)), specs={})
    assert len(prepared.faces) == len(prepared.qualities) == 1
    assert prepared.crops == {}


def test_times_are_of_the_stages(decodes: list[Image]) -> None:
    prepared = prepare(FakeDetector(SMALL), encode(noise(1200, 1600), ".jpg"))
    assert len(decodes) == 2
    assert prepared.decode_s > 0
    assert 0 < prepared.detect_s < prepared.decode_s


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ImageError),
        (b"no image", ImageError),
        (encode(noise(64, 64), ".jpg")[:900], InvalidImage),
        (encode(noise(64, 64))[:200], InvalidImage),
    ],
)
@pytest.mark.parametrize("detect", [True, False])
def test_bytes_that_are_no_image(data: bytes, error: type[Exception], detect: bool) -> None:
    detector = FakeDetector(BIG)
    with pytest.raises(error):
        prepare(detector, data, detect=detect)
    assert detector.shapes == []


def test_the_limits_hold() -> None:
    preparer = Preparer(FakeDetector(BIG), ImageLimits(max_pixels=1000))
    with pytest.raises(TooLarge):
        preparer.run([job(encode(noise(50, 50)))])


# Reduced decoding --------------------------------------------------------------------------------


def test_a_large_jpeg_is_searched_small_and_reported_large(decodes: list[Image]) -> None:
    detector = FakeDetector(BIG, MIDDLE, landmarks=True)
    prepared = prepare(detector, encode(noise(1920, 2560), ".jpg"))
    assert detector.shapes == [(480, 640, 3)]
    assert len(decodes) == 1, "these faces have pixels enough"
    assert (prepared.width, prepared.height) == (2560, 1920)
    big = prepared.faces[0]
    assert (big.box.x, big.box.y) == pytest.approx((1280, 192))
    assert (big.box.width, big.box.height) == pytest.approx((768, 768))
    assert big.landmarks is not None
    assert big.landmarks[0] == pytest.approx(big.box.center)
    assert prepared.qualities[0].size_px == 768


def test_odd_sizes_are_reported_to_the_pixel() -> None:
    prepared = prepare(FakeDetector(BIG), encode(noise(1923, 2567), ".jpg"))
    box = prepared.faces[0].box
    expected = (0.5 * 2567, 0.1 * 1923, 0.3 * 2567, 0.4 * 1923)
    assert (box.x, box.y, box.width, box.height) == pytest.approx(expected, abs=4)


def test_the_smallest_face_is_measured_in_the_full_image() -> None:
    data = encode(noise(1920, 2560), ".jpg")  # SMALL is 51 x 58 there, 13 x 14 where it is sought
    assert len(prepare(FakeDetector(SMALL), data, min_face_px=50).faces) == 1
    assert len(prepare(FakeDetector(SMALL), data, min_face_px=60).faces) == 0


def test_a_small_face_is_cropped_from_a_larger_decode(decodes: list[Image]) -> None:
    detector = FakeDetector(BIG, SMALL)
    data = encode(noise(1920, 2560), ".jpg")
    prepared = prepare(detector, data)
    assert [image.scale for image in decodes] == [0.25, 1.0]
    assert len(detector.shapes) == 1, "it is searched once"
    full = decodes[1].pixels
    for face, crop in zip(prepared.faces, prepared.crops["gray"], strict=True):
        np.testing.assert_array_equal(crop, crop_face(full, face.box, GRAY))


def test_the_second_decode_is_no_larger_than_a_model_needs(decodes: list[Image]) -> None:
    prepare(FakeDetector((0.1, 0.1, 0.08, 0.1)), encode(noise(1920, 2560), ".jpg"))
    # The face has about 200 pixels: half of them are enough, a quarter are not.
    assert [image.scale for image in decodes] == [0.25, 0.5]


def test_a_model_that_sees_more_around_a_face_needs_fewer_pixels(decodes: list[Image]) -> None:
    wide = make_card("wide", size=96, input={"size": 96, "color": "gray", "framing": {"scale": 2}})
    box = (0.1, 0.1, 0.11, 0.14)  # 275 pixels: 69 in the reduced image, twice that for this model
    prepare(FakeDetector(box), encode(noise(1920, 2560), ".jpg"), specs={"wide": wide.input})
    assert len(decodes) == 1
    prepare(FakeDetector(box), encode(noise(1920, 2560), ".jpg"), specs={"rgb": RGB})
    assert [image.scale for image in decodes[1:]] == [0.25, 0.5]


@pytest.mark.parametrize("detect", [True, False])
def test_quality_does_not_depend_on_the_models(detect: bool) -> None:
    data = encode(noise(1920, 2560), ".jpg")
    qualities = [
        prepare(FakeDetector(MIDDLE, SMALL), data, specs=specs, detect=detect).qualities
        for specs in ({}, {"gray": GRAY}, {"gray": GRAY, "rgb": RGB})
    ]
    for other in qualities[:2]:
        for one, two in zip(qualities[2], other, strict=True):
            assert one.size_px == two.size_px
            assert one.sharpness == pytest.approx(two.sharpness, abs=0.02)


def test_small_images_and_other_formats_are_decoded_in_full(decodes: list[Image]) -> None:
    prepare(FakeDetector(SMALL), encode(noise(600, 800), ".jpg"))
    prepare(FakeDetector(SMALL), encode(noise(960, 1280), ".png"))
    assert [image.scale for image in decodes] == [1.0, 1.0]


@pytest.mark.parametrize("detect", [True, False])
def test_the_image_is_let_go(detect: bool, decodes: list[Image]) -> None:
    prepared = prepare(FakeDetector(BIG), encode(noise(400, 400)), detect=detect)
    pixels = weakref.ref(decodes.pop().pixels)
    assert pixels() is None
    assert prepared.crops


# The whole image as one face ---------------------------------------------------------------------


def test_without_detection_the_whole_image_is_the_face() -> None:
    detector = FakeDetector(BIG)
    pixels = noise(90, 60)
    prepared = prepare(detector, encode(pixels), detect=False)
    assert detector.shapes == []
    (face,) = prepared.faces
    assert (face.box.x, face.box.y, face.box.width, face.box.height) == (0, 0, 60, 90)
    assert face.score == 1.0
    assert face.landmarks is None
    np.testing.assert_array_equal(prepared.crops["gray"][0], crop_whole(pixels, GRAY))
    assert prepared.detect_s == 0.0


def test_without_detection_a_large_jpeg_is_decoded_small(decodes: list[Image]) -> None:
    prepared = prepare(FakeDetector(), encode(noise(1600, 1600), ".jpg"), detect=False)
    assert decodes[0].scale == 0.125
    box = prepared.faces[0].box
    assert (box.width, box.height) == (1600, 1600)
    assert prepared.qualities[0].size_px == 1600
