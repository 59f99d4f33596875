"""Who may open a stream, what it may cost, and how the server ends it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import BaseModel
from websockets.frames import Frame, Opcode

from service.api.messages import MAX_TEXT_BYTES, SessionClosed
from service.api.session import Session
from service.api.state import StateTokens
from service.api.stream import _parts
from service.card import HeadSpec
from service.core.tracking import Tracker
from service.types import (
    AGE_BANDS,
    EMOTIONS,
    GENDERS,
    AnalyzedFace,
    Box,
    Face,
    Prediction,
    Quality,
)
from tests.api.streaming import Client, GatedAnalysis, Served, serving
from tests.fakes import encode, make_model_folder, noise, settle, until

SMALL = encode(noise(48, 64), ".jpg")


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("models")).parent


@pytest.fixture
def start(models_dir: Path) -> Callable[..., Any]:
    """A server with these settings."""

    @asynccontextmanager
    async def starter(**settings: Any) -> AsyncIterator[Served]:
        async with serving(models_dir=models_dir, slots=1, **settings) as served:
            yield served

    return starter


def rss_mb() -> float:
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def idle(served: Served) -> bool:
    """Whether no session is left, nor anything that one held."""
    state = served.app.state
    held = state.settings.max_held_bytes - state.gate._free_bytes
    return served.value("mien_stream_sessions") == 0 and held == 0


# Keys --------------------------------------------------------------------------------------------


async def test_keys_by_header_or_first_message(start: Callable[..., Any]) -> None:
    async with start(api_keys=("right", "other")) as served:
        for headers in ({"authorization": "Bearer right"}, {"x-api-key": "other"}):
            async with served.client(additional_headers=headers) as client:
                await client.created()
        async with served.client() as client:
            await client.send({"type": "session.auth", "key": "right"})
            await client.created(max_faces=1)
        wrong: list[bytes | str | dict[str, Any]] = [
            {"type": "session.auth", "key": "wrong"},
            {"type": "session.auth", "key": "schlüssel \N{KEY}"},
            {"type": "session.auth"},
            {"type": "session.configure"},
            b"frame",
        ]
        for message in wrong:
            async with served.client() as client:
                await client.send(message)
                code, reason = await client.close_code()
                assert (code, "unauthorized" in reason) == (1008, True)
        async with served.client() as client:
            await client.send("garbage")
            assert (await client.close_code())[0] == 1007
        async with served.client(additional_headers={"x-api-key": "wrong"}) as client:
            assert (await client.close_code())[0] == 1008
        assert served.value("mien_errors_total", code="unauthorized") == len(wrong) + 1


async def test_who_shows_no_key_is_not_waited_for(start: Callable[..., Any]) -> None:
    async with start(api_keys=("right",), head_timeout_s=0.1) as served, served.client() as client:
        assert (await client.close_code())[0] == 1008


async def test_who_shows_no_key_keeps_out_nobody_who_does(start: Callable[..., Any]) -> None:
    async with start(api_keys=("right",), max_streams=1, max_client_streams=2) as served:
        shown = {"additional_headers": {"x-api-key": "right"}}
        async with served.client() as silent, served.client():
            async with served.client(**shown) as client:
                await client.created()
            # Those who wait are counted by their address.
            async with served.client() as third:
                code, reason = await third.close_code()
                assert (code, reason) == (1008, "rate_limited: too many streams of this client")
            await until(lambda: idle(served))
            await silent.send({"type": "session.auth", "key": "right"})
            await silent.created()
        async with served.client() as client:
            await client.send({"type": "session.auth", "key": "right"})
            await client.created()


async def test_little_is_read_of_who_shows_no_key(start: Callable[..., Any]) -> None:
    async with start(api_keys=("right",)) as served:
        for message in (b"x" * 20_000, '{"type": "' + " " * 20_000):
            async with served.client() as client:
                await client.send(message)
                code, reason = await client.close_code()
                assert (code, "exceeds" in reason) == (1009, True)
        async with served.client() as client:
            await client.send({"type": "session.auth", "key": "right"})
            await client.created(drop_policy="block")
            await client.send(SMALL + b" " * 100_000)
            assert (await client.receive())["type"] == "frame.result"


async def test_a_key_that_nobody_asked_for_is_no_fault(start: Callable[..., Any]) -> None:
    async with start() as served, served.client() as client:
        await client.send({"type": "session.auth", "key": "whatever"})
        await client.created(max_faces=1)


async def test_the_rate_limit_counts_sessions(start: Callable[..., Any]) -> None:
    async with start(rate_limit="1/minute") as served:
        async with served.client() as client:
            await client.created()
        async with served.client() as client:
            code, reason = await client.close_code()
            assert (code, "rate_limited" in reason) == (1008, True)


# Addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("proxies", "statuses"), [("", [200, 429]), ("127.0.0.0/8", [200, 200])])
async def test_only_a_trusted_proxy_says_who_the_client_is(
    start: Callable[..., Any], proxies: str, statuses: list[int]
) -> None:
    async with (
        start(rate_limit="1/minute", trusted_proxies=proxies) as served,
        httpx.AsyncClient(base_url=f"http://{served.address}") as client,
    ):
        for address, status in zip(("192.0.2.1", "192.0.2.2"), statuses, strict=True):
            headers = {"x-forwarded-for": address}
            assert (await client.get("/v1/models", headers=headers)).status_code == status


async def test_streams_are_counted_by_the_clients_behind_a_proxy(start: Callable[..., Any]) -> None:
    def client_at(address: str) -> Any:
        # What the client itself had claimed stands in front, and is not believed.
        return served.client(additional_headers={"x-forwarded-for": f"203.0.113.9, {address}"})

    async with (
        start(trusted_proxies="127.0.0.1", max_client_streams=1) as served,
        client_at("192.0.2.1") as one,
        client_at("192.0.2.2") as two,
    ):
        await one.created()
        await two.created()
        async with client_at("192.0.2.1") as again:
            code, reason = await again.close_code()
            assert (code, "too many streams" in reason) == (1008, True)


# Handshakes --------------------------------------------------------------------------------------

UPGRADE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("path", "changes", "status", "code"),
    [
        ("/v1/models", {"sec-websocket-key": "short"}, 400, "bad_request"),
        ("/v1/stream", {"sec-websocket-version": "8"}, 400, "bad_request"),
        ("/v1/stream", {"transfer-encoding": "chunked"}, 400, "bad_request"),
        ("/v1/nowhere", {}, 404, "not_found"),
        ("/v1/stream", {"x": "a" * 9000}, 400, "bad_request"),
        ("/v1/stream", {f"x-{n}": "a" for n in range(130)}, 400, "bad_request"),
    ],
)
async def test_a_refused_handshake_is_a_problem(
    start: Callable[..., Any], path: str, changes: dict[str, str], status: int, code: str
) -> None:
    async with start() as served, httpx.AsyncClient(base_url=f"http://{served.address}") as client:
        response = await client.get(path, headers=UPGRADE | changes)
        assert response.headers["content-type"] == "application/problem+json"
        assert "server-timing" in response.headers
        problem = response.json()
        assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
        assert problem["request_id"] == response.headers["x-request-id"]
        assert problem["detail"]
        assert served.value("mien_errors_total", code=code) == 1


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1", "https://127.0.0.1:1", "null", ""]
)
async def test_a_page_of_another_origin_is_refused(start: Callable[..., Any], origin: str) -> None:
    async with start() as served, httpx.AsyncClient(base_url=f"http://{served.address}") as client:
        response = await client.get("/v1/stream", headers=UPGRADE | {"origin": origin})
        assert response.headers["content-type"] == "application/problem+json"
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
        assert served.value("mien_errors_total", code="forbidden") == 1
        async with served.client(origin=f"http://{served.address}") as page:
            await page.created()


# Room and readiness ------------------------------------------------------------------------------


async def test_so_many_streams_at_a_time(start: Callable[..., Any]) -> None:
    async with start(max_streams=2) as served:
        async with served.client() as one, served.client() as two:
            await one.created()
            await two.created()
            async with served.client() as three:
                code, reason = await three.close_code()
                assert (code, "overloaded" in reason) == (1013, True)
        await until(lambda: idle(served))
        async with served.client() as client:
            await client.created()
        assert served.value("mien_requests_shed_total", reason="overloaded") == 1


async def test_so_many_streams_of_one_client(start: Callable[..., Any]) -> None:
    async with start(api_keys=("one", "two"), max_client_streams=1) as served:
        one = {"additional_headers": {"x-api-key": "one"}}
        async with served.client(**one) as first:
            await first.created()
            async with served.client(**one) as second:
                code, reason = await second.close_code()
                assert (code, reason) == (1008, "rate_limited: too many streams of this client")
            async with served.client(additional_headers={"x-api-key": "two"}) as other:
                await other.created()
        await until(lambda: idle(served))
        async with served.client(**one) as again:
            await again.created()


# Another replica ---------------------------------------------------------------------------------


async def test_tracks_go_on_at_another_replica(start: Callable[..., Any]) -> None:
    key = {"stream_state_key": "shared"}
    async with start(**key) as served, start(**key) as replica, start() as stranger:
        for each in (served, replica):
            GatedAnalysis(each.app, faces=2).release()
        async with served.client() as client:
            await client.created(state=True)
            await client.send(b"one")
            state = (await client.receive())["state"]
        async with replica.client() as client:
            assert (await client.created(resume=state))["resumed_tracks"] == 2
            await client.send(b"two")
            reply = await client.receive()
            assert [face["track_id"] for face in reply["faces"]] == [1, 2]
        for server, token in ((stranger, state), (replica, state[:-1] + "!"), (replica, "x")):
            async with server.client() as client:
                await client.receive()
                await client.send({"type": "session.configure", "resume": token})
                assert await client.close_code() == (
                    1008,
                    "invalid_option: resume: no state that this service has signed",
                )


def test_the_largest_state_fits_a_message() -> None:
    draw = np.random.default_rng(0)
    heads = {"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS}
    specs = {head: HeadSpec(labels=labels, uncertain_below=0.5) for head, labels in heads.items()}

    def prediction(labels: Sequence[str]) -> Prediction:
        values = dict(zip(labels, draw.dirichlet(np.ones(len(labels))), strict=True))
        return Prediction(labels[0], values[labels[0]], False, values)

    tracker = Tracker(specs)
    faces = [
        AnalyzedFace(
            Face(Box(*draw.uniform(0, 8000, 4)), 0.9),
            {head: prediction(labels) for head, labels in heads.items()},
            Quality(40, 0.5),
        )
        for _ in range(200)
    ]
    tracker.update(faces, 0.0)
    message = {"type": "session.configure", "resume": StateTokens(None).write(tracker)}
    assert len(json.dumps(message)) < MAX_TEXT_BYTES


async def test_not_ready_is_try_again_later(start: Callable[..., Any]) -> None:
    async with start() as served:
        served.app.state.analyzer._warm = False
        async with served.client() as client:
            assert (await client.close_code())[0] == 1013
        served.app.state.analyzer.drain()
        async with served.client() as client:
            assert await client.close_code() == (1001, "draining")


async def test_frames_without_room_in_memory_are_errors(start: Callable[..., Any]) -> None:
    limits = {"max_bytes": 1000, "max_batch_bytes": 1000, "max_held_bytes": 2000}
    async with start(**limits, max_stream_in_flight=4) as served, served.client() as client:
        gate = GatedAnalysis(served.app)
        await client.created(drop_policy="block", max_in_flight=4)
        for _ in range(3):
            await client.send(b"x" * 450)
        # The other half of the room is for requests.
        await gate.begun(2)
        gate.release()
        replies = await client.frames(3)
        assert [reply.get("code") for reply in replies] == [None, None, "overloaded"]


async def test_a_frame_that_takes_too_long_is_an_error(start: Callable[..., Any]) -> None:
    async with start(request_timeout_s=0.2) as served, served.client() as client:
        gate = GatedAnalysis(served.app)
        await client.created(drop_policy="block")
        await client.send(b"slow")
        assert (await client.receive())["code"] == "deadline_exceeded"
        gate.release()
        await client.send(b"fast")
        assert (await client.receive())["type"] == "frame.result"


# The end -----------------------------------------------------------------------------------------


async def test_silence_ends_a_stream(start: Callable[..., Any]) -> None:
    async with start(stream_idle_timeout_s=0.1) as served, served.client() as client:
        assert await client.close_code() == (1008, "idle for too long")


async def test_a_drain_answers_what_is_held(start: Callable[..., Any]) -> None:
    async with start() as served, served.client() as client, served.client() as quiet:
        gate = GatedAnalysis(served.app)
        await quiet.created()
        await client.created(drop_policy="block")
        await client.send(b"0")
        await gate.begun(1)
        served.server.should_exit = True
        assert await quiet.close_code() == (1001, "draining")
        gate.release()
        assert (await client.receive())["type"] == "frame.result"
        assert await client.close_code() == (1001, "draining")


async def test_a_drain_has_an_end(start: Callable[..., Any]) -> None:
    async with start(drain_timeout_s=1) as served, served.client() as client:
        gate = GatedAnalysis(served.app)
        await client.created()
        await client.send(b"for ever")
        await gate.begun(1)
        served.server.should_exit = True
        assert await client.close_code() == (1001, "draining")


async def test_a_fault_inside_ends_the_session_and_is_not_told(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(*_: Any) -> Any:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr("service.core.tracking.Tracker.update", update)
    async with start() as served, served.client() as client:
        GatedAnalysis(served.app).release()
        await client.created()
        await client.send(b"0")
        assert await client.close_code() == (1011, "internal")
        await until(lambda: idle(served))
        assert served.value("mien_errors_total", code="internal") == 1


async def test_who_vanishes_is_not_worked_for(start: Callable[..., Any]) -> None:
    async with start() as served:
        gate = GatedAnalysis(served.app)
        async with served.client() as client:
            await client.created()
            await client.send(b"0")
            await gate.begun(1)
            await client.send(b"1")
            client.socket.transport.abort()
            await until(lambda: gate.in_work == 0 and idle(served))
        assert len(gate.jobs) == 1


class Vanishing:
    """A client that sends a frame, and is gone some turns of the loop later."""

    def __init__(self) -> None:
        self._messages = iter(
            [{"type": "websocket.receive", "bytes": b"0"}, {"type": "websocket.disconnect"}]
        )

    async def receive(self) -> dict[str, Any]:
        message = next(self._messages)
        if message["type"] == "websocket.disconnect":
            await settle()
        return message


async def test_who_vanishes_at_any_moment_gives_its_turn_back(start: Callable[..., Any]) -> None:
    async with start(max_stream_frames=1) as served:
        gate = GatedAnalysis(served.app)
        parts = _parts(served.app.state)
        for turns in range(30):
            await parts.capacity.acquire()
            session = asyncio.create_task(Session(Vanishing(), parts, "x").run())  # type: ignore[arg-type]
            for _ in range(turns):
                await asyncio.sleep(0)
            parts.capacity.release()
            await session
            await until(lambda: not parts.capacity.locked())
        # In some the frame was begun before the client had gone, in some it was too late.
        assert 0 < len(gate.jobs) < 30
        assert idle(served)


async def test_a_goodbye_that_nobody_reads_is_no_fault(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Session.send

    async def send(self: Session, message: BaseModel) -> None:
        if isinstance(message, SessionClosed):
            raise TimeoutError
        await real(self, message)

    monkeypatch.setattr(Session, "send", send)
    async with start() as served, served.client() as client:
        await client.created()
        await client.send({"type": "session.close"})
        assert (await client.close_code())[0] == 1006
        assert served.value("mien_errors_total", code="internal") == 0


async def test_a_ping_that_nobody_answers_ends_a_stream(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"stream_ping_s": 0.05, "request_timeout_s": 0.05, "stream_send_timeout_s": 0.05}
    monkeypatch.setattr("service.api.websocket._LINGER_S", 0.05)
    async with start(**limits) as served:
        writer = await connect(served)
        await until(lambda: served.value("mien_stream_sessions") == 1)
        await until(lambda: idle(served))
        writer.transport.abort()


# Clients that mean no good -----------------------------------------------------------------------


async def connect(served: Served) -> asyncio.StreamWriter:
    """A client that has shaken hands and reads nothing from then on."""
    host, port = served.address.split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw)
    writer.write(
        b"GET /v1/stream HTTP/1.1\r\nhost: mien\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    return writer


def masked(opcode: Opcode, data: bytes = b"") -> bytes:
    return Frame(opcode, data).serialize(mask=True)


async def test_a_client_that_never_reads_is_ended(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.websocket._LINGER_S", 0.1)
    async with start(stream_send_timeout_s=0.3) as served:
        gate = GatedAnalysis(served.app, faces=100)
        gate.release()
        writer = await connect(served)
        await until(lambda: served.value("mien_stream_sessions") == 1)
        options = b'{"type": "session.configure", "drop_policy": "block", "track": false}'
        writer.write(masked(Opcode.TEXT, options))
        largest = 0

        def ended() -> bool:
            nonlocal largest
            for connection in served.server.server_state.connections:
                largest = max(largest, connection.transport.get_write_buffer_size())
            if not writer.transport.is_closing() and not writer.transport.get_write_buffer_size():
                writer.write(masked(Opcode.BINARY, b"frame") * 10)
            return idle(served) and not served.server.server_state.connections

        try:
            await until(ended)
        finally:
            writer.transport.abort()
        # The high water of the transport, 64 KiB, and one reply.
        assert 65_536 < largest < 200_000


async def test_pings_of_a_client_that_never_reads_do_not_pile_up(
    start: Callable[..., Any],
) -> None:
    async with start() as served:
        writer = await connect(served)
        await until(lambda: served.value("mien_stream_sessions") == 1)
        (connection,) = served.server.server_state.connections
        for _ in range(20):
            writer.write(masked(Opcode.PING, b"x" * 125) * 2000)
            await writer.drain()
            await settle()
        assert connection.transport.get_write_buffer_size() < 600_000
        writer.transport.abort()


async def test_a_message_without_end_is_refused(start: Callable[..., Any]) -> None:
    async with start() as served, served.client() as client:
        await client.created()
        await client.send_raw([b""] * 10_000)
        assert await client.close_code() == (1009, "too many fragments")


# Many --------------------------------------------------------------------------------------------


async def test_fifty_sessions_with_flat_memory(start: Callable[..., Any]) -> None:
    async with start(max_streams=50, max_client_streams=50) as served:
        gate = GatedAnalysis(served.app)
        gate.release()

        async def session(count: int) -> None:
            async with served.client() as client:
                await client.created(drop_policy="block")
                for index in range(count):
                    await client.send(SMALL)
                    reply = await client.receive()
                    assert (reply["type"], reply["frame"]) == ("frame.result", index)

        async def many(count: int) -> None:
            await asyncio.gather(*(session(count) for _ in range(50)))
            await until(lambda: idle(served))
            gate.jobs.clear()

        await many(4)
        before = rss_mb()
        await many(12)
        assert rss_mb() - before < 8


async def test_streams_do_not_starve_a_request(start: Callable[..., Any]) -> None:
    """Ten streams send as fast as they can; a request waits for four frames and no more."""
    order: list[bytes] = []
    opened = threading.Event()
    async with start(max_stream_frames=4, max_pending_images=16) as served:
        runner = served.app.state.analyzer._prepare._runner
        real = runner.run

        def run(items: Sequence[Any]) -> Any:
            assert opened.wait(10)
            order.extend(job.data for job in items)
            return real(items)

        runner.run = run
        pictures = [SMALL + b"%d" % index for index in range(10)]
        clients = [served.client() for _ in pictures]
        async with httpx.AsyncClient(base_url=f"http://{served.address}") as rest:
            streams = [
                asyncio.create_task(_flood(*pair)) for pair in zip(clients, pictures, strict=True)
            ]
            queue = served.app.state.analyzer._prepare._queue
            await until(lambda: len(queue) == 3)
            headers = {"content-type": "image/jpeg"}
            asked = asyncio.create_task(
                rest.post("/v1/analyze", content=SMALL + b"rest", headers=headers)
            )
            await until(lambda: len(queue) == 4)
            opened.set()
            assert (await asked).status_code == 200
            assert order.index(SMALL + b"rest") == 4
            replies = await asyncio.gather(*streams)
        assert all(count == 12 for count in replies)
        # A round robin: before one stream's third frame has begun, each has had one.
        third = next(i for i, data in enumerate(order) if order[:i].count(data) == 2)
        assert {data for data in order[:third] if data != SMALL + b"rest"} == set(pictures)


async def _flood(opening: Any, picture: bytes) -> int:
    """Twelve frames at once; gives the number of results."""
    async with opening as client:
        assert isinstance(client, Client)
        await client.created(drop_policy="block", max_in_flight=8)
        for _ in range(12):
            await client.send(picture)
        replies = await client.frames(12)
        return sum(reply["type"] == "frame.result" for reply in replies)
