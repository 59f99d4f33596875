"""The thread of a slot: runs calls from one event loop, one at a time."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

Argument = TypeVar("Argument")
Outcome = TypeVar("Outcome")

Taker: TypeAlias = Callable[[Callable[[], Outcome]], None]
_Call: TypeAlias = tuple[Argument, Taker[Outcome], asyncio.AbstractEventLoop]


class SlotThread(Generic[Argument, Outcome]):
    """Runs a function on a thread of its own.

    The way there and back takes 0.09 ms where `ThreadPoolExecutor`, which is made for more, takes
    0.2 (`benchmarks/threads.py`), and a request of 8 ms goes it at least once. The thread lives
    until `end` is called, at the latest when the process ends, which waits for the present call.
    """

    def __init__(self, function: Callable[[Argument], Outcome], *, name: str) -> None:
        self._function = function
        self._calls: SimpleQueue[_Call[Argument, Outcome] | None] = SimpleQueue()
        # The process would wait for any other thread before `_end_all` can end it.
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        _living.add(self)

    def call(self, argument: Argument, take: Taker[Outcome]) -> None:
        """Have the function called with `argument`, and `take` on the event loop with its outcome.

        The outcome is a function that gives what the call gave, or raises what it raised.
        """
        self._calls.put((argument, take, asyncio.get_running_loop()))

    def end(self) -> None:
        """Let the thread end after the present call; may be called from any thread."""
        self._calls.put(None)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _serve(self) -> None:
        while call := self._calls.get():
            self._run(*call)
        _living.discard(self)

    def _run(
        self, argument: Argument, take: Taker[Outcome], loop: asyncio.AbstractEventLoop
    ) -> None:
        outcome: Callable[[], Outcome]
        try:
            outcome = partial(_given, self._function(argument))
        except BaseException as error:
            outcome = partial(_raise, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(take, outcome)


_living: set[SlotThread[Any, Any]] = set()


@atexit.register
def _end_all() -> None:
    # A process that ends must not cut a run off within native code.
    threads = list(_living)
    for thread in threads:
        thread.end()
    for thread in threads:
        thread.join()


def _given(outcome: Outcome) -> Outcome:
    return outcome


def _raise(error: BaseException) -> NoReturn:
    raise error
