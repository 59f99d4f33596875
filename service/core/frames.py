"""The frames of one stream that are owed a reply: a bounded number, answered in order.

Touched only by the event loop. Frames wait, are begun, get an outcome, and are answered in the
order in which they came, whatever the order of their outcomes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from service.types import Result

DropPolicy = Literal["latest", "block"]

_MAX_OWED = 1024
"""Replies owed at a time, for dropped frames too, of which nothing else is kept."""

Outcome = Result | Exception | None
"""What came of a frame; None when it was dropped for a newer one."""


@dataclass(slots=True, eq=False)
class Frame:
    """One frame of a stream."""

    number: int
    data: bytes
    arrived_at: float
    """`loop.time()`."""
    begun: bool = False
    outcome: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, outcome: Outcome) -> None:
        """It is known what came of it; its bytes are let go."""
        self.data = b""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class FrameQueue:
    """Holds at most `max_in_flight` frames, waiting or begun, until they are answered.

    `block` makes the reader wait for room. `latest` keeps one place for the newest frame: a newer
    one drops it, so what is analysed next is never old.
    """

    def __init__(self, policy: DropPolicy, max_in_flight: int) -> None:
        self.received = 0
        self._owed: deque[Frame] = deque()
        self._waiting: deque[Frame] = deque()
        self._begun = 0
        self._finished = False
        self._changed = asyncio.Event()
        self.configure(policy, max_in_flight)

    def configure(self, policy: DropPolicy, max_in_flight: int) -> None:
        """Set the policy; before the first frame."""
        self._latest = policy == "latest"
        self._places = max_in_flight - 1 if self._latest else max_in_flight
        self._most_owed = _MAX_OWED if self._latest else max_in_flight

    async def room(self) -> None:
        """Wait until one more frame may be added."""
        await self._until(lambda: len(self._owed) < self._most_owed)

    def add(self, data: bytes, now: float) -> Frame:
        """Take a frame; with `latest` it takes the place of the one that waits."""
        frame = self._owe(data, now)
        if self._latest and self._waiting:
            self._waiting.pop().settle(None)
        self._waiting.append(frame)
        return frame

    def refuse(self, error: Exception, now: float) -> None:
        """Count a frame that is not kept, but answered with `error`."""
        self._owe(b"", now).settle(error)

    async def ready(self) -> None:
        """Wait until a frame may begin."""
        await self._until(lambda: bool(self._waiting) and self._begun < self._places)

    def begin(self) -> Frame:
        """The frame whose turn it is; call it only after `ready`."""
        frame = self._waiting.popleft()
        frame.begun = True
        self._begun += 1
        return frame

    async def next_outcome(self) -> tuple[Frame, Outcome] | None:
        """The oldest frame that was not answered, once it has an outcome; None at the end."""
        await self._until(lambda: bool(self._owed) or self._finished)
        if not self._owed:
            return None
        return self._owed[0], await self._owed[0].outcome

    def answered(self) -> None:
        """The oldest frame has its reply, and its place is free."""
        self._begun -= self._owed.popleft().begun
        self._changed.set()

    def finish(self) -> None:
        """No frame will come any more."""
        self._finished = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody waits for a reply any more."""
        for frame in self._owed:
            frame.outcome.cancel()
            frame.data = b""

    def _owe(self, data: bytes, now: float) -> Frame:
        frame = Frame(self.received, data, now)
        self.received += 1
        self._owed.append(frame)
        self._changed.set()
        return frame

    async def _until(self, condition: Callable[[], bool]) -> None:
        # Each waiter clears before it waits: whoever sets, wakes all, and each looks again.
        while not condition():
            self._changed.clear()
            await self._changed.wait()
