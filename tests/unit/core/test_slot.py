from __future__ import annotations

import asyncio
import subprocess
import sys
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
    await ended(thread)


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
    await ended(thread)


def test_a_loop_that_is_closed_is_no_fault() -> None:
    gate = threading.Event()
    thread: SlotThread[None, bool] = SlotThread(lambda _: gate.wait(10), name="orphan")

    async def leave() -> None:
        thread.call(None, lambda _: None)

    asyncio.run(leave())
    gate.set()

    async def come_back() -> bool:
        given: Outcomes = asyncio.Queue()
        thread.call(None, given.put_nowait)
        outcome = await asyncio.wait_for(given.get(), 10)
        await ended(thread)
        return bool(outcome())

    assert asyncio.run(come_back()), "the thread serves the next loop"


def test_a_process_that_ends_waits_for_the_run_and_ends_the_threads() -> None:
    program = """
import asyncio, time
from service.core.slot import SlotThread

def run(text):
    time.sleep(0.3)
    print(text, flush=True)

async def main():
    for name in ("idle", "busy"):
        thread = SlotThread(run, name=name)
    thread.call("done", lambda outcome: None)
    raise SystemExit(7)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (7, "done\n")


async def ended(thread: SlotThread[Any, Any]) -> None:
    thread.end()
    await asyncio.wait_for(asyncio.to_thread(thread.join), 10)


def _name() -> str:
    return threading.current_thread().name
