"""`POST /v1/analyze`: every form of input, every option, the shape of the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from service.api.explanations import ExplainOut
from service.api.schemas import AnalyzeOut, BatchOut
from service.types import AGE_BANDS, EMOTIONS, GENDERS, Box, Face
from tests import images
from tests.api.conftest import served
from tests.fakes import FakeDetector, make_model_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

JPEG = {"content-type": "image/jpeg"}
LABELS = {"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS}


async def analyze(client: httpx.AsyncClient, image: bytes, **query: Any) -> dict[str, Any]:
    response = await client.post("/v1/analyze", content=image, headers=JPEG, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def without_noise(answer: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in answer.items() if k not in ("request_id", "timings_ms")}


def encode(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize("query", [{}, {"attributes": "age", "landmarks": "false"}])
async def test_answers_have_the_form_that_openapi_states(client, photo, query):
    """Answers are put together as plain values: the models that describe them would not object."""
    for path, model in (("/v1/analyze", AnalyzeOut), ("/v1/explain", ExplainOut)):
        response = await client.post(path, content=photo, headers=JPEG, params=query)
        answer = response.json()
        assert model.model_validate(answer).model_dump(mode="json", exclude_unset=True) == answer
        assert answer["faces"]
    files = [("images", photo), ("images", b"no image")]
    answer = (await client.post("/v1/analyze/batch", files=files, params=query)).json()
    assert BatchOut.model_validate(answer).model_dump(mode="json", exclude_unset=True) == answer


@pytest.fixture(scope="module")
def pixels(photo: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)


async def test_the_answer_has_the_form_of_the_contract(client, photo):
    answer = await analyze(client, photo)

    assert set(answer) == {"request_id", "image", "faces", "models", "timings_ms"}
    assert answer["image"] == {"width": 512, "height": 512, "orientation": 1}
    assert set(answer["models"]) == {"detector", "emotion", "gender", "age"}
    assert all("@" in model for model in answer["models"].values())
    assert set(answer["timings_ms"]) == {"decode", "detect", "queue", "infer", "total"}
    (face,) = answer["faces"]
    assert set(face["box"]) == {"x", "y", "width", "height"}
    assert 0 <= face["detection_score"] <= 1
    assert set(face["quality"]) == {"size_px", "sharpness"}
    for head, labels in LABELS.items():
        said = face[head]
        assert set(said) == {"label", "probability", "uncertain", "probabilities"}
        assert tuple(said["probabilities"]) == labels
        assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert said["probability"] == max(said["probabilities"].values())
        assert said["probabilities"][said["label"]] == said["probability"]


async def test_the_face_is_where_it_is(client, photo):
    (face,) = (await analyze(client, photo))["faces"]
    box = face["box"]
    # The astronaut's face, measured by hand: x 175-275, y 60-190.
    assert box["x"] + box["width"] / 2 == pytest.approx(224, abs=15)
    assert box["y"] + box["height"] / 2 == pytest.approx(118, abs=20)
    assert face["gender"]["label"] == "female"


async def test_every_form_of_body_gives_the_same(client, photo):
    raw = await analyze(client, photo)
    form = await client.post("/v1/analyze", files={"image": ("a.jpg", photo, "image/jpeg")})
    json = await client.post("/v1/analyze", json={"image": base64.b64encode(photo).decode()})
    for response in (form, json):
        assert response.status_code == 200, response.text
        assert without_noise(response.json()) == without_noise(raw)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tiff"])
async def test_every_lossless_format_gives_the_same(client, pixels, suffix):
    quality = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    image = cv2.imencode(suffix, pixels, quality)[1].tobytes()
    answer = await analyze(client, image)
    assert without_noise(answer) == without_noise(await analyze(client, encode(pixels)))


async def test_every_odd_form_gives_the_face(client, pixels):
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    forms = {
        "16 bit": encode(pixels.astype(np.uint16) * 257),
        "alpha": encode(alpha),
        "palette": images.pillow(pixels, "PNG", "P"),
        "cmyk": images.pillow(pixels, "JPEG", "CMYK", quality=95),
        "grey": encode(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)),
        "animated": images.pillow(
            pixels, "GIF", "P", save_all=True, append_images=[Image.new("RGB", (512, 512))]
        ),
    }
    (expected,) = (await analyze(client, encode(pixels)))["faces"]
    for form, data in forms.items():
        answer = await analyze(client, data)
        assert answer["image"] == {"width": 512, "height": 512, "orientation": 1}, form
        (face,) = answer["faces"]
        for side, value in face["box"].items():
            assert value == pytest.approx(expected["box"][side], abs=8), form


async def test_one_pixel_is_an_image_without_a_face(client):
    answer = await analyze(client, encode(np.zeros((1, 1, 3), np.uint8)))
    assert answer["image"] == {"width": 1, "height": 1, "orientation": 1}
    assert answer["faces"] == []


async def test_a_mislabelled_image_is_taken_for_what_it_is(client, pixels):
    png = encode(pixels)
    as_jpeg = await client.post("/v1/analyze", content=png, headers=JPEG)
    as_png = await client.post("/v1/analyze", content=png, headers={"content-type": "image/png"})
    assert without_noise(as_jpeg.json()) == without_noise(as_png.json())


async def test_no_face_is_an_empty_list(client):
    gradient = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    answer = await analyze(client, encode(gradient))
    assert answer["faces"] == []
    assert set(answer["models"]) == {"detector", "emotion", "gender", "age"}


async def test_several_faces_are_largest_first(client, pixels):
    face = pixels[10:240, 110:340]
    canvas = np.full((420, 480, 3), 255, np.uint8)
    canvas[:230, :230] = face
    canvas[100:400, 180:480] = cv2.resize(face, (300, 300), interpolation=cv2.INTER_CUBIC)
    sizes = [f["quality"]["size_px"] for f in (await analyze(client, encode(canvas)))["faces"]]
    assert len(sizes) == 2
    assert sizes == sorted(sizes, reverse=True)
    one = await analyze(client, encode(canvas), max_faces=1)
    assert [f["quality"]["size_px"] for f in one["faces"]] == sizes[:1]
    assert len((await analyze(client, encode(canvas), min_face_px=sizes[1] + 5))["faces"]) == 1
    assert (await analyze(client, encode(canvas), min_face_px=400))["faces"] == []


async def test_attributes_choose_the_heads(client, photo):
    answer = await analyze(client, photo, attributes="gender,age")
    assert "emotion" not in answer["faces"][0]
    assert set(answer["models"]) == {"detector", "gender", "age"}
    detection_only = await analyze(client, photo, attributes="")
    assert set(detection_only["models"]) == {"detector"}
    assert len(detection_only["faces"]) == 1
    assert not set(LABELS) & set(detection_only["faces"][0])


async def test_models_are_chosen_by_head(client, photo):
    default = (await analyze(client, photo))["models"]
    chosen = (await analyze(client, photo, models="mini_xception_gender"))["models"]
    assert chosen["gender"].startswith("mini_xception_gender@")
    assert chosen["emotion"] == default["emotion"]
    both = (await analyze(client, photo, models="guided_fusion,mini_xception_gender"))["models"]
    assert {both[head].split("@")[0] for head in LABELS} == {"guided_fusion"}


async def test_a_model_of_six_emotions_answers_with_six(tmp_path, photo):
    folder = make_model_folder(tmp_path, "six", graph_labels={"emotion": 6})
    card = json.loads((folder / "card.json").read_text())
    card["heads"]["emotion"]["labels"] = EMOTIONS[:6]
    (folder / "card.json").write_text(json.dumps(card))
    async with served(models_dir=tmp_path, default_models="six") as client:
        said = (await analyze(client, photo))["faces"][0]["emotion"]
        assert tuple(said["probabilities"]) == EMOTIONS[:6]
        assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        listed = (await client.get("/v1/models/six")).json()
        assert listed["heads"]["emotion"]["labels"] == list(EMOTIONS[:6])
        metadata = (await client.get("/v2/models/six")).json()
        assert metadata["outputs"][0]["shape"] == [-1, 6]


async def test_landmarks_are_null_or_left_out(photo, monkeypatch):
    detector = FakeDetector((0.25, 0.25, 0.5, 0.5))
    monkeypatch.setattr("service.build.open_detector", lambda settings: detector)
    async with served() as client:
        assert (await analyze(client, photo))["faces"][0]["landmarks"] is None
        assert "landmarks" not in (await analyze(client, photo, landmarks="false"))["faces"][0]


async def test_landmarks_are_named_in_the_order_of_the_detector(photo, monkeypatch):
    points = np.array([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]], np.float32)

    class Detector(FakeDetector):
        def detect(self, pixels, *, threshold, min_face_px):
            return [Face(Box(0, 0, 50, 50), 0.9, points)]

    monkeypatch.setattr("service.build.open_detector", lambda settings: Detector())
    async with served() as client:
        (face,) = (await analyze(client, photo))["faces"]
    assert face["landmarks"] == {
        "right_eye": [1, 2],
        "left_eye": [3, 4],
        "nose": [5, 6],
        "mouth_right": [7, 8],
        "mouth_left": [9, 10],
    }


async def test_detection_threshold_filters(client, photo):
    (face,) = (await analyze(client, photo))["faces"]
    assert (await analyze(client, photo, detection_threshold=1.0))["faces"] == [] or (
        face["detection_score"] == 1.0
    )


async def test_detect_false_takes_the_whole_image(client, pixels):
    crop = pixels[50:200, 150:300]
    answer = await analyze(client, encode(crop), detect="false")
    (face,) = answer["faces"]
    assert face["box"] == {"x": 0, "y": 0, "width": 150, "height": 150}
    assert "detector" not in answer["models"]
    assert answer["timings_ms"]["detect"] == 0


async def test_exif_orientation_is_undone_and_reported(client, pixels):
    upright = without_noise(await analyze(client, encode(pixels, ".png")))
    for orientation in range(1, 9):
        answer = await analyze(client, images.oriented(pixels, orientation))
        assert answer["image"] == {"width": 512, "height": 512, "orientation": orientation}
        (face,), (expected,) = answer["faces"], upright["faces"]
        for side, value in face["box"].items():
            assert value == pytest.approx(expected["box"][side], abs=8), orientation
        assert face["gender"]["label"] == expected["gender"]["label"]


async def test_concurrent_requests_give_what_they_give_alone(client, pixels):
    rng = np.random.default_rng(0)
    photos = [
        encode(pixels, ".jpg"),
        encode(pixels[:, ::-1], ".jpg"),
        encode(pixels[20:260, 100:340]),
        encode(rng.integers(0, 255, (64, 64, 3), np.uint8)),
    ]
    alone = [without_noise(await analyze(client, image)) for image in photos]
    order = [k % len(photos) for k in range(200)]
    random.Random(0).shuffle(order)
    # Fewer at a time than may wait: an overload is another test.
    gate = asyncio.Semaphore(16)

    async def one(k: int) -> dict[str, Any]:
        async with gate:
            return without_noise(await analyze(client, photos[k]))

    answers = await asyncio.gather(*(one(k) for k in order))
    for k, answer in zip(order, answers, strict=True):
        assert_close(answer, alone[k], 1e-5)


async def test_a_large_photo_is_cropped_from_enough_pixels(client, pixels):
    """A face found in a reduced picture gets the answer of the full one."""
    large = cv2.resize(pixels, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    jpeg = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    (big,) = (await analyze(client, jpeg))["faces"]
    (small,) = (await analyze(client, encode(pixels)))["faces"]
    for side, value in big["box"].items():
        assert value / 6 == pytest.approx(small["box"][side], abs=8)
    assert big["gender"]["label"] == small["gender"]["label"]


async def test_batch_gives_one_answer_an_image_in_order(client, photo, pixels):
    files = [
        ("images", ("a.jpg", photo, "image/jpeg")),
        ("images", ("b.jpg", b"no image", "image/jpeg")),
        ("images", ("c.png", encode(pixels[:, ::-1]), "image/png")),
    ]
    response = await client.post("/v1/analyze/batch", files=files)
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    assert without_noise(first["result"]) == without_noise(await analyze(client, photo))
    assert second["error"]["code"] == "invalid_image"
    assert "result" not in second
    assert len(third["result"]["faces"]) == 1


async def test_a_request_timeout_that_is_met_changes_nothing(client, photo):
    headers = {**JPEG, "request-timeout-ms": "10000"}
    response = await client.post("/v1/analyze", content=photo, headers=headers)
    assert response.status_code == 200


async def test_yunet_is_told_to_need_a_file():
    with pytest.raises(ValueError, match="yunet_path"):
        async with served(detector="yunet"):
            pass


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_close(a[key], b[key], tolerance)
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_close(x, y, tolerance)
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=tolerance)
    else:
        assert a == b
