from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.core.slot import SlotThread
from tests.fakes import settle


async def test_the_outcome_is_given_on_the_loop_before_the_slot_goes_on() -> None:
    order: list[str] = []
    thread: SlotThread[int, str] = SlotThread(lambda n: f"{n} on {_name()}", name="slot")
    future = thread.call(7, lambda outcome: order.append(f"{outcome}, given on {_name()}"))
    future.add_done_callback(lambda _: order.append("done"))
    await future
    await settle()
    assert order == ["7 on slot, given on MainThread", "done"]
    await ended(thread, "slot")


@pytest.mark.parametrize("where", ["function", "take"])
async def test_what_is_raised_is_the_future_s(where: str) -> None:
    def raising(_: Any) -> None:
        raise ZeroDivisionError(where)

    def fine(_: Any) -> None:
        pass

    functions: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
        "function": (raising, fine),
        "take": (fine, raising),
    }
    function, take = functions[where]
    thread = SlotThread(function, name="raising")
    with pytest.raises(ZeroDivisionError, match=where):
        await thread.call(1, take)
    await ended(thread, "raising")


async def test_a_cancelled_call_is_finished_and_given_all_the_same() -> None:
    gate, given = threading.Event(), asyncio.Event()
    thread: SlotThread[None, bool] = SlotThread(lambda _: gate.wait(10), name="cancelled")
    future = thread.call(None, lambda _: given.set())
    future.cancel()
    gate.set()
    await asyncio.wait_for(given.wait(), 10)
    await ended(thread, "cancelled")


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
