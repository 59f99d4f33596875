"""The protocol of `/v1/stream`, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from service.core.frames import Frame, FrameQueue
from tests.api.streaming import Client, GatedAnalysis, Served, serving
from tests.fakes import make_model_folder, settle, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("models")).parent


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(models_dir: Path) -> AsyncIterator[Served]:
    async with serving(models_dir=models_dir, max_frame_bytes=100_000, slots=8) as served:
        yield served


@pytest.fixture
def gate(served: Served) -> Iterator[GatedAnalysis]:
    gate = GatedAnalysis(served.app)
    yield gate
    gate.release()


def kinds(replies: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(reply["frame"], reply["type"].removeprefix("frame.")) for reply in replies]


# A session ---------------------------------------------------------------------------------------


async def test_a_session_from_its_begin_to_its_end(served: Served, gate: GatedAnalysis) -> None:
    gate.release()
    async with served.client() as client:
        assert client.socket.subprotocol == "mien.v1"
        created = await client.receive()
        detector = served.app.state.analyzer.detector.id
        assert created["models"] == {"detector": detector, "emotion": "tiny@1.0.0"}
        assert created["limits"]["max_frame_bytes"] == 100_000
        await client.send({"type": "session.configure", "drop_policy": "block", "max_faces": 3})
        configured = await client.receive()
        assert configured["max_faces"] == 3
        assert configured["attributes"] == ["emotion"]
        assert (configured["track"], configured["smoothing"]) == (True, 0.6)
        assert (configured["drop_policy"], configured["max_in_flight"]) == ("block", 2)
        await client.send(b"one")
        (reply,) = await client.frames(1)
        assert list(reply)[:2] == ["type", "frame"]
        assert (reply["type"], reply["frame"]) == ("frame.result", 0)
        assert reply["request_id"] == f"{created['session_id']}-0"
        assert reply["faces"][0]["track_id"] == 1
        assert reply["faces"][0]["emotion"]["label"] == "happy"
        assert set(reply["faces"][0]) == {
            *("track_id", "box", "detection_score", "landmarks", "emotion", "quality")
        }
        assert gate.jobs[0].options.max_faces == 3
        await client.send({"type": "session.close"})
        closed = await client.receive()
        latency = closed.pop("latency_ms")
        assert closed == {
            "type": "session.closed", "received": 1, "processed": 1, "dropped": 0, "failed": 0
        }  # fmt: skip
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert await client.close_code() == (1000, "")


async def test_without_tracks_there_is_no_id(served: Served, gate: GatedAnalysis) -> None:
    gate.release()
    async with served.client() as client:
        await client.created(track=False, landmarks=False)
        await client.send(b"one")
        assert set((await client.receive())["faces"][0]) == {
            *("box", "detection_score", "emotion", "quality")
        }


async def test_a_state_only_on_request_and_only_with_tracks(
    served: Served, gate: GatedAnalysis
) -> None:
    gate.release()
    async with served.client() as client:
        configured = await client.created(smoothing=0.5)
        assert (configured["state"], configured["resumed_tracks"]) == (False, 0)
        await client.send(b"one")
        assert "state" not in await client.receive()
    async with served.client() as client:
        await client.receive()
        await client.send({"type": "session.configure", "track": False, "state": True})
        code, reason = await client.close_code()
        assert code == 1008
        assert reason.startswith("invalid_option: state and resume need track")


async def test_nothing_sent_is_nothing_measured(served: Served) -> None:
    async with served.client() as client:
        await client.created()
        await client.send({"type": "session.close"})
        assert (await client.receive())["latency_ms"] == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize(
    ("wanted", "holds"), [(1, ("latest", 2)), (3, ("latest", 3)), (200, ("latest", 8))]
)
async def test_configured_says_what_holds(
    served: Served, wanted: int, holds: tuple[str, int]
) -> None:
    async with served.client() as client:
        configured = await client.created(max_in_flight=wanted, max_faces=1000)
        assert (configured["drop_policy"], configured["max_in_flight"]) == holds
        assert configured["max_faces"] == 100


# Order and policies ------------------------------------------------------------------------------


async def test_replies_come_in_order_whatever_ends_first(
    served: Served, gate: GatedAnalysis
) -> None:
    async with served.client() as client:
        await client.created(drop_policy="block", max_in_flight=4)
        for index in range(4):
            await client.send(b"%d" % index)
        for job in reversed(await gate.begun(4)):
            job.passed.set()
            await settle()
        assert kinds(await client.frames(4)) == [(n, "result") for n in range(4)]


async def test_block_holds_so_many_and_reads_no_more(served: Served, gate: GatedAnalysis) -> None:
    async with served.client() as client:
        await client.created(drop_policy="block", max_in_flight=3)
        sending = asyncio.create_task(_send(client, 200, size=90_000))
        await gate.begun(3)
        await settle()
        # The sockets of the machine hold some of the 18 MB, the service no more than three frames.
        assert _held(served) == 3 * 90_000
        assert not sending.done()
        gate.release()
        assert kinds(await client.frames(200)) == [(n, "result") for n in range(200)]
        assert gate.most_in_work == 3
        await sending


async def test_latest_keeps_the_newest_and_says_so_in_order(
    served: Served, gate: GatedAnalysis
) -> None:
    async with served.client() as client:
        await client.created(drop_policy="latest", max_in_flight=2)
        await client.send(b"0")
        await gate.begun(1)
        await _send(client, 9)
        await client.send(b"last")
        await until(lambda: _held(served) == len(b"0") + len(b"last"))
        gate.release()
        replies = await client.frames(11)
        dropped = [(n, "dropped") for n in range(1, 10)]
        assert kinds(replies) == [(0, "result"), *dropped, (10, "result")]
        assert [job.data for job in gate.jobs] == [b"0", b"last"]
        assert replies[1] == {"type": "frame.dropped", "frame": 1, "reason": "newer_frame"}


async def test_a_flood_of_frames_is_owed_a_bounded_number_of_replies(
    served: Served, gate: GatedAnalysis
) -> None:
    async with served.client() as client:
        await client.created()
        await client.send(b"0")
        await gate.begun(1)
        await _send(client, 1500)
        await client.send({"type": "session.close"})
        await until(lambda: _held(served) <= 2)
        gate.release()
        replies = await client.frames(1501)
        assert [n for n, _ in kinds(replies)] == list(range(1501))
        closed = await client.receive()
        assert closed["processed"] + closed["dropped"] == closed["received"] == 1501


async def test_close_answers_what_was_sent(served: Served, gate: GatedAnalysis) -> None:
    async with served.client() as client:
        await client.created(drop_policy="block")
        await _send(client, 2)
        await client.send({"type": "session.close"})
        await gate.begun(2)
        gate.release()
        assert kinds(await client.frames(2)) == [(0, "result"), (1, "result")]
        assert (await client.receive())["type"] == "session.closed"


# Errors that keep the session --------------------------------------------------------------------


async def test_a_bad_frame_keeps_the_session(served: Served, gate: GatedAnalysis) -> None:
    gate.release()
    async with served.client() as client:
        await client.created(drop_policy="block")
        for data in (b"good", b"bad", b"bug", b"good"):
            await client.send(data)
        replies = await client.frames(4)
        assert kinds(replies) == [(0, "result"), (1, "error"), (2, "error"), (3, "result")]
        assert replies[1]["code"] == "invalid_image"
        assert replies[1]["detail"] == "it is bad"
        assert replies[2]["code"] == "internal"
        assert "secret" not in replies[2]["detail"]
        await client.send({"type": "session.close"})
        assert (await client.receive())["failed"] == 2


async def test_metrics_count_sessions_and_frames(served: Served, gate: GatedAnalysis) -> None:
    gate.release()
    names = ("processed", "dropped", "failed")
    before = [served.value("mien_stream_frames_total", result=name) for name in names]
    async with served.client() as client:
        await client.created(drop_policy="block")
        assert served.value("mien_stream_sessions") == 1
        await client.send(b"good")
        await client.send(b"bad")
        await client.frames(2)
    await until(lambda: served.value("mien_stream_sessions") == 0)
    after = [served.value("mien_stream_frames_total", result=name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 0, 1]


# Errors that end the session ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("{", 1007, "no JSON"),
        ("garbage", 1007, "no JSON"),
        ("[" * 10_000, 1007, "no JSON"),
        ("[1]", 1003, "type must be one of"),
        ('{"type": "frame"}', 1003, "type must be one of"),
        ('{"type": ["session.close"]}', 1003, "type must be one of"),
        ('{"type": "session.configure", "x": 1}', 1008, "invalid_option: x"),
        ('{"type": "session.configure", "max_faces": 0}', 1008, "invalid_option: max_faces"),
        ('{"type": "session.configure", "smoothing": -1}', 1008, "invalid_option: smoothing"),
        ('{"type": "session.configure", "models": ["no"]}', 1008, "no model 'no'"),
        ('{"type": "session.configure", "attributes": ["age"]}', 1008, "the head 'age'"),
        (" " * 20_000, 1009, "20,000 bytes, the limit is 16,384"),
        ("é" * 10_000, 1009, "20,000 bytes, the limit is 16,384"),
        (b"x" * 100_001, 1009, "100001 bytes exceeds"),
        (b"x" * 3_000_000, 1009, "exceeds limit"),
    ],
)
async def test_what_ends_a_session(
    served: Served, message: bytes | str, code: int, reason: str
) -> None:
    async with served.client() as client:
        await client.created()
        await client.send(message)
        got, why = await client.close_code()
        assert (got, reason in why) == (code, True), why


async def test_options_come_before_the_first_frame(served: Served, gate: GatedAnalysis) -> None:
    async with served.client() as client:
        await client.created()
        await client.send(b"0")
        await client.send({"type": "session.configure"})
        code, why = await client.close_code()
        assert (code, "before the first frame" in why) == (1008, True)


async def test_another_subprotocol_is_refused(served: Served) -> None:
    async with served.client(subprotocols=None) as client:
        await client.created()
    async with served.client(subprotocols=["chat"]) as client:
        assert await client.close_code() == (1008, "offer the subprotocol mien.v1")


def _held(served: Served) -> int:
    """Bytes of frames that the service keeps."""
    state = served.app.state
    return int(state.settings.max_held_bytes - state.gate._free_bytes)


async def test_slow_frames_keep_their_tracks(
    served: Served, gate: GatedAnalysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.release()
    real = FrameQueue.add

    def add(self: FrameQueue, data: bytes, now: float) -> Frame:
        return real(self, data, now + 1.15 * self.received)

    monkeypatch.setattr(FrameQueue, "add", add)
    async with served.client() as client:
        await client.created()
        for _ in range(4):
            await client.send(b"one")
            reply = await client.receive()
            assert [face["track_id"] for face in reply["faces"]] == [1]


async def _send(client: Client, count: int, *, size: int = 1) -> None:
    for _ in range(count):
        await client.send(b"x" * size)
