"""The clients against a server on a socket; faults of a network by transports of httpx."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from pydantic import BaseModel

from mien import client
from mien.client import AsyncClient, Client, Retry, types
from service.api import explanations, schemas
from tests.api.streaming import Served, serving
from tests.client.conftest import PHOTO

AT_ONCE = Retry(attempts=3, first_wait_s=0)


def url(served: Served) -> str:
    return f"http://{served.address}"


# What is answered ---------------------------------------------------------------------------------


async def test_a_photo_as_bytes_and_as_a_path(served: Served, photo: bytes) -> None:
    async with AsyncClient(url(served)) as mien:
        answers = [await mien.analyze(one) for one in (photo, PHOTO, str(PHOTO))]
    assert [len(answer["faces"]) for answer in answers] == [1, 1, 1]
    face = answers[0]["faces"][0]
    assert face["emotion"]["label"] in face["emotion"]["probabilities"]
    assert answers[0]["models"].keys() == {"detector", "emotion", "gender", "age"}


async def test_options_arrive(served: Served, photo: bytes) -> None:
    async with AsyncClient(url(served)) as mien:
        answer = await mien.analyze(
            photo, models=["moods", "ages"], attributes=["age"], landmarks=False, detect=False
        )
        none = await mien.analyze(photo, attributes=[])
        with pytest.raises(client.Refused) as refused:
            await mien.analyze(photo, max_faces=0)
    (face,) = answer["faces"]
    assert face.keys() == {"box", "detection_score", "age", "quality"}
    assert face["detection_score"] == 1
    assert none["models"].keys() == {"detector"}
    assert refused.value.code == "invalid_option"


async def test_the_client_that_waits(served: Served, photo: bytes) -> None:
    def work() -> None:
        with Client(url(served)) as mien:
            assert mien.ready()
            assert len(mien.analyze(photo, attributes=["emotion"])["faces"]) == 1
            good, bad = mien.analyze_batch([PHOTO, b"no image"])
            assert len(good["result"]["faces"]) == 1
            assert bad["error"]["code"] == "invalid_image"
            (face,) = mien.explain(photo, method="occlusion", attributes=["age"])["faces"]
            assert face["explanations"]["age"]["label"] == face["age"]["label"]
            assert {card["name"] for card in mien.models()} == {"moods", "ages"}

    await asyncio.to_thread(work)


async def test_the_client_for_asyncio(served: Served, photo: bytes) -> None:
    async with AsyncClient(url(served)) as mien:
        assert await mien.ready()
        good, bad = await mien.analyze_batch([photo, b"no image"])
        assert (good.keys(), bad["error"]["status"]) == ({"result"}, 422)
        explained = await mien.explain(PHOTO, method="occlusion", attributes=["emotion"])
        assert explained["method"] == "occlusion"
        assert len(await mien.models()) == 2


async def test_through_the_application_without_a_socket(served: Served, photo: bytes) -> None:
    transport = httpx.ASGITransport(app=served.app)
    async with AsyncClient("http://mien", transport=transport) as mien:
        assert len((await mien.analyze(photo))["faces"]) == 1


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        (types.Analysis, schemas.AnalyzeOut),
        (types.Image, schemas.ImageOut),
        (types.Box, schemas.BoxOut),
        (types.Landmarks, schemas.LandmarksOut),
        (types.Prediction, schemas.PredictionOut),
        (types.Quality, schemas.QualityOut),
        (types.Timings, schemas.TimingsOut),
        (types.ProblemBody, schemas.ProblemOut),
        (types.BatchItem, schemas.BatchItemOut),
        (types.Explained, explanations.ExplainOut),
        (types.Explanation, explanations.ExplanationOut),
        (types.AnalyzeOptions, schemas.AnalyzeQuery),
        (types.ExplainOptions, explanations.ExplainQuery),
    ],
)
def test_types_have_the_fields_of_the_contract(typed: Any, model: type[BaseModel]) -> None:
    assert get_type_hints(typed).keys() == model.model_fields.keys()


def test_it_needs_nothing_of_the_service() -> None:
    heavy = "{'numpy', 'onnxruntime', 'cv2', 'pydantic', 'fastapi', 'service'}"
    code = f"import sys, mien.client; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# What goes wrong ----------------------------------------------------------------------------------


async def test_an_error_carries_what_the_server_said(served: Served) -> None:
    async with AsyncClient(url(served)) as mien:
        with pytest.raises(client.Refused) as caught:
            await mien.analyze(b"no image")
    error = caught.value
    assert (error.status, error.code) == (422, "invalid_image")
    assert error.detail
    assert len(error.request_id or "") == 32
    assert error.retry_after_s is None


async def test_keys_and_rates(tiny_models: Path, photo: bytes) -> None:
    async with serving(models_dir=tiny_models, api_keys=("k1",), rate_limit="1/hour") as served:
        async with AsyncClient(url(served)) as stranger:
            with pytest.raises(client.Unauthorized):
                await stranger.analyze(photo)
        async with AsyncClient(url(served), "k1") as mien:
            await mien.analyze(photo)
            # An hour is longer than it waits, so this is raised at once.
            with pytest.raises(client.RateLimited) as caught:
                await mien.analyze(photo)
        assert (caught.value.retry_after_s or 0) > 3000


async def test_a_key_that_is_not_ascii(tiny_models: Path) -> None:
    async with serving(models_dir=tiny_models, api_keys=("ключ",)) as served:
        async with AsyncClient(url(served), "ключ") as mien:
            assert len(await mien.models()) == 2

        def work() -> None:
            with Client(url(served), "ключ") as mien:
                assert len(mien.models()) == 2

        await asyncio.to_thread(work)


@pytest.mark.parametrize("key", ["", "k1\n", " k1", "k\x001", "k1\r\nx-other: 1"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_no_header_can_show(kind: type[Client] | type[AsyncClient], key: str) -> None:
    with pytest.raises(client.ClientError, match="API key"):
        kind("http://mien", key)


async def test_nobody_listens() -> None:
    async with AsyncClient("http://127.0.0.1:1", retry=AT_ONCE) as mien:
        with pytest.raises(client.ConnectionFailed, match=r"http://127\.0\.0\.1:1/v1/analyze"):
            await mien.analyze(b"x")
    with pytest.raises(client.ConnectionFailed), Client("http://127.0.0.1:1", retry=AT_ONCE) as c:
        c.ready()


async def test_a_connection_that_breaks_is_not_tried_again() -> None:
    calls = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, AsyncClient(f"http://{host}:{port}", retry=AT_ONCE) as mien:
        with pytest.raises(client.ConnectionLost):
            await mien.models()
    assert calls == 1


def scripted(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[str]]:
    """A network that gives these answers in turn, and the paths that were asked for."""
    left, asked = list(answers), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if isinstance(one := left.pop(0), Exception):
            raise one
        return one

    return httpx.MockTransport(answer), asked


def problem(status: int, **headers: str) -> httpx.Response:
    body = {"code": "overloaded", "detail": "full", "request_id": "r1"}
    return httpx.Response(status, json=body, headers=headers)


def good() -> httpx.Response:
    return httpx.Response(200, json={"models": []})


Calling = Callable[[httpx.MockTransport], list[types.Card]]


def waiting(transport: httpx.MockTransport) -> list[types.Card]:
    with Client("http://mien/some/where", retry=AT_ONCE, transport=transport) as mien:
        return mien.models()


def by_asyncio(transport: httpx.MockTransport) -> list[types.Card]:
    async def call() -> list[types.Card]:
        async with AsyncClient("http://mien/some/where/", retry=AT_ONCE, transport=transport) as m:
            return await m.models()

    return asyncio.run(call())


@pytest.mark.parametrize("call", [waiting, by_asyncio])
def test_tried_again_until_it_works(call: Calling) -> None:
    transport, asked = scripted(
        problem(503, **{"retry-after": "0"}), httpx.ConnectError("refused"), good()
    )
    assert call(transport) == []
    assert asked == ["/some/where/v1/models"] * 3


@pytest.mark.parametrize("call", [waiting, by_asyncio])
def test_tried_so_often_and_no_more(call: Calling) -> None:
    transport, asked = scripted(*(problem(429) for _ in range(4)))
    with pytest.raises(client.RateLimited):
        call(transport)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "answer",
    [
        problem(503),
        problem(503, **{"retry-after": "31"}),
        problem(500),
        problem(504),
        problem(422),
        httpx.ReadTimeout("slow"),
        httpx.Response(502, html="<h1>Bad gateway</h1>"),
        httpx.Response(200, html="<h1>Another site</h1>"),
    ],
)
def test_not_tried_again(answer: httpx.Response | Exception) -> None:
    transport, asked = scripted(answer, good())
    with pytest.raises(client.ClientError):
        waiting(transport)
    assert len(asked) == 1


def test_an_answer_of_a_proxy_is_a_problem_too() -> None:
    transport, _ = scripted(httpx.Response(502, html="<h1>Bad gateway</h1>"))
    with pytest.raises(client.Problem) as caught:
        waiting(transport)
    assert (caught.value.status, caught.value.code) == (502, "http_502")
    assert caught.value.detail == "Bad Gateway"


def test_the_server_is_told_how_long_the_answer_is_of_use() -> None:
    told = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers["request-timeout-ms"])
        return problem(504)

    mien = Client("http://mien", timeout_s=1.5, transport=httpx.MockTransport(answer))
    with mien, pytest.raises(client.DeadlineExceeded):
        mien.analyze(b"x")
    assert told == ["1500"]


def test_unready_is_no_error() -> None:
    transport, asked = scripted(problem(503, **{"retry-after": "1"}))
    with Client("http://mien", transport=transport) as mien:
        assert not mien.ready()
    assert asked == ["/readyz"]


def test_waits_double_up_to_the_longest_and_add_what_is_asked_for() -> None:
    retry = Retry(attempts=9, first_wait_s=1, longest_wait_s=4)
    failed = client.ConnectionFailed("x")
    waits = [retry.wait_s(attempt, failed) or 0 for attempt in range(1, 9)]
    for wait, most in zip(waits, (1, 2, 4, 4, 4, 4, 4, 4), strict=True):
        assert most / 2 <= wait <= most
    assert retry.wait_s(9, failed) is None
    asked = client.Unavailable(503, "overloaded", "", retry_after_s=3)
    assert 3.5 <= (retry.wait_s(1, asked) or 0) <= 4
