"""How long an answer is worked on: until the client's time is up, or it has gone."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from fastapi import Request

from service.api.problems import ClientGone
from service.errors import DeadlineExceeded, MienError

_UNWATCHED_S = 0.02


class _Waiting(ABC):
    """A block whose task is cancelled when waiting for it makes no sense any more.

    Raises:
        MienError: that says why; a cancellation by others stays one.
    """

    _over: Callable[[], MienError] | None = None

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._begin()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop()
        ours = self._over is not None and self._task.uncancel() <= self._cancelling
        # An error's traceback holds this block. If the block held the error, or the task that may
        # end with it, all that is in those frames, an image too, would wait for the collector.
        del self._task
        if ours and kind is asyncio.CancelledError and self._over is not None:
            raise self._over() from None

    def _end(self, why: Callable[[], MienError]) -> None:
        self._over = why
        self._task.cancel()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...


class InTime(_Waiting):
    """`with`: lasts no longer than until `until`, in `loop.time()`.

    Raises:
        DeadlineExceeded: it took until then.
    """

    def __init__(self, until: float) -> None:
        self._until = until

    def _begin(self) -> None:
        self._timer = self._loop.call_at(self._until, self._late)

    def _stop(self) -> None:
        self._timer.cancel()

    def _late(self) -> None:
        self._end(lambda: DeadlineExceeded("the time for this request was up"))


class WhileConnected(_Waiting):
    """`with`: lasts no longer than the client is there; nobody else may read its body meanwhile.

    Raises:
        ClientGone: it went before the end.
    """

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._watching: asyncio.Task[None] | None = None

    def _begin(self) -> None:
        # Most answers are there before; then nothing has to be watched.
        self._timer = self._loop.call_later(_UNWATCHED_S, self._watch)

    def _stop(self) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()

    def _watch(self) -> None:
        self._watching = self._loop.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end(lambda: ClientGone("the client closed its connection before the answer"))
