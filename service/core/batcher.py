"""Cross-request batching: admission, slots, deadlines, isolation. Knows neither ONNX nor HTTP.

A deque and a list of idle slots, touched only by the event loop: no locks, no timers, no tasks. A
slot that is idle takes what is there at once; while all slots are busy, the queue is the batching
window. A fixed wait was measured worse at every rate (`benchmarks/batching.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from service.core.ports import Runner
from service.core.slot import SlotThread
from service.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidItem,
    MienError,
    NotReady,
    Overloaded,
    ServiceClosed,
)

Item = TypeVar("Item")
Output = TypeVar("Output")

_RETRY_AFTER_S = (1.0, 60.0)


class BatchObserver(Protocol):
    """Told of what the batcher does; called on the event loop."""

    def queued(self, name: str, depth: int) -> None:
        """The queue now holds `depth` items."""
        ...

    def ran(self, name: str, size: int, seconds: float) -> None:
        """A run over `size` items took `seconds`."""
        ...


@dataclass(frozen=True, slots=True)
class Served(Generic[Output]):
    """One item's output, with the seconds that it waited and that its run took."""

    output: Output
    queue_s: float
    run_s: float


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Output]):
    item: Item
    future: asyncio.Future[Served[Output]]
    deadline: float | None
    cost: float
    queued_at: float = field(default_factory=perf_counter)

    def resolve(self, served: Served[Output]) -> None:
        if not self.future.done():
            self.future.set_result(served)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class _Slot(Generic[Item, Output]):
    thread: SlotThread[Sequence[Item], list[Output]]
    batch: list[_Entry[Item, Output]] = field(default_factory=list)
    """What is being run."""
    begun_at: float = 0.0
    again: list[list[_Entry[Item, Output]]] = field(default_factory=list)
    """Parts of a batch with an item at fault, which come before anything new; the last first."""


class Batcher(Generic[Item, Output]):
    """Gathers items of many callers into runs of at most `max_batch_size`.

    Use it from one event loop only.
    """

    def __init__(
        self,
        runner: Runner[Item, Output],
        *,
        name: str,
        slots: int,
        max_batch_size: int,
        max_pending: int,
        observer: BatchObserver,
        cost: Callable[[Item], float] | None = None,
    ) -> None:
        """Make a batcher; it serves once `start` was called.

        Args:
            runner: does the work, on one of `slots` threads.
            name: for metrics and messages.
            slots: runs at a time.
            max_batch_size: items a run takes at most.
            max_pending: items that may wait; more are refused as `Overloaded`.
            observer: told of every change.
            cost: of an item in time, against other items. Where it is given, items that would end
                after their deadline, at the pace of the latest runs, are refused as `Overloaded`.
        """
        self.name = name
        self._runner = runner
        self._count = slots
        self._max_batch_size = max_batch_size
        self._max_pending = max_pending
        self._observer = observer
        self._cost = cost
        self._queue: deque[_Entry[Item, Output]] = deque()
        self._slots: list[_Slot[Item, Output]] = []
        self._idle: list[_Slot[Item, Output]] = []
        self._due = False  # whether idle slots are about to look at the queue
        self._rested = asyncio.Event()
        self._owed = 0.0  # cost of what somebody waits for, in the queue or in a run
        self._ran_s = self._ran_cost = 0.0  # of the latest runs, older ones by ever less
        self._closed = True
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why this batcher can serve no more; None while it can."""
        return self._failure

    @property
    def waiting(self) -> int:
        """Items in the queue; may be asked from any thread."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to serve; called once, on the event loop.

        Raises:
            RuntimeError: the system gives no more threads.
        """
        try:
            for number in range(self._count):
                thread = SlotThread(self._call, name=f"mien-{self.name}-{number}")
                self._slots.append(_Slot(thread))
        except RuntimeError:
            self.stop()
            raise
        self._idle = self._slots.copy()
        self._closed = False

    def check_open(self) -> None:
        """Find out whether work is taken.

        Raises:
            NotReady: it has failed.
            ServiceClosed: not started, draining or stopped.
        """
        if self._failure:
            raise NotReady(f"not ready: {self._failure}", retry_after_s=_RETRY_AFTER_S[0])
        if self._closed:
            raise ServiceClosed(f"{self.name} takes no more work", retry_after_s=_RETRY_AFTER_S[0])

    def submit(
        self, items: Sequence[Item], *, deadline: float | None = None
    ) -> list[asyncio.Future[Served[Output]]]:
        """Admit all of `items` or none; synchronous, so nothing can come in between.

        Args:
            items: what one caller wants run.
            deadline: `loop.time()` after which the items must not be run any more.

        Returns:
            A future per item. Cancelling one takes its item out, unless it is being run.

        Raises:
            Unavailable: as `check_open`.
            Overloaded: no room for all of them, or no time.
        """
        self.check_open()
        self._make_room(len(items))
        loop = asyncio.get_running_loop()
        costs = [self._cost(item) if self._cost else 1.0 for item in items]
        self._check_time(sum(costs), deadline)
        entries = [
            _Entry(item, loop.create_future(), deadline, cost)
            for item, cost in zip(items, costs, strict=True)
        ]
        if self._cost:
            self._owe(entries)
        if entries:
            self._queue.extend(entries)
            if self._idle and not self._due:
                # Not at once: what else is admitted in this turn of the loop goes along.
                self._due = True
                loop.call_soon(self._begin)
            self._observer.queued(self.name, len(self._queue))
        return [entry.future for entry in entries]

    def run_if_idle(self, items: Sequence[Item]) -> list[Served[Output]] | None:
        """Run items on the calling thread, past the queue; None where they belong into it.

        For a thread that holds a slot of another batcher: the way to a thread of this one and back
        is saved. The run is not held against the slots here, and `note` has to be called of it on
        the loop. Its caller waits for the items: they have no deadline of their own.

        Raises:
            MienError: the run failed.
        """
        if self._closed or self._queue or not self._idle:
            return None
        if not 0 < len(items) <= min(self._max_batch_size, self._max_pending):
            return None
        started = perf_counter()
        outputs = self._call(items)
        run_s = perf_counter() - started
        return [Served(output, 0.0, run_s) for output in outputs]

    def note(self, size: int, run_s: float, *, cost: float | None = None) -> None:
        """Count a run of `size` items; their cost is 1 each, if it is not given."""
        self._observer.ran(self.name, size, run_s)
        # Summed apart, so that a long run counts for more than a short one.
        self._ran_s = 0.8 * self._ran_s + run_s
        self._ran_cost = 0.8 * self._ran_cost + (size if cost is None else cost)

    async def close(self, *, drain_s: float) -> None:
        """Take no more work, let what waits be run for up to `drain_s`, then fail the rest."""
        self._closed = True
        try:
            async with asyncio.timeout(drain_s):
                while self._queue or len(self._idle) < len(self._slots):
                    self._rested.clear()
                    await self._rested.wait()
        except TimeoutError:
            pass
        finally:
            self.stop()

    def stop(self) -> None:
        """Take no more work, and fail what waits or is run."""
        self._closed = True
        for slot in self._slots:
            self._fail_slot(slot, ServiceClosed("stopped during the run", retry_after_s=1.0))
            slot.thread.end()
        self._slots, self._idle = [], []
        self._fail_pending(
            ServiceClosed(f"{self.name} was stopped", retry_after_s=_RETRY_AFTER_S[0])
        )

    def retry_after_s(self) -> float:
        """Seconds until the present queue is worked off, from the pace of the latest runs."""
        return _retry_after(self._needed_s(sum(entry.cost for entry in self._queue)))

    def _needed_s(self, cost: float) -> float:
        return cost * self._ran_s / self._ran_cost / self._count if self._ran_cost else 0.0

    def _make_room(self, count: int) -> None:
        if len(self._queue) + count > self._max_pending:
            # Entries whose caller has gone still stand in the queue until a slot reaches them.
            self._queue = deque(self._wanted(self._queue))
            self._observer.queued(self.name, len(self._queue))
        if len(self._queue) + count > self._max_pending:
            raise Overloaded(
                f"{self.name} has {len(self._queue)} items waiting and room for "
                f"{self._max_pending}; {count} more do not fit",
                retry_after_s=self.retry_after_s(),
            )

    def _check_time(self, cost: float, deadline: float | None) -> None:
        # While nothing runs all are let in: a pace that was once too slow must be found wrong.
        if self._cost is None or deadline is None or len(self._idle) == len(self._slots):
            return
        needed_s = self._needed_s(self._owed + cost)
        left_s = deadline - asyncio.get_running_loop().time()
        if 0 < left_s < needed_s:  # without any time left it is the caller's deadline that is told
            raise Overloaded(
                f"{self.name} would be done with this in {needed_s:.1f} s, of which the caller "
                f"has {left_s:.1f} s",
                retry_after_s=_retry_after(needed_s - left_s),
            )

    def _owe(self, entries: Sequence[_Entry[Item, Output]]) -> None:
        def paid(_: object, cost: float) -> None:
            self._owed -= cost

        for entry in entries:
            self._owed += entry.cost
            entry.future.add_done_callback(partial(paid, cost=entry.cost))

    def _begin(self) -> None:
        self._due = False
        while self._queue and self._idle:
            self._go_on(self._idle.pop())

    def _go_on(self, slot: _Slot[Item, Output]) -> None:
        """Have a slot that runs nothing run what comes next; it is idle if nothing does."""
        try:
            while slot.again or self._queue:
                slot.batch = self._wanted(slot.again.pop()) if slot.again else self._take()
                self._observer.queued(self.name, len(self._queue))
                if slot.batch:
                    self._run(slot)
                    return
        except Exception as error:
            self._break(slot, error)
        else:
            self._idle.append(slot)
            self._rested.set()

    def _run(self, slot: _Slot[Item, Output]) -> None:
        slot.begun_at = perf_counter()
        slot.thread.call(tuple(entry.item for entry in slot.batch), partial(self._ended, slot))

    def _ended(self, slot: _Slot[Item, Output], outcome: Callable[[], list[Output]]) -> None:
        if not slot.batch:
            return  # it was stopped during the run
        try:
            try:
                self._give(slot, outcome())
            except InvalidItem as error:
                self._isolate(slot, error)
            except MienError as error:
                self._fail(slot.batch, error)
        except Exception as error:
            self._break(slot, error)
        else:
            slot.batch = []
            self._go_on(slot)

    def _give(self, slot: _Slot[Item, Output], outputs: list[Output]) -> None:
        run_s = perf_counter() - slot.begun_at
        self.note(len(slot.batch), run_s, cost=sum(entry.cost for entry in slot.batch))
        for entry, output in zip(slot.batch, outputs, strict=True):
            entry.resolve(Served(output, slot.begun_at - entry.queued_at, run_s))

    def _isolate(self, slot: _Slot[Item, Output], error: InvalidItem) -> None:
        """Find the item at fault by halves; the others are still answered."""
        if len(slot.batch) == 1:
            slot.batch[0].fail(error)
            return
        middle = len(slot.batch) // 2
        slot.again += [slot.batch[middle:], slot.batch[:middle]]

    def _take(self) -> list[_Entry[Item, Output]]:
        batch: list[_Entry[Item, Output]] = []
        while self._queue and len(batch) < self._max_batch_size:
            batch += self._wanted([self._queue.popleft()])
        return batch

    def _wanted(self, entries: Iterable[_Entry[Item, Output]]) -> list[_Entry[Item, Output]]:
        """Those that somebody still waits for; one that is past its deadline fails."""
        now = asyncio.get_running_loop().time()
        wanted = []
        for entry in entries:
            if entry.deadline is not None and now >= entry.deadline:
                entry.fail(DeadlineExceeded(f"waited too long for {self.name}; it was not run"))
            if not entry.future.done():
                wanted.append(entry)
        return wanted

    def _call(self, items: Sequence[Item]) -> list[Output]:
        """Run on a worker thread; whatever the runner does ends in outputs or in a `MienError`.

        A SystemExit that were raised again on the event loop would end it.
        """
        try:
            outputs = list(self._runner.run(items))
        except MienError:
            raise
        except BaseException as error:
            raise InferenceError(f"a run of {self.name} failed") from error
        if len(outputs) != len(items):
            raise InferenceError(f"{self.name} gave {len(outputs)} outputs for {len(items)} items")
        return outputs

    def _fail(self, entries: Sequence[_Entry[Item, Output]], error: Exception) -> None:
        if not isinstance(error, MienError):
            cause, error = error, InferenceError(f"a run of {self.name} failed")
            error.__cause__ = cause
        for entry in entries:
            entry.fail(error)

    def _fail_pending(self, error: Exception) -> None:
        entries, self._queue = list(self._queue), deque()
        self._fail(entries, error)
        self._observer.queued(self.name, 0)

    def _fail_slot(self, slot: _Slot[Item, Output], error: Exception) -> None:
        for entries in (slot.batch, *slot.again):
            self._fail(entries, error)
        slot.batch, slot.again = [], []

    def _break(self, slot: _Slot[Item, Output], error: Exception) -> None:
        # The cause is for the log: `failure` is shown to clients.
        self._failure = f"a worker of {self.name} ended unexpectedly"
        self._closed = True
        self._slots.remove(slot)
        slot.thread.end()
        self._rested.set()
        asyncio.get_running_loop().call_exception_handler(
            {"message": self._failure, "exception": error}
        )
        self._fail_slot(slot, error)
        self._fail_pending(InferenceError(self._failure))


def _retry_after(estimate_s: float) -> float:
    shortest, longest = _RETRY_AFTER_S
    return min(max(estimate_s, shortest), longest)
