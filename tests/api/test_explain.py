"""`POST /v1/explain`: pictures for each face and head, their place, options and refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from service.errors import HashMismatch
from service.settings import Settings
from service.types import HEADS
from tests.api.conftest import served
from tests.fakes import make_model_folder

pytestmark = pytest.mark.asyncio(loop_scope="module")

JPEG = {"content-type": "image/jpeg"}
# The astronaut's eyes and mouth in tests/media, measured by hand: left, top, right, bottom.
EYES, MOUTH = (188, 88, 258, 110), (198, 138, 248, 153)


async def explain(client: httpx.AsyncClient, image: bytes, **query: Any) -> dict[str, Any]:
    response = await client.post("/v1/explain", content=image, headers=JPEG, params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(client: httpx.AsyncClient, image: bytes, **query: Any) -> dict[str, Any]:
    response = await client.post("/v1/explain", content=image, headers=JPEG, params=query)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


def picture(explanation: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(explanation["png"], validate=True)
    assert data.startswith(b"\x89PNG")
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def without_noise(answer: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in answer.items() if k not in ("request_id", "timings_ms")}


def inside(explanation: dict[str, Any], place: tuple[int, int, int, int]) -> np.ndarray:
    """The pixels of a map that lie in a part of the photo."""
    values, area = picture(explanation), explanation["area"]
    factor = len(values) / area["width"]
    left, top, right, bottom = (
        round((value - area["xy"[k % 2]]) * factor) for k, value in enumerate(place)
    )
    return values[top:bottom, left:right]


async def test_it_is_analyze_and_a_picture_for_each_head(client, photo):
    answer = await explain(client, photo)
    plain = (await client.post("/v1/analyze", content=photo, headers=JPEG)).json()
    (face,) = answer["faces"]
    found = face.pop("explanations")
    assert answer.pop("method") == "guided"
    assert without_noise(answer) == without_noise(plain)
    assert list(found) == list(HEADS)
    cards = (await client.get("/v1/models")).json()["models"]
    sizes = {f"{card['name']}@{card['version']}": card["input"]["size"] for card in cards}
    for head, explanation in found.items():
        assert set(explanation) == {"label", "area", "png"}
        assert explanation["label"] == face[head]["label"]
        values = picture(explanation)
        assert values.dtype == np.uint8
        assert values.shape == (sizes[answer["models"][head]],) * 2
        assert values.max() == 255


async def test_a_smile_is_explained_by_eyes_and_mouth(client, photo):
    query = {"attributes": "emotion", "models": "mini_xception_emotion"}
    (face,) = (await explain(client, photo, **query))["faces"]
    explanation = face["explanations"]["emotion"]
    assert explanation["label"] == "happy"
    mean = picture(explanation).mean()
    assert inside(explanation, EYES).mean() > 1.5 * mean
    assert inside(explanation, MOUTH).mean() > 1.5 * mean


async def test_a_covered_mouth_costs_the_smile(client, photo):
    query = {"attributes": "emotion", "method": "occlusion", "models": "mini_xception_emotion"}
    answer = await explain(client, photo, **query)
    assert answer["method"] == "occlusion"
    explanation = answer["faces"][0]["explanations"]["emotion"]
    assert inside(explanation, MOUTH).mean() > 2 * picture(explanation).mean()


async def test_methods_and_labels_give_other_pictures(client, photo):
    pictures = [
        (await explain(client, photo, attributes="emotion", **query))["faces"][0]["explanations"]
        for query in ({}, {"method": "gradient"}, {"labels": "sad"}, {"labels": "surprise"})
    ]
    assert len({found["emotion"]["png"] for found in pictures}) == 4
    assert [found["emotion"]["label"] for found in pictures] == [
        "happy",
        "happy",
        "sad",
        "surprise",
    ]


async def test_an_overlay_shows_the_photo(client, photo):
    (face,) = (await explain(client, photo, overlay="true", attributes="gender"))["faces"]
    shown, area = picture(face["explanations"]["gender"]), face["explanations"]["gender"]["area"]
    assert shown.shape == (256, 256, 3)
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_GRAYSCALE)
    x, y, side = (round(area[key]) for key in ("x", "y", "width"))
    part = cv2.resize(pixels[y : y + side, x : x + side], (256, 256))
    gray = np.ptp(shown.astype(int), axis=2) < 3
    assert np.corrcoef(shown[gray][:, 0], part[gray])[0, 1] > 0.95


async def test_only_the_wanted_heads_are_explained(client, photo):
    (face,) = (await explain(client, photo, attributes="age,gender"))["faces"]
    assert list(face["explanations"]) == ["gender", "age"]
    (face,) = (await explain(client, photo, attributes=""))["faces"]
    assert face["explanations"] == {}


async def test_no_face_is_an_empty_list(client):
    blank = cv2.imencode(".png", np.zeros((200, 200, 3), np.uint8))[1].tobytes()
    assert (await explain(client, blank))["faces"] == []


async def test_the_whole_image_is_its_own_area(client, photo):
    (face,) = (await explain(client, photo, detect="false", attributes="emotion"))["faces"]
    area = {"x": 0, "y": 0, "width": 512, "height": 512}
    assert face["explanations"]["emotion"]["area"] == area


async def test_every_form_of_body_gives_the_same(client, photo):
    raw = await explain(client, photo, attributes="gender")
    query = {"attributes": "gender"}
    form = await client.post("/v1/explain", files={"image": ("a.jpg", photo)}, params=query)
    body = {"image": base64.b64encode(photo).decode()}
    for response in (form, await client.post("/v1/explain", json=body, params=query)):
        assert without_noise(response.json()) == without_noise(raw)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"method": "lime"}, "method: Input should be 'guided', 'gradient' or 'occlusion'"),
        ({"overlay": "maybe"}, "overlay: "),
        ({"labels": "glad"}, "no label 'glad'; there are angry, "),
        ({"labels": "sad,happy"}, "emotion can be explained for one label only"),
        ({"labels": "male", "attributes": "emotion"}, "no label 'male'"),
        ({"labels": ",".join(["sad"] * 33)}, "labels: "),
        ({"models": "nobody"}, "no model 'nobody'"),
        ({"size": "3"}, "size: "),
    ],
)
async def test_a_wrong_option_is_named(client, photo, query, detail):
    problem = await refused(client, photo, **query)
    assert problem["code"] == "invalid_option"
    assert detail in problem["detail"]


async def test_a_bad_image_is_refused_as_by_analyze(client):
    assert (await refused(client, b"\xff\xd8\xff no jpeg"))["code"] == "invalid_image"


async def test_time_that_is_up_is_told(client, photo):
    headers = {**JPEG, "request-timeout-ms": "1"}
    response = await client.post("/v1/explain?method=occlusion", content=photo, headers=headers)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")


async def test_analyze_takes_none_of_the_options(client, photo):
    response = await client.post("/v1/analyze?method=guided", content=photo, headers=JPEG)
    assert response.json()["code"] == "invalid_option"


async def test_concurrent_explanations_are_those_that_stand_alone(client, photo):
    queries: list[dict[str, str]] = [
        {"labels": "sad"},
        {"method": "gradient"},
        {"method": "occlusion", "attributes": "gender"},
        {},
    ]
    alone = [without_noise(await explain(client, photo, **query)) for query in queries]
    together = await asyncio.gather(*(explain(client, photo, **query) for query in queries * 3))
    for k, answer in enumerate(together):
        expected = alone[k % len(queries)]["faces"][0]["explanations"]
        for head, explanation in answer["faces"][0]["explanations"].items():
            # One grey level, at the most, between batches of different sizes.
            gap = picture(explanation).astype(int) - picture(expected[head])
            assert np.abs(gap).max() <= 1


async def test_runs_are_counted_under_a_name_of_their_own(client, photo):
    answer = await explain(client, photo, attributes="emotion")
    text = (await client.get("/metrics")).text
    name = f'model="{answer["models"]["emotion"].split("@")[0]}/explain"'
    assert f"mien_queue_depth{{{name}}} 0.0" in text
    assert f'mien_inference_duration_seconds_count{{{name},provider="cpu"}}' in text
    assert 'route="/v1/explain"' in text


async def test_faces_are_bounded_by_a_setting(photo):
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    two = cv2.imencode(".png", np.hstack([pixels, pixels]))[1].tobytes()
    async with served(max_explain_faces=1, models=("mini_xception_gender",)) as client:
        assert len((await explain(client, two))["faces"]) == 1
        assert len((await explain(client, two, max_faces=5))["faces"]) == 1
        both = await client.post("/v1/analyze", content=two, headers=JPEG)
        assert len(both.json()["faces"]) == 2


async def test_a_model_without_a_graph_is_explained_by_occlusion(tmp_path: Path, photo):
    make_model_folder(tmp_path, "plain", heads=("emotion",))
    async with served(models_dir=tmp_path) as client:
        assert (await client.get("/v1/models/plain")).json()["explain_sha256"] is None
        for method in ("guided", "gradient"):
            problem = await refused(client, photo, method=method)
            assert problem["code"] == "invalid_option"
            assert problem["detail"] == (
                f"model 'plain' cannot be explained by method={method}: it has no explain graph; "
                "take method=occlusion"
            )
        assert len((await explain(client, photo, method="occlusion"))["faces"]) == 1


async def test_a_graph_that_is_not_the_cards_stops_the_start(tmp_path: Path):
    name = "mini_xception_gender"
    shutil.copytree(Settings().models_dir / name, tmp_path / name)
    path = tmp_path / name / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"explain_sha256": "0" * 64}))
    with pytest.raises(HashMismatch, match=r"explain\.onnx has sha256"):
        async with served(models_dir=tmp_path):
            pass
