"""Streams through the clients, against a server on a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import pytest_asyncio
import websockets
from pydantic import BaseModel

from mien import client
from mien.client import AsyncClient, Client, types
from service.api import messages
from tests.api.streaming import PATIENCE_S, GatedAnalysis, Served, serving
from tests.client.conftest import PHOTO
from tests.fakes import until

BLOCK: types.StreamOptions = {"drop_policy": "block", "max_in_flight": 3}


def url(served: Served) -> str:
    return f"http://{served.address}"


@pytest.fixture
def opened(served: Served) -> GatedAnalysis:
    """Analyses that pass at once."""
    gate = GatedAnalysis(served.app)
    gate.open = True
    return gate


async def test_one_reply_a_frame_and_in_order(served: Served, photo: bytes) -> None:
    def work() -> None:
        with Client(url(served)).stream(attributes=["emotion"], **BLOCK) as stream:
            assert stream.session["limits"]["max_in_flight"] == 8
            assert stream.options["attributes"] == ["emotion"]
            replies = list(stream.analyze([photo, PHOTO, b"bad", photo, photo]))
            totals = stream.close()
        assert [reply["frame"] for reply in replies] == [0, 1, 2, 3, 4]
        kinds = [reply["type"] for reply in replies]
        assert kinds == ["frame.result"] * 2 + ["frame.error"] + ["frame.result"] * 2
        assert all(reply["faces"][0]["track_id"] for reply in replies if "faces" in reply)
        assert (totals["received"], totals["processed"], totals["failed"]) == (5, 4, 1)

    await asyncio.to_thread(work)


async def test_the_same_by_asyncio(served: Served, opened: GatedAnalysis) -> None:
    async def camera() -> Any:
        for number in range(7):
            yield b"frame" if number != 3 else b"bad"

    async with AsyncClient(url(served)).stream(**BLOCK) as stream:
        replies = [reply async for reply in stream.analyze(camera())]
        replies += [reply async for reply in stream.analyze([b"frame"])]
        totals = await stream.close()
    assert [reply["frame"] for reply in replies] == list(range(8))
    assert [reply["frame"] for reply in replies if reply["type"] == "frame.error"] == [3]
    assert totals["received"] == 8


async def test_what_close_passes_by_can_still_be_taken(
    served: Served, opened: GatedAnalysis
) -> None:
    async with AsyncClient(url(served)).stream(**BLOCK) as stream:
        for _ in range(20):
            await stream.send(b"frame")
        assert (await stream.close())["processed"] == 20
        assert await stream.close() == stream._inbox.totals
        assert [reply["frame"] async for reply in stream] == list(range(20))
        with pytest.raises(client.StreamClosed):
            await stream.receive()


async def test_one_task_sends_and_another_receives(served: Served, opened: GatedAnalysis) -> None:
    async with AsyncClient(url(served)).stream(**BLOCK) as stream:

        async def send() -> types.Totals:
            for _ in range(30):
                await stream.send(b"frame")
            return await stream.close()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(PATIENCE_S):
            frames = [reply["frame"] async for reply in stream]
        assert frames == list(range(30))
        assert (await sending)["received"] == 30


async def test_one_thread_sends_and_another_receives(served: Served, opened: GatedAnalysis) -> None:
    with_client = Client(url(served)).stream(**BLOCK)
    stream = await asyncio.to_thread(with_client.__enter__)

    def send() -> types.Totals:
        for _ in range(30):
            stream.send(b"frame")
        return stream.close()

    receiving = asyncio.to_thread(lambda: [reply["frame"] for reply in stream])
    totals, frames = await asyncio.gather(asyncio.to_thread(send), receiving)
    assert frames == list(range(30))
    assert totals["processed"] == 30
    await asyncio.to_thread(with_client.__exit__, None, None, None)


async def test_a_frame_that_cannot_be_read_leaves_nothing_behind(
    served: Served, opened: GatedAnalysis
) -> None:
    frames = [b"frame", b"frame", "/nobody/has/this.jpg"]

    def work() -> None:
        with Client(url(served)).stream(**BLOCK) as stream:
            with pytest.raises(OSError, match="nobody"):
                list(stream.analyze(frames))
            assert [reply["frame"] for reply in stream.analyze([b"frame"] * 2)] == [2, 3]
            # Who wants the replies can still take them.
            with pytest.raises(OSError, match="nobody"):
                list(stream.analyze(frames))
            assert [stream.receive()["frame"] for _ in range(2)] == [4, 5]

    await asyncio.to_thread(work)
    async with AsyncClient(url(served)).stream(**BLOCK) as stream:
        with pytest.raises(OSError, match="nobody"):
            _ = [reply async for reply in stream.analyze(frames)]
        assert [reply["frame"] async for reply in stream.analyze([b"frame"] * 2)] == [2, 3]


async def test_who_breaks_off_gets_no_stale_replies(served: Served, opened: GatedAnalysis) -> None:
    def work() -> None:
        with Client(url(served)).stream(**BLOCK) as stream:
            for reply in stream.analyze([b"frame"] * 9):
                assert reply["frame"] == 0
                break
            assert [reply["frame"] for reply in stream.analyze([b"frame"] * 4)] == [3, 4, 5, 6]

    await asyncio.to_thread(work)
    async with AsyncClient(url(served)).stream(**BLOCK) as stream:
        broken_off = stream.analyze([b"frame"] * 9)
        assert (await anext(broken_off))["frame"] == 0
        again = [reply["frame"] async for reply in stream.analyze([b"frame"] * 4)]
    assert again == [3, 4, 5, 6]


async def test_never_more_in_flight_than_agreed(served: Served) -> None:
    gate = GatedAnalysis(served.app)
    async with AsyncClient(url(served)).stream(**BLOCK) as stream:
        for _ in range(2):
            await stream.send(b"frame")
        replies = stream.analyze([b"frame"] * 9)
        first = asyncio.create_task(anext(replies))
        jobs = await gate.begun(3)
        assert stream._inbox.untaken == 3
        gate.release()
        assert (await first)["frame"] == 2
        assert len(jobs) <= 5


async def test_limits_of_the_server_hold(served: Served) -> None:
    async with AsyncClient(url(served)).stream(drop_policy="block", max_in_flight=200) as stream:
        assert stream.options["max_in_flight"] == 8


async def test_an_option_that_cannot_be_met(served: Served) -> None:
    with pytest.raises(client.StreamClosed) as caught:
        async with AsyncClient(url(served)).stream(models=["nobody"]):
            pass
    assert caught.value.code == 1008
    assert "nobody" in caught.value.reason


async def test_keys(tiny_models: Path) -> None:
    async with serving(
        models_dir=tiny_models, api_keys=("k1", "ключ"), head_timeout_s=0.1
    ) as served:
        for key in ("k1", "ключ"):
            async with AsyncClient(url(served), key).stream() as stream:
                assert (await stream.close())["received"] == 0
        with pytest.raises(client.StreamClosed) as caught:
            async with AsyncClient(url(served), "k2").stream():
                pass
        assert caught.value.code == 1008
        assert caught.value.reason.startswith("unauthorized")


async def test_a_server_that_stops(served: Served, opened: GatedAnalysis) -> None:
    async with AsyncClient(url(served)).stream() as stream:
        served.app.state.streams.drain()
        with pytest.raises(client.StreamClosed) as caught:
            async for _ in stream:
                pass
        assert (caught.value.code, caught.value.reason) == (1001, "draining")
        with pytest.raises(client.StreamClosed):
            await stream.send(b"frame")
        with pytest.raises(client.StreamClosed):
            await stream.close()


async def test_nobody_listens() -> None:
    with pytest.raises(client.ConnectionFailed, match=r"ws://127\.0\.0\.1:1/v1/stream"):
        async with AsyncClient("http://127.0.0.1:1/").stream():
            pass

    def work() -> None:
        with Client("http://127.0.0.1:1").stream():
            pass

    with pytest.raises(client.ConnectionFailed):
        await asyncio.to_thread(work)


@pytest_asyncio.fixture
async def mute() -> AsyncIterator[str]:
    """A server that opens streams, and says nothing more."""

    async def serve(socket: websockets.ServerConnection) -> None:
        await socket.send(json.dumps({"type": "session.created"}))
        await socket.recv()
        await socket.send(json.dumps({"type": "session.configured", "max_in_flight": 2}))
        async for _ in socket:
            pass

    async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=["mien.v1"]) as server:  # type: ignore[list-item]
        host, port = next(iter(server.sockets)).getsockname()
        yield f"http://{host}:{port}"


async def test_a_frame_that_is_not_answered(mute: str) -> None:
    def work() -> None:
        with Client(mute).stream() as stream:
            stream._timeout_s = 0.05
            with pytest.raises(client.ConnectionLost, match=r"0\.05 s"):
                list(stream.analyze([b"frame"]))
            with pytest.raises(client.ConnectionLost):
                stream.close()

    await asyncio.to_thread(work)
    async with AsyncClient(mute).stream() as stream:
        stream._timeout_s = 0.05
        with pytest.raises(client.ConnectionLost, match=r"0\.05 s"):
            _ = [reply async for reply in stream.analyze([b"frame"])]
        with pytest.raises(client.ConnectionLost):
            await stream.close()


async def test_who_only_waits_for_frames_waits_on(
    mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silences = 0

    def silent(timeout_s: float) -> client.ConnectionLost:
        nonlocal silences
        silences += 1
        return client.ConnectionLost("silent")

    monkeypatch.setattr("mien.client.stream._silent", silent)
    async with AsyncClient(mute).stream() as stream:
        stream._timeout_s = 0.01
        receiving = asyncio.create_task(stream.receive())
        await until(lambda: silences == 2 or receiving.done())
    with pytest.raises(client.StreamClosed):
        await receiving
    silences = 0
    opening = Client(mute).stream()
    waiting = await asyncio.to_thread(opening.__enter__)
    waiting._timeout_s = 0.01
    receiving = asyncio.create_task(asyncio.to_thread(waiting.receive))
    await until(lambda: silences == 2 or receiving.done())
    await asyncio.to_thread(opening.__exit__, None, None, None)
    with pytest.raises(client.StreamClosed):
        await receiving


async def test_no_stream_is_there(served: Served) -> None:
    with pytest.raises(client.ConnectionFailed, match="elsewhere"):
        async with AsyncClient(f"{url(served)}/elsewhere").stream():
            pass


@pytest.mark.parametrize(
    ("typed", "model", "left_out"),
    [
        (types.StreamOptions, messages.SessionConfigure, {"type"}),
        (types.Session, messages.SessionCreated, {"type"}),
        (types.Face, messages.StreamFaceOut, set()),
        (types.FrameResult, messages.FrameResult, set()),
        (types.FrameDropped, messages.FrameDropped, set()),
        (types.FrameError, messages.FrameError, set()),
        (types.Totals, messages.SessionClosed, {"type"}),
        (types.Latency, messages.LatencyOut, set()),
    ],
)
def test_types_have_the_fields_of_the_protocol(
    typed: Any, model: type[BaseModel], left_out: set[str]
) -> None:
    assert get_type_hints(typed).keys() == model.model_fields.keys() - left_out
