from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core import frames
from service.core.frames import FrameQueue
from tests.fakes import settle

ERROR = ValueError("bad")


async def test_block_has_room_again_when_one_was_answered() -> None:
    queue = FrameQueue("block", 2)
    queue.add(b"0", 0.0)
    queue.add(b"1", 0.0)
    room = asyncio.create_task(queue.room())
    await queue.ready()
    queue.begin().settle(ERROR)
    await settle()
    assert not room.done()
    pair = await queue.next_outcome()
    assert pair is not None
    assert pair[1] is ERROR
    queue.answered()
    await room


async def test_latest_always_has_room_for_one_that_waits() -> None:
    queue = FrameQueue("latest", 2)
    queue.add(b"0", 0.0)
    await queue.ready()
    begun = queue.begin()
    waiting = [queue.add(b"%d" % index, 0.0) for index in range(1, 5)]
    await queue.room()
    assert [frame.data for frame in waiting] == [b"", b"", b"", b"4"]
    ready = asyncio.create_task(queue.ready())
    await settle()
    assert not ready.done()
    begun.settle(ERROR)
    await queue.next_outcome()
    queue.answered()
    await ready
    assert queue.begin().number == 4


async def test_latest_owes_a_bounded_number_of_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_MAX_OWED", 10)
    queue = FrameQueue("latest", 2)
    for _ in range(10):
        await queue.room()
        queue.add(b"x", 0.0)
    room = asyncio.create_task(queue.room())
    await settle()
    assert not room.done()
    await queue.next_outcome()
    queue.answered()
    await room


async def test_a_refused_frame_is_answered_in_its_turn() -> None:
    queue = FrameQueue("block", 3)
    first = queue.add(b"0", 0.0)
    queue.refuse(ERROR, 0.0)
    queue.finish()
    await queue.ready()
    queue.begin().settle(None)
    assert (await queue.next_outcome()) == (first, None)
    queue.answered()
    pair = await queue.next_outcome()
    assert pair is not None
    assert (pair[0].number, pair[1]) == (1, ERROR)
    queue.answered()
    assert await queue.next_outcome() is None


async def test_what_is_abandoned_keeps_no_bytes() -> None:
    queue = FrameQueue("block", 2)
    frame = queue.add(b"0", 0.0)
    queue.abandon()
    assert frame.outcome.cancelled()
    assert frame.data == b""
    frame.settle(None)


@settings(max_examples=40)
@given(
    st.sampled_from(["latest", "block"]),
    st.integers(2, 5),
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
)
def test_every_frame_has_one_reply_in_order(policy, in_flight: int, steps: list[int]) -> None:
    asyncio.run(_exchange(policy, in_flight, steps))


async def _exchange(policy, in_flight: int, steps: list[int]) -> None:
    queue = FrameQueue(policy, in_flight)
    answered: list[int] = []
    begun = []

    async def work() -> None:
        while True:
            await queue.ready()
            begun.append(queue.begin())

    async def reply() -> None:
        while (pair := await queue.next_outcome()) is not None:
            answered.append(pair[0].number)
            queue.answered()

    working, replying = asyncio.create_task(work()), asyncio.create_task(reply())
    for step in steps:
        await queue.room() if policy == "latest" or len(queue._owed) < in_flight else None
        if len(queue._owed) < in_flight or policy == "latest":
            queue.add(b"x", 0.0)
        await settle()
        held = [frame for frame in queue._owed if frame.data]
        assert len(held) <= in_flight
        if begun and step < 4:
            begun.pop(step % len(begun)).settle(ERROR)  # in any order
    queue.finish()
    while not replying.done():
        await settle()
        while begun:
            begun.pop().settle(ERROR)
    working.cancel()
    assert answered == list(range(queue.received))
