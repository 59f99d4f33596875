"""Every row of the contract's error table, in the one form that errors have."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from service.api import problems
from tests import images
from tests.api.conftest import running, served
from tests.fakes import encode, noise, settle, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

JPEG = {"content-type": "image/jpeg"}
FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id"}


def assert_problem(response: httpx.Response, status: int, code: str, detail: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == FIELDS
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["instance"] == response.request.url.path
    assert "server-timing" in response.headers
    assert detail in body["detail"]
    assert "Traceback" not in response.text
    assert "/work" not in response.text
    assert ".py" not in response.text


@pytest.mark.parametrize(
    ("kwargs", "status", "code"),
    [
        pytest.param({"json": {}}, 400, "bad_request", id="json without image"),
        pytest.param({"json": {"image": "*"}}, 400, "bad_request", id="no base64"),
        pytest.param({"json": {"image": 3}}, 400, "bad_request", id="image is a number"),
        pytest.param({"json": {"image": "", "x": 1}}, 400, "bad_request", id="unknown field"),
        pytest.param({"json": [1]}, 400, "bad_request", id="json list"),
        pytest.param(
            {"content": b"{", "headers": {"content-type": "application/json"}},
            400,
            "bad_request",
            id="broken json",
        ),
        pytest.param({"files": {"photo": b"x"}}, 400, "bad_request", id="wrong field"),
        pytest.param({"files": [("image", b"x")] * 2}, 400, "bad_request", id="two images"),
        pytest.param(
            {"files": {"image": b"x"}, "data": {"more": "y"}}, 400, "bad_request", id="more fields"
        ),
        pytest.param(
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "bad_request",
            id="no boundary",
        ),
        pytest.param({"content": images.bomb(), "headers": JPEG}, 413, "too_large", id="bomb"),
        pytest.param(
            {"content": b"x", "headers": {"content-type": "text/plain"}},
            415,
            "unsupported_media",
            id="text",
        ),
        pytest.param({"content": b"x"}, 415, "unsupported_media", id="no content type"),
        pytest.param({"content": b"", "headers": JPEG}, 422, "invalid_image", id="empty"),
        pytest.param({"content": b"hello", "headers": JPEG}, 422, "invalid_image", id="no image"),
        pytest.param({"json": {"image": ""}}, 422, "invalid_image", id="empty base64"),
        pytest.param(
            {"content": b"\xff\xd8\xff\xe0" + bytes(100), "headers": JPEG},
            422,
            "invalid_image",
            id="broken jpeg",
        ),
    ],
)
async def test_bad_bodies(client, kwargs: dict[str, Any], status: int, code: str):
    assert_problem(await client.post("/v1/analyze", **kwargs), status, code)


async def test_json_that_would_become_a_large_tree_is_not_parsed(client):
    body = b'{"image": [' + b"{}," * 100 + b"0]}"
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/analyze", content=body, headers=headers)
    assert_problem(response, 400, "bad_request", "must be one object")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
async def test_truncated_photo(client, photo, part):
    cut = photo[: int(len(photo) * part)]
    response = await client.post("/v1/analyze", content=cut, headers=JPEG)
    assert_problem(response, 422, "invalid_image")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("models=nobody", "nobody"),
        ("attributes=mood", "attributes"),
        ("max_faces=0", "max_faces"),
        ("max_faces=1001", "max_faces"),
        ("max_faces=x", "max_faces"),
        ("min_face_px=-1", "min_face_px"),
        ("detection_threshold=1.5", "detection_threshold"),
        ("detection_threshold=nan", "detection_threshold"),
        ("landmarks=perhaps", "landmarks"),
        ("detect=", "detect"),
        ("colour=red", "colour"),
    ],
)
async def test_bad_options(client, photo, query, detail):
    response = await client.post(f"/v1/analyze?{query}", content=photo, headers=JPEG)
    assert_problem(response, 422, "invalid_option", detail)


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "9" * 30])
async def test_bad_request_timeout(client, photo, value):
    headers = {**JPEG, "request-timeout-ms": value}
    response = await client.post("/v1/analyze", content=photo, headers=headers)
    assert_problem(response, 422, "invalid_option", "Request-Timeout-Ms")


async def test_unknown_paths_and_methods(client):
    assert_problem(await client.get("/nowhere"), 404, "not_found")
    assert_problem(await client.get("/v1/models/nobody"), 404, "not_found", "nobody")
    assert_problem(await client.get("/v2/models/nobody"), 404, "not_found")
    wrong = await client.get("/v1/analyze")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert (await client.put("/v1/models")).headers["allow"] == "GET, HEAD"
    # No redirect: it would be built from the host that the client names.
    assert_problem(await client.get("/v1/models/"), 404, "not_found")


async def test_batch_forms(client, photo):
    assert_problem(
        await client.post("/v1/analyze/batch", content=photo, headers=JPEG),
        415,
        "unsupported_media",
    )
    many = [("images", photo)] * 17
    assert_problem(await client.post("/v1/analyze/batch", files=many), 400, "bad_request", "16")
    assert_problem(
        await client.post("/v1/analyze/batch", files={"image": photo}), 400, "bad_request", "images"
    )


async def test_too_many_bytes_are_refused_before_they_are_read(photo):
    async with served(max_bytes=1000) as client:
        sent = 0

        async def body():
            nonlocal sent
            for _ in range(1000):
                sent += 1000
                yield bytes(1000)

        headers = {**JPEG, "content-length": "1000000"}
        response = await client.post("/v1/analyze", content=body(), headers=headers)
        assert_problem(response, 413, "too_large", "1,000")
        # Without a length it is counted; ASGITransport hands over what the app asks for.
        sent = 0
        response = await client.post("/v1/analyze", content=body(), headers=JPEG)
        assert_problem(response, 413, "too_large")
        assert sent <= 3000
        for kwargs in ({"files": {"image": photo}}, {"json": {"image": "A" * 40_000}}):
            response = await client.post("/v1/analyze", **kwargs)
            assert_problem(response, 413, "too_large")


async def test_too_many_pixels(photo):
    async with served(max_pixels=512 * 512 - 1) as client:
        response = await client.post("/v1/analyze", content=photo, headers=JPEG)
        assert_problem(response, 413, "too_large", "pixels")


async def test_unauthorized(photo):
    async with served(api_keys="first,second") as client:
        refused = await client.post("/v1/analyze", content=photo, headers=JPEG)
        assert_problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        for shown in (
            {"authorization": "Bearer wrong"},
            {"x-api-key": ""},
            {"x-api-key": "é".encode()},
        ):
            response = await client.get("/v1/models", headers=shown)
            assert_problem(response, 401, "unauthorized")
        for shown in ({"authorization": "Bearer second"}, {"x-api-key": "first"}):
            response = await client.post("/v1/analyze", content=photo, headers={**JPEG, **shown})
            assert response.status_code == 200
        assert (await client.get("/livez")).status_code == 200


async def test_a_key_may_have_any_letters():
    async with served(api_keys="schlüssel") as client:
        shown = {"x-api-key": "schlüssel".encode()}
        assert (await client.get("/v1/models", headers=shown)).status_code == 200


async def test_rate_limited(photo):
    async with served(rate_limit="2/minute", api_keys="a,b") as client:
        mine = {**JPEG, "x-api-key": "a"}
        for _ in range(2):
            response = await client.post("/v1/analyze", content=photo, headers=mine)
            assert response.status_code == 200
        response = await client.post("/v1/analyze", content=photo, headers=mine)
        assert_problem(response, 429, "rate_limited")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        theirs = {**JPEG, "x-api-key": "b"}
        assert (await client.post("/v1/analyze", content=photo, headers=theirs)).status_code == 200


async def test_wrong_keys_are_counted_by_address():
    async with served(rate_limit="2/minute", api_keys="right") as client:
        for shown in ({"x-api-key": "wrong"}, {}):
            assert (await client.get("/v1/models", headers=shown)).status_code == 401
        refused = await client.get("/v1/models", headers={"x-api-key": "other"})
        assert_problem(refused, 429, "rate_limited")
        # Who shares the address is not locked out.
        right = {"x-api-key": "right"}
        assert (await client.get("/v1/models", headers=right)).status_code == 200


async def test_what_is_too_large_is_named():
    async with served(max_bytes=1000, max_batch_bytes=2000) as client:
        raw = await client.post("/v1/analyze", content=bytes(1001), headers=JPEG)
        assert raw.json()["detail"] == "the image has 1,001 bytes, the limit is 1,000"
        body = {"image": "A" * 20_000}
        encoded = await client.post("/v1/analyze", json=body)
        assert encoded.json()["detail"].startswith("the body has 20,0")
        files = [("images", ("a.jpg", bytes(3000), "image/jpeg"))]
        batch = await client.post("/v1/analyze/batch", files=files)
        assert batch.json()["detail"].startswith("the body has 3,")
    async with served(max_side=63) as client:
        photo = encode(noise(48, 64), ".jpg")
        response = await client.post("/v1/analyze", content=photo, headers=JPEG)
        expected = "the image has a side of 64 pixels, the limit is 63"
        assert_problem(response, 413, "too_large", expected)


class Held:
    """A detector that finds nothing, once it is let go."""

    id, provider, max_side = "held@1.0.0", "cpu", 640

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.runs = 0

    def detect(self, pixels, *, threshold, min_face_px):
        self.runs += 1
        self.entered.set()
        assert self.released.wait(20)
        return []


@pytest.fixture
def held(monkeypatch) -> Held:
    detector = Held()
    monkeypatch.setattr("service.build.open_detector", lambda settings: detector)
    yield detector
    detector.released.set()


async def post(client: httpx.AsyncClient, photo: bytes, **headers: str) -> httpx.Response:
    return await client.post("/v1/analyze", content=photo, headers={**JPEG, **headers})


async def entered(held: Held) -> None:
    assert await asyncio.to_thread(held.entered.wait, 10)


async def test_overloaded(photo, held):
    settings = {"slots": 1, "max_pending_images": 1, "max_batch_images": 1}
    async with served(**settings) as client:
        first = asyncio.create_task(post(client, photo))
        await entered(held)
        # One of the two waits, the other finds no room; the one that waits goes at its deadline.
        soon = {"request-timeout-ms": "300"}
        answers = await asyncio.gather(post(client, photo, **soon), post(client, photo, **soon))
        late, refused = sorted(answers, key=lambda answer: answer.json()["code"])
        assert_problem(late, 504, "deadline_exceeded")
        assert_problem(refused, 503, "overloaded", "waiting")
        assert int(refused.headers["retry-after"]) >= 1
        held.released.set()
        assert (await first).status_code == 200
        assert held.runs == 1


async def test_too_many_requests_at_a_time(photo, held):
    async with served(max_requests=1) as client:
        first = asyncio.create_task(post(client, photo))
        await entered(held)
        assert_problem(await post(client, photo), 503, "overloaded")
        held.released.set()
        assert (await first).status_code == 200
        assert (await post(client, photo)).status_code == 200


async def test_too_many_bytes_at_a_time(photo, held):
    limits = {"max_bytes": 70_000, "max_batch_bytes": 70_000, "max_held_bytes": 140_000}
    assert len(photo) * 2 < 140_000 < len(photo) * 3
    async with served(slots=1, **limits) as client:
        under_way = [asyncio.create_task(post(client, photo)) for _ in range(2)]
        await until(lambda: client._transport.app.state.gate._free_bytes < len(photo))
        assert_problem(await post(client, photo), 503, "overloaded", "bytes")
        held.released.set()
        assert [(await task).status_code for task in under_way] == [200, 200]
        assert (await post(client, photo)).status_code == 200


async def test_a_body_that_never_ends_gives_its_place_back(photo):
    async def body():
        yield photo[:100]
        await asyncio.sleep(30)

    async with served(max_requests=1) as client:
        headers = {**JPEG, "request-timeout-ms": "50"}
        response = await client.post("/v1/analyze", content=body(), headers=headers)
        assert_problem(response, 504, "deadline_exceeded")
        assert (await post(client, photo)).status_code == 200


SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v1/analyze",
    "raw_path": b"/v1/analyze",
    "query_string": b"",
    "headers": [(b"content-type", b"image/jpeg")],
    "client": ("127.0.0.1", 1),
    "server": ("mien", 80),
    "scheme": "http",
    "root_path": "",
    "http_version": "1.1",
    "asgi": {"version": "3.0"},
}


async def gone_after(client: httpx.AsyncClient, body: bytes, *, complete: bool) -> int:
    """The status for a client that goes away once it has sent `body`."""
    messages = iter(
        [
            {"type": "http.request", "body": body, "more_body": not complete},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[dict[str, Any]] = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    await client._transport.app(dict(SCOPE), receive, send)
    return sent[0]["status"]


async def test_a_client_that_has_gone_is_not_worked_for(photo, held):
    async with served(slots=1) as client:
        first = asyncio.create_task(post(client, photo))
        await entered(held)
        assert await gone_after(client, photo, complete=True) == 499
        held.released.set()
        assert (await first).status_code == 200
        assert (await post(client, photo)).status_code == 200
        assert held.runs == 2
        shed = (await client.get("/metrics")).text
        assert 'mien_requests_shed_total{reason="client_gone"} 1.0' in shed


async def test_a_client_that_goes_in_the_midst_of_its_body_is_no_error_of_ours(photo):
    async with served() as client:
        assert await gone_after(client, photo[:100], complete=False) == 499
        metrics = (await client.get("/metrics")).text
        assert 'mien_requests_shed_total{reason="client_gone"} 1.0' in metrics
        assert 'code="internal"' not in metrics


async def test_not_ready_while_warming_up(photo, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr("service.runtime.registry.Model.warm_up", lambda self: gate.wait(20))
    from service.api.app import create_app
    from service.settings import Settings

    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://mien") as client:
            await asyncio.sleep(0)
            assert_problem(await client.get("/readyz"), 503, "not_ready", "warming up")
            assert_problem(await client.get("/v2/health/ready"), 503, "not_ready")
            assert_problem(await post(client, photo), 503, "not_ready")
            assert (await client.get("/livez")).status_code == 200
            gate.set()


async def test_draining(app, client, photo):
    app.state.analyzer.drain()
    try:
        assert_problem(await client.get("/readyz"), 503, "draining", "draining")
        # What still comes is served: the balancer may not have looked yet.
        assert (await post(client, photo)).status_code == 200
        # A probe that is told to wait is no error.
        assert 'mien_errors_total{code="draining"}' not in (await client.get("/metrics")).text
    finally:
        app.state.analyzer._draining = False


async def test_who_is_cut_off_by_the_end_of_the_drain_is_told_so(app, client):
    sent: list[dict[str, Any]] = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    request = asyncio.create_task(app(dict(SCOPE), receive, send))
    await settle()
    request.cancel()  # as uvicorn does
    await request
    assert sent[0]["status"] == 503
    assert json.loads(sent[1]["body"])["code"] == "draining"


async def test_draining_is_said_when_closed(photo):
    from service.api.app import create_app
    from service.settings import Settings

    app = create_app(Settings())
    async with running(app) as client:
        await app.state.analyzer.close(drain_s=1)
        response = await post(client, photo)
        assert_problem(response, 503, "draining")
        assert "retry-after" in response.headers


async def test_an_unexpected_error_says_nothing_of_the_inside(photo, monkeypatch, caplog):
    async with served() as client:

        def fail(*args, **kwargs):
            raise RuntimeError("secret /etc/path")

        monkeypatch.setattr("service.api.rest.to_json", fail)
        response = await post(client, photo)
        assert_problem(response, 500, "internal")
        assert "secret" not in response.text
        metrics = (await client.get("/metrics")).text
        assert 'mien_errors_total{code="internal"} 1.0' in metrics
        assert 'code="500",method="POST",route="/v1/analyze"' in metrics


async def test_an_unexpected_error_of_one_image_leaves_the_others_of_a_batch(photo, monkeypatch):
    from service.api.schemas import to_json

    calls = iter([True, False])

    def fail_once(*args, **kwargs):
        if next(calls):
            raise RuntimeError("secret /etc/path")
        return to_json(*args, **kwargs)

    async with served(slots=1) as client:
        monkeypatch.setattr("service.api.rest.to_json", fail_once)
        response = await client.post("/v1/analyze/batch", files=[("images", photo)] * 2)
        assert response.status_code == 200
        first, second = response.json()["results"]
        assert first["error"]["code"] == "internal"
        assert "secret" not in response.text
        assert len(second["result"]["faces"]) == 1


async def test_a_model_that_fails_is_an_internal_error(photo, monkeypatch):
    async with served() as client:

        def fail(self, name, value, fetches):
            raise MemoryError

        monkeypatch.setattr("service.runtime.session.OrtSession.run", fail)
        assert_problem(await post(client, photo), 500, "internal")


async def test_every_code_of_the_contract_has_a_kind():
    codes = {kind.code for _, kind in problems.KINDS}
    contract = {
        "bad_request", "unauthorized", "too_large", "unsupported_media", "invalid_image",
        "invalid_option", "rate_limited", "overloaded", "draining", "not_ready",
        "deadline_exceeded",
    }  # fmt: skip
    assert contract <= codes


async def test_the_problem_is_json_that_names_its_type(client):
    body = json.loads((await client.get("/nowhere")).content)
    assert body["type"].startswith("urn:mien:problem:")
