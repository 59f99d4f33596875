from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.core.slot import SlotThread

Outcomes = asyncio.Queue[Callable[[], Any]]


async def test_the_outcome_is_given_on_the_loop() -> None:
    given: Outcomes = asyncio.Queue()
    taken_on: list[str] = []

    def take(outcome: Callable[[], Any]) -> None:
        taken_on.append(_name())
        given.put_nowait(outcome)

    thread: SlotThread[int, str] = SlotThread(lambda n: f"{n} on {_name()}", name="slot")
    thread.call(7, take)
    assert (await asyncio.wait_for(given.get(), 10))() == "7 on slot"
    assert taken_on == ["MainThread"]
    await ended(thread, "slot")


async def test_what_is_raised_is_the_outcome() -> None:
    def raising(argument: str) -> None:
        raise SystemExit(argument)

    given: Outcomes = asyncio.Queue()
    thread = SlotThread(raising, name="raising")
    for argument in ("first", "second"):  # the thread outlives it
        thread.call(argument, given.put_nowait)
        outcome = await asyncio.wait_for(given.get(), 10)
        with pytest.raises(SystemExit, match=argument):
            outcome()
    await ended(thread, "raising")


def test_a_loop_that_is_closed_is_no_fault() -> None:
    gate = threading.Event()
    thread: SlotThread[None, bool] = SlotThread(lambda _: gate.wait(10), name="orphan")

    async def leave() -> None:
        thread.call(None, lambda _: None)

    asyncio.run(leave())
    thread.end()
    gate.set()
    for running in threading.enumerate():
        if running.name == "orphan":
            running.join(10)
            assert not running.is_alive()


async def ended(thread: SlotThread[Any, Any], name: str) -> None:
    thread.end()
    for running in [each for each in threading.enumerate() if each.name == name]:
        await asyncio.to_thread(running.join, 10)
        assert not running.is_alive()


def _name() -> str:
    return threading.current_thread().name
