from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import Request

from service.api.problems import ClientGone
from service.api.waiting import InTime, WhileConnected
from service.errors import DeadlineExceeded


def now() -> float:
    return asyncio.get_running_loop().time()


def request_of(receive: Callable[[], Awaitable[Any]]) -> Request:
    return Request({"type": "http"}, receive)


def pass_over(moment: float) -> None:
    """Let timers that are due about then be due in one turn of the loop."""
    time.sleep(moment + 0.01 - now())


async def gone() -> dict[str, str]:
    return {"type": "http.disconnect"}


async def silent() -> dict[str, str]:
    await asyncio.sleep(3600)
    raise AssertionError


async def still_running() -> None:
    """A task that is about to be cancelled would notice here."""
    await asyncio.sleep(0.05)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_takes_too_long_is_cancelled() -> None:
    with pytest.raises(DeadlineExceeded), InTime(now() + 0.01):
        await asyncio.sleep(3600)
    await still_running()


async def test_a_time_that_has_passed() -> None:
    with pytest.raises(DeadlineExceeded), InTime(now() - 1):
        await asyncio.sleep(3600)
    await still_running()


async def test_what_ends_in_time_is_left_alone() -> None:
    with InTime(now() + 0.02), WhileConnected(request_of(silent)):
        await asyncio.sleep(0)
    await still_running()


@pytest.mark.parametrize("limit", ["late", "gone"])
async def test_what_was_in_work_is_let_go_at_once(limit: str) -> None:
    class Photo:
        """Many bytes."""

    async def work() -> weakref.ref[Photo]:
        data = Photo()
        held.append(weakref.ref(data))
        with InTime(now()) if limit == "late" else WhileConnected(request_of(gone)):
            await asyncio.sleep(3600)
        raise AssertionError

    held: list[weakref.ref[Photo]] = []
    gc.disable()
    try:
        with pytest.raises((DeadlineExceeded, ClientGone)):
            await asyncio.create_task(work())
        await asyncio.sleep(0)
        assert held[0]() is None
    finally:
        gc.enable()


async def test_an_error_of_the_block_stays() -> None:
    with pytest.raises(ZeroDivisionError), InTime(now() + 0.02):
        raise ZeroDivisionError
    await still_running()


async def test_work_for_a_client_that_has_gone_is_cancelled() -> None:
    with pytest.raises(ClientGone), InTime(now() + 3600), WhileConnected(request_of(gone)):
        await asyncio.sleep(3600)
    await still_running()


async def test_the_time_is_up_while_the_client_is_watched() -> None:
    limits = InTime(now() + 0.05), WhileConnected(request_of(silent))
    with pytest.raises(DeadlineExceeded), limits[0], limits[1]:
        await asyncio.sleep(3600)
    await still_running()


async def test_two_ends_in_one_turn_of_the_loop_are_one_error() -> None:
    async def wait() -> None:
        until = now() + 0.001
        with InTime(until), InTime(until):
            pass_over(until)
            await asyncio.sleep(3600)

    with pytest.raises(DeadlineExceeded):
        await wait()
    await still_running()


@pytest.mark.parametrize("until_s", [0.001, 3600])
async def test_a_cancellation_by_others_stays_one(until_s: float) -> None:
    async def wait() -> None:
        soon = now() + 0.001
        with InTime(now() + until_s):
            asyncio.get_running_loop().call_at(soon, task.cancel)
            pass_over(soon)
            await asyncio.sleep(3600)

    task = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await task
