"""The thread of a slot: runs calls for one coroutine, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeAlias, TypeVar

Argument = TypeVar("Argument")
Outcome = TypeVar("Outcome")

Taker: TypeAlias = Callable[[Outcome], None]
_Call: TypeAlias = tuple[Argument, Taker[Outcome], asyncio.Future[None]]


class SlotThread(Generic[Argument, Outcome]):
    """Runs a function on a thread of its own.

    The way there and back takes 0.09 ms where `ThreadPoolExecutor`, which is made for more, takes
    0.2 (`benchmarks/threads.py`), and a request of 8 ms goes it at least once. The thread lives,
    and keeps the process alive, until `end` is called.
    """

    def __init__(self, function: Callable[[Argument], Outcome], *, name: str) -> None:
        self._function = function
        self._calls: SimpleQueue[_Call[Argument, Outcome] | None] = SimpleQueue()
        # No daemon: a process that ends must not cut a run off within native code.
        Thread(target=self._serve, name=name, daemon=False).start()

    def call(self, argument: Argument, take: Taker[Outcome]) -> asyncio.Future[None]:
        """Have the function called with `argument`, and `take` on the event loop with what it gave.

        The future is done after that, so that callers have their outputs before the slot goes on;
        what either of them raised is the future's. Cancelling it cuts neither of them off.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.put((argument, take, future))
        return future

    def end(self) -> None:
        """Let the thread end after the present call; may be called from any thread."""
        self._calls.put(None)

    def _serve(self) -> None:
        while call := self._calls.get():
            self._run(*call)

    def _run(self, argument: Argument, take: Taker[Outcome], future: asyncio.Future[None]) -> None:
        try:
            settle = partial(_settle, future, partial(take, self._function(argument)))
        except BaseException as error:
            settle = partial(_settle, future, partial(_raise, error))
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            future.get_loop().call_soon_threadsafe(settle)


def _settle(future: asyncio.Future[None], take: Callable[[], None]) -> None:
    try:
        take()
    except Exception as error:
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(None)


def _raise(error: BaseException) -> None:
    raise error
