"""What never reaches the application: over a socket, since only there it is to be seen."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from service.api import protocol
from service.core.metrics import Metrics
from service.settings import Settings

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(**settings: float) -> AsyncIterator[Streams]:
    app = FastAPI()
    app.state.metrics = Metrics(CollectorRegistry())
    app.state.settings = Settings(**settings)

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.api_route("/parts", methods=["GET", "HEAD"])
    async def parts(fails: bool = False) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.sleep(0.05)
            if fails:
                raise ZeroDivisionError
            yield b"second"

        return StreamingResponse(body())

    @app.get("/empty", status_code=204)
    async def empty() -> None:
        pass

    @app.get("/nothing")
    async def nothing() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            raise ZeroDivisionError
            yield b""

        return StreamingResponse(body())

    config = uvicorn.Config(app, log_config=None)
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol.BoundedProtocol(config, ServerState(), {}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    server.close()
    await server.wait_closed()


@pytest.fixture
async def connection() -> AsyncIterator[Streams]:
    async with connected() as streams:
        yield streams


async def answer(connection: Streams) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of the next response."""
    reader, _ = connection
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return status, headers, await reader.readexactly(int(headers["content-length"]))


async def assert_refused(connection: Streams, detail: str) -> None:
    status, headers, body = await answer(connection)
    problem = json.loads(body)
    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert problem["request_id"] == headers["x-request-id"]
    assert detail in problem["detail"]
    assert await asyncio.wait_for(connection[0].read(), 10) == b""  # closed


@pytest.mark.parametrize("garbage", [b"GARBAGE\r\n\r\n", b"POST /echo HTTP/1.1\r\n: x\r\n\r\n"])
async def test_what_is_no_http_is_a_problem(connection: Streams, garbage: bytes) -> None:
    connection[1].write(garbage)
    await assert_refused(connection, "Invalid HTTP request")


def over_the_limit(start: bytes, line: bytes) -> bytes:
    """One byte too many, and no more: what is left unread when it closes resets the connection."""
    return (start + line * 70_000)[: Settings().max_head_bytes + 1]


@pytest.mark.parametrize("line", [b"x: " + b"a" * 90 + b"\r\n", b"x"])
async def test_an_endless_head_is_refused(connection: Streams, line: bytes) -> None:
    connection[1].write(over_the_limit(b"POST /echo HTTP/1.1\r\n", line))
    await assert_refused(connection, "65,536")


@pytest.mark.parametrize("line", [b"x: " + b"a" * 90 + b"\r\n", b"x: " + b"a" * 70_000 + b"\r\n"])
async def test_a_large_head_in_one_piece_is_refused(line: bytes) -> None:
    async with connected(max_head_bytes=20_000) as connection:
        lines = line * (1 + 30_000 // len(line))
        connection[1].write(b"POST /echo HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\n")
        await assert_refused(connection, "20,000")


async def test_endless_trailers_are_refused(connection: Streams) -> None:
    _, writer = connection
    writer.write(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
    await writer.drain()
    await asyncio.sleep(0.05)  # so that they do not come in one piece with the head
    writer.write(over_the_limit(b"", b"x: " + b"a" * 90 + b"\r\n"))
    await assert_refused(connection, "65,536")


async def test_bodies_may_be_larger_and_connections_are_kept(connection: Streams) -> None:
    _, writer = connection
    head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\nx: " + b"a" * 60_000
    for _ in range(3):
        writer.write(head + b"\r\n\r\n" + bytes(300_000))
        assert (await answer(connection))[2] == b"300000"
    chunk = b"3e8\r\n" + bytes(1000) + b"\r\n"
    writer.write(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(chunk * 300 + b"0\r\n\r\n")
    assert (await answer(connection))[2] == b"300000"


@pytest.mark.parametrize("sent", [b"", b"POST /echo HTTP/1.1\r\n"])
async def test_a_slow_head_ends_the_connection(sent: bytes) -> None:
    async with connected(head_timeout_s=0.05) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_head_and_body_come_in_one_piece(connection: Streams) -> None:
    _, writer = connection
    written: list[bytes] = []
    real = asyncio.selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:

        def write(transport: object, data: bytes) -> None:
            written.append(data)
            real(transport, data)

        patch.setattr(asyncio.selector_events._SelectorSocketTransport, "write", write)  # type: ignore[attr-defined]
        for _ in range(2):
            writer.write(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
            assert (await answer(connection))[2] == b"3"
    answers = [data for data in written if data.startswith(b"HTTP")]
    assert len(answers) == 2
    assert all(data.endswith(b"\r\n\r\n3") for data in answers)


async def exchange(connection: Streams, request: bytes) -> bytes:
    """All that comes until the server ends the connection."""
    reader, writer = connection
    writer.write(request)
    return await asyncio.wait_for(reader.read(), 10)


CLOSE = b"HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /parts ", b"200 OK", b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"),
        (b"GET /parts?fails=1 ", b"200 OK", b"5\r\nfirst\r\n"),
        (b"HEAD /parts ", b"200 OK", b""),
        (b"GET /empty ", b"204 No Content", b""),
        (b"GET /nothing ", b"200 OK", b""),
        (b"GET /unknown ", b"404 Not Found", b'{"detail":"Not Found"}'),
    ],
)
async def test_every_kind_of_answer_keeps_its_head_and_its_order(
    connection: Streams, request_line: bytes, status: bytes, body: bytes
) -> None:
    head, _, rest = (await exchange(connection, request_line + CLOSE)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert rest == body


async def test_pipelined_requests_are_answered_in_order(connection: Streams) -> None:
    echo = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    both = (echo % 3 + b"abc") + (echo % 5 + b"abcde") + b"GET /unknown " + CLOSE
    answers = (await exchange(connection, both)).split(b"HTTP/1.1 ")[1:]
    assert [each[:3] for each in answers] == [b"200", b"200", b"404"]
    assert [each.partition(b"\r\n\r\n")[2] for each in answers[:2]] == [b"3", b"5"]


async def test_a_body_that_waits_is_asked_for(connection: Streams) -> None:
    reader, writer = connection
    writer.write(
        b"POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    )
    asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await answer(connection))[2] == b"3"


async def test_what_was_answered_needs_no_collector(connection: Streams) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            connection[1].write(
                b"POST /unknown HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
            )
            await answer(connection)
        kept = [each for each in gc.get_objects() if isinstance(each, RequestResponseCycle)]
    finally:
        gc.enable()
    assert len(kept) <= 2
