"""The batcher under attack: every submission resolves exactly once, whatever happens.

Time and threads go by hand (`SteppedLoop`) or stand still at a gate
(`GatedRunner`): nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core import batcher as module
from service.core.batcher import Batcher, Served
from service.core.slot import SlotThread
from service.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidImage,
    InvalidItem,
    NotReady,
    Overloaded,
    ServiceClosed,
)
from tests.fakes import (
    GatedRunner,
    HeldCall,
    RecordingObserver,
    ScriptedRunner,
    SteppedLoop,
    refuse,
    settle,
    until,
)

Make = Callable[..., Batcher[Any, Any]]
Complaints = list[dict[str, Any]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make and start batchers; they are closed, and their gates opened, after the test."""
    made: list[Batcher[Any, Any]] = []
    gates: list[GatedRunner] = []

    def make_one(runner: Any, *, start: bool = True, **options: Any) -> Batcher[Any, Any]:
        options = {
            "name": "m",
            "slots": 1,
            "max_batch_size": 4,
            "max_pending": 8,
            "observer": RecordingObserver(),
        } | options
        batcher: Batcher[Any, Any] = Batcher(runner, **options)
        made.append(batcher)
        if isinstance(runner, GatedRunner):
            gates.append(runner)
        if start:
            batcher.start()
        return batcher

    yield make_one
    # What a test has left waiting fails now, and nobody asks for it.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    for gate in gates:
        gate.release()
    for batcher in made:
        await batcher.close(drain_s=0)


@pytest.fixture
async def complaints() -> AsyncIterator[Complaints]:
    """What the event loop found nobody to tell; a test that takes this expects none."""
    heard: Complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    yield heard
    await settle()
    gc.collect()
    await settle()
    assert heard == []


async def outputs(futures: list[asyncio.Future[Served[Any]]]) -> list[Any]:
    return [served.output for served in await asyncio.wait_for(asyncio.gather(*futures), 10)]


async def outcomes(futures: list[asyncio.Future[Served[Any]]]) -> list[Any]:
    """Each future's output, or the class of its error."""
    await asyncio.wait_for(asyncio.wait(futures), 10)
    return [
        asyncio.CancelledError
        if future.cancelled()
        else type(error)
        if (error := future.exception())
        else future.result().output
        for future in futures
    ]


# Batching --------------------------------------------------------------------------------------


async def test_gives_each_caller_its_own_outputs(make: Make, complaints: Complaints) -> None:
    batcher = make(ScriptedRunner(lambda item: item * 10))
    first, second = batcher.submit([1, 2]), batcher.submit([3])
    assert await outputs(first) == [10, 20]
    assert await outputs(second) == [30]


async def test_idle_means_at_once(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate)
    batcher.submit(["a"])
    run = await gate.begun()
    assert run.items == ("a",)


async def test_busy_means_that_the_queue_is_the_batching_window(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=3)
    futures = batcher.submit([0])
    (await gate.begun()).give()
    await outputs(futures)
    for item in range(1, 6):
        futures += batcher.submit([item])
    first = await gate.begun()
    assert first.items == (1, 2, 3)
    first.give()
    second = await gate.begun()
    assert second.items == (4, 5)
    second.give()
    assert await outputs(futures) == [0, 1, 2, 3, 4, 5]


async def test_a_caller_may_have_more_items_than_a_batch(make: Make) -> None:
    runner = ScriptedRunner()
    batcher = make(runner, max_batch_size=3)
    assert await outputs(batcher.submit(range(8))) == list(range(8))
    assert [len(run) for run in runner.runs] == [3, 3, 2]


async def test_slots_run_side_by_side(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, slots=2, max_batch_size=1)
    futures = batcher.submit(["a", "b", "c"])
    first, second = await gate.begun(), await gate.begun()
    assert {*first.items, *second.items} == {"a", "b"}
    second.give()
    third = await gate.begun()
    assert third.items == ("c",)
    third.give()
    first.give()
    assert await outputs(futures) == ["a", "b", "c"]


async def test_nothing_to_run_is_nothing(make: Make) -> None:
    runner = ScriptedRunner()
    assert make(runner).submit([]) == []
    await settle()
    assert runner.runs == []


async def test_tells_how_long_an_item_waited_and_ran(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=1)
    futures = batcher.submit(["a", "b"])
    (await gate.begun()).give()
    (await gate.begun()).give()
    first, second = await asyncio.gather(*futures)
    assert 0 <= first.queue_s < second.queue_s
    assert second.queue_s >= first.queue_s + first.run_s
    assert second.run_s > 0


async def test_tells_its_observer_of_depth_and_runs(make: Make) -> None:
    observer = RecordingObserver()
    batcher = make(ScriptedRunner(), observer=observer, max_batch_size=2)
    await outputs(batcher.submit([1, 2, 3]))
    assert observer.depths[0] == 3
    assert observer.depths[-1] == 0
    assert observer.sizes == [2, 1]
    assert all(seconds > 0 for seconds in observer.seconds)


async def test_a_runner_cannot_reach_the_callers_list(make: Make) -> None:
    class Greedy:
        def run(self, items: Any) -> list[Any]:
            assert isinstance(items, tuple)
            return list(items)

    assert await outputs(make(Greedy()).submit([1, 2])) == [1, 2]


# Admission -------------------------------------------------------------------------------------


async def test_admits_all_or_none(make: Make) -> None:
    gate = GatedRunner()
    observer = RecordingObserver()
    batcher = make(gate, max_pending=3, observer=observer)
    batcher.submit([0])
    await gate.begun()
    batcher.submit([1, 2])
    depth = observer.depths[-1]
    with pytest.raises(Overloaded, match="room for 3") as caught:
        batcher.submit([3, 4])
    assert 1 <= caught.value.retry_after_s <= 60
    assert observer.depths[-1] == depth == 2
    batcher.submit([5])
    gate.runs[0].give()
    assert (await gate.begun()).items == (1, 2, 5)


async def test_what_runs_no_longer_counts_as_pending(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_pending=2, max_batch_size=2)
    batcher.submit([1, 2])
    await gate.begun()
    batcher.submit([3, 4])
    with pytest.raises(Overloaded):
        batcher.submit([5])


async def test_more_than_ever_fits_is_overload_even_when_idle(make: Make) -> None:
    runner = ScriptedRunner()
    batcher = make(runner, max_pending=2)
    with pytest.raises(Overloaded):
        batcher.submit([1, 2, 3])
    assert await outputs(batcher.submit([4])) == [4]
    assert runner.runs == [(4,)]


async def test_cancelled_entries_make_room(make: Make) -> None:
    gate = GatedRunner()
    observer = RecordingObserver()
    batcher = make(gate, max_pending=2, observer=observer)
    batcher.submit([0])
    await gate.begun()
    gone = batcher.submit([1, 2])
    gone[0].cancel()
    with pytest.raises(Overloaded):
        batcher.submit([3, 4])
    assert observer.depths[-1] == 1
    batcher.submit([3])
    gate.runs[0].give()
    assert (await gate.begun()).items == (2, 3)


async def test_expired_entries_make_room(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_pending=2)
    batcher.submit([0])
    await gate.begun()
    late = batcher.submit([1, 2], deadline=asyncio.get_running_loop().time())
    batcher.submit([3, 4])
    assert await outcomes(late) == [DeadlineExceeded, DeadlineExceeded]
    gate.runs[0].give()
    assert (await gate.begun()).items == (3, 4)


async def test_before_start_and_after_close_nothing_is_admitted(make: Make) -> None:
    batcher = make(ScriptedRunner(), start=False)
    with pytest.raises(ServiceClosed):
        batcher.submit([1])
    batcher.start()
    assert await outputs(batcher.submit([1])) == [1]
    await batcher.close(drain_s=1)
    with pytest.raises(ServiceClosed, match="no more work"):
        batcher.submit([1])


async def test_retry_after_follows_the_pace_and_the_queue(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = GatedRunner()
    batcher = make(gate, slots=2, max_batch_size=4, max_pending=100)
    assert batcher.retry_after_s() == 1.0
    with monkeypatch.context() as patch:
        times = iter([0.0, 8.0])
        patch.setattr(module, "perf_counter", lambda: next(times))
        futures = batcher.submit([1, 2, 3, 4])
        (await gate.begun()).give()
        await outputs(futures)
    for _ in range(2):
        batcher.submit([0])
        await gate.begun()
    batcher.submit(range(10))
    assert batcher.retry_after_s() == pytest.approx(10 * 2.0 / 2)
    batcher.submit(range(90))
    assert batcher.retry_after_s() == 60.0


# Time ------------------------------------------------------------------------------------------


async def ran(batcher: Batcher[Any, Any], gate: GatedRunner, items: list[int], s: float) -> None:
    """Have the items run, in one run that seems to take `s` seconds."""
    with pytest.MonkeyPatch.context() as patch:
        times = iter([0.0, s])
        patch.setattr(module, "perf_counter", lambda: next(times))
        futures = batcher.submit(items)
        (await gate.begun()).give()
        await outputs(futures)
        await settle()


def itself(item: int) -> float:
    return item


async def test_work_that_would_end_too_late_is_refused_at_once(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, slots=2, max_batch_size=1, max_pending=100, cost=itself)
    await ran(batcher, gate, [10], 20.0)  # two seconds for each unit of cost
    now = asyncio.get_running_loop().time()
    first = batcher.submit([3000], deadline=now + 600)  # nothing runs: it is tried
    run = await gate.begun()
    with pytest.raises(Overloaded, match=r"done with this in 30\d\d\.0 s, .* has \d+\.") as got:
        batcher.submit([50], deadline=now + 600)
    assert got.value.retry_after_s == 60.0
    later = batcher.submit([50], deadline=now + 6000)
    anyhow = batcher.submit([50])
    late = batcher.submit([50], deadline=now - 1)
    first[0].cancel()  # nobody waits for it any more
    await settle()
    in_time = batcher.submit([50], deadline=now + 600)
    for _ in range(3):
        (await gate.begun()).give()
    run.give()
    assert await outcomes([*later, *anyhow, *late, *in_time]) == [50, 50, DeadlineExceeded, 50]
    await settle()
    assert batcher._owed == 0


async def test_without_costs_time_is_no_reason_to_refuse(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=1)
    await ran(batcher, gate, [1], 2000.0)
    deadline = asyncio.get_running_loop().time() + 600
    futures = batcher.submit([1, 2], deadline=deadline)
    run = await gate.begun()
    futures += batcher.submit([3], deadline=deadline)
    run.give()
    for _ in range(2):
        (await gate.begun()).give()
    assert await outputs(futures) == [1, 2, 3]


async def test_a_long_run_tells_more_of_the_pace_than_a_short_one(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_pending=1000, cost=itself)
    await ran(batcher, gate, [1], 10.0)  # something was loaded
    await ran(batcher, gate, [99], 2.0)
    assert batcher._needed_s(99.8) == pytest.approx(0.8 * 10 + 2)


# Cancellation ----------------------------------------------------------------------------------


async def test_cancelled_before_its_run_it_is_not_run(make: Make, complaints: Complaints) -> None:
    gate = GatedRunner()
    batcher = make(gate)
    first = batcher.submit(["a"])
    run = await gate.begun()
    waiting = batcher.submit(["b", "c"])
    waiting[0].cancel()
    run.give()
    second = await gate.begun()
    assert second.items == ("c",)
    second.give()
    assert await outcomes(first + waiting) == ["a", asyncio.CancelledError, "c"]


async def test_all_cancelled_leaves_no_run_and_a_live_slot(
    make: Make, complaints: Complaints
) -> None:
    gate = GatedRunner()
    batcher = make(gate)
    batcher.submit([0])
    run = await gate.begun()
    for future in batcher.submit([1, 2]):
        future.cancel()
    run.give()
    await settle()
    batcher.submit([3])
    assert (await gate.begun()).items == (3,)


@pytest.mark.parametrize("outcome", ["result", "error", "invalid"])
async def test_cancelled_during_its_run_the_loop_lives_on(
    make: Make, complaints: Complaints, outcome: str
) -> None:
    gate = GatedRunner()
    batcher = make(gate)
    futures = batcher.submit(["a", "b"])
    run = await gate.begun()
    futures[0].cancel()
    if outcome == "result":
        run.give()
        assert await outcomes(futures) == [asyncio.CancelledError, "b"]
    elif outcome == "error":
        run.fail(RuntimeError())
        assert await outcomes(futures) == [asyncio.CancelledError, InferenceError]
    else:
        run.fail(InvalidItem())
        again = await gate.begun()
        assert again.items == ("b",), "a cancelled item must not be run again"
        again.give()
        assert await outcomes(futures) == [asyncio.CancelledError, "b"]
    assert batcher.failure is None
    after = batcher.submit(["c"])
    (await gate.begun()).give()
    assert await outputs(after) == ["c"]


async def test_a_run_that_nobody_waits_for_any_more_is_finished_and_dropped(
    make: Make, complaints: Complaints
) -> None:
    gate = GatedRunner()
    observer = RecordingObserver()
    batcher = make(gate, observer=observer)
    futures = batcher.submit([1, 2])
    run = await gate.begun()
    for future in futures:
        future.cancel()
    run.give()
    after = batcher.submit([3])
    (await gate.begun()).give()
    assert await outputs(after) == [3]
    assert observer.sizes == [2, 1]


# Deadlines -------------------------------------------------------------------------------------


async def test_a_deadline_that_has_passed_is_not_run(make: Make, complaints: Complaints) -> None:
    runner = ScriptedRunner()
    batcher = make(runner)
    now = asyncio.get_running_loop().time()
    late = batcher.submit([1, 2], deadline=now)
    good = batcher.submit([3], deadline=now + 3600)
    assert await outcomes(late + good) == [DeadlineExceeded, DeadlineExceeded, 3]
    assert runner.runs == [(3,)]


def stepped(slots: int, answer: Callable[[Any], Any]) -> tuple[Batcher[Any, Any], ScriptedRunner]:
    runner = ScriptedRunner(answer)
    batcher: Batcher[Any, Any] = Batcher(
        runner,
        name="m",
        slots=slots,
        max_batch_size=4,
        max_pending=8,
        observer=RecordingObserver(),
    )
    batcher.start()
    return batcher, runner


async def step_all(loop: SteppedLoop) -> None:
    while loop.threads.calls:
        loop.threads.calls.popleft().step()
        await settle()


def run_stepped(scenario: Callable[[SteppedLoop], Coroutine[Any, Any, None]]) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        asyncio.Runner(loop_factory=SteppedLoop) as runner,
    ):
        loop = runner.get_loop()
        assert isinstance(loop, SteppedLoop)
        patch.setattr(module, "SlotThread", loop.threads.make)
        runner.run(scenario(loop))


def test_a_deadline_does_not_interrupt_a_run() -> None:
    async def scenario(loop: SteppedLoop) -> None:
        batcher, _ = stepped(1, lambda item: item)
        futures = batcher.submit(["a"], deadline=loop.now + 5)
        await settle()
        loop.now += 10
        await step_all(loop)
        assert await outputs(futures) == ["a"]
        await batcher.close(drain_s=0)

    run_stepped(scenario)


def test_a_deadline_counts_for_what_is_run_again_by_halves() -> None:
    async def scenario(loop: SteppedLoop) -> None:
        batcher, runner = stepped(1, refuse("bad"))
        futures = batcher.submit(["bad", "b"], deadline=loop.now + 5)
        futures += batcher.submit(["c", "d"])
        await settle()
        loop.now += 10
        await step_all(loop)
        assert await outcomes(futures) == [DeadlineExceeded, DeadlineExceeded, "c", "d"]
        assert runner.runs == [("bad", "b", "c", "d"), ("c", "d")]
        await batcher.close(drain_s=0)

    run_stepped(scenario)


# Isolation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [{0}, {3}, {7}, {0, 7}, {2, 3, 4}, set(range(8))])
async def test_only_the_items_at_fault_fail(
    make: Make, complaints: Complaints, poison: set[int]
) -> None:
    gate = GatedRunner()
    runner = ScriptedRunner(refuse(*poison))
    batcher = make(runner, max_batch_size=8)
    found = await outcomes(batcher.submit(range(8)))
    assert found == [InvalidItem if item in poison else item for item in range(8)]
    assert len(runner.runs) <= 2 * 8 - 1
    assert await outputs(batcher.submit(["after"])) == ["after"]
    gate.release()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("broken"),
        MemoryError(),
        StopIteration(),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
        concurrent.futures.TimeoutError(),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__qualname__,
)
async def test_any_other_error_fails_that_run_alone(
    make: Make, complaints: Complaints, error: BaseException
) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=2)
    futures = batcher.submit([1, 2, 3])
    (await gate.begun()).fail(error)
    second = await gate.begun()
    assert second.items == (3,)
    second.give()
    assert await outcomes(futures) == [InferenceError, InferenceError, 3]
    assert futures[0].exception().__cause__ is error  # type: ignore[union-attr]
    assert str(futures[0].exception()) == "a run of m failed", "the cause stays inside"
    assert batcher.failure is None


async def test_our_own_errors_reach_the_caller_as_they_are(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate)
    futures = batcher.submit([1])
    error = InvalidImage("truncated")
    (await gate.begun()).fail(error)
    await outcomes(futures)
    assert futures[0].exception() is error


@pytest.mark.parametrize("answer", [[], [1], [1, 2, 3], None, 7])
async def test_a_wrong_number_of_outputs_fails_the_run(
    make: Make, complaints: Complaints, answer: Any
) -> None:
    class Wrong:
        def run(self, items: Any) -> Any:
            return [*items] if "good" in items else answer

    batcher = make(Wrong())
    assert await outcomes(batcher.submit([1, 2])) == [InferenceError, InferenceError]
    assert await outputs(batcher.submit(["good"])) == ["good"]
    assert batcher.failure is None


# A worker's death ------------------------------------------------------------------------------


class Fragile(RecordingObserver):
    """An observer that breaks when it is told to: the only way to break a worker."""

    broken_by: str = ""

    def queued(self, name: str, depth: int) -> None:
        if self.broken_by == f"queued {depth}":
            self.broken_by = ""
            raise ZeroDivisionError
        super().queued(name, depth)

    def ran(self, name: str, size: int, seconds: float) -> None:
        if self.broken_by == "ran":
            raise ZeroDivisionError
        super().ran(name, size, seconds)


@pytest.mark.parametrize("broken_by", ["ran", "queued 1"])
async def test_a_dead_worker_fails_all_pending(make: Make, broken_by: str) -> None:
    heard: Complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    gate = GatedRunner()
    observer = Fragile()
    batcher = make(gate, observer=observer, max_batch_size=2)
    observer.broken_by = broken_by
    futures = batcher.submit([1, 2, 3])
    if broken_by == "ran":
        (await gate.begun()).give()
    assert await outcomes(futures) == [InferenceError] * 3
    assert batcher.failure == "a worker of m ended unexpectedly"
    assert observer.depths[-1] == 0
    with pytest.raises(NotReady, match="ended unexpectedly"):
        batcher.submit([4])
    assert [type(context["exception"]) for context in heard] == [ZeroDivisionError]


async def test_what_another_slot_runs_survives_a_dead_worker(make: Make) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    gate = GatedRunner()
    observer = Fragile()
    batcher = make(gate, observer=observer, slots=2, max_batch_size=1)
    futures = batcher.submit([1, 2, 3])
    # Each slot has its own thread: either may begin first.
    begun = [await gate.begun(), await gate.begun()]
    first, second = sorted(begun, key=lambda run: run.items)
    observer.broken_by = "ran"
    first.give()
    assert await outcomes([futures[0], futures[2]]) == [InferenceError, InferenceError]
    observer.broken_by = ""
    second.give()
    assert await outputs([futures[1]]) == [2]
    await batcher.close(drain_s=1)
    assert batcher.failure is not None


async def test_a_worker_s_death_is_told_though_the_observer_stays_broken(make: Make) -> None:
    class Broken(RecordingObserver):
        broken = False

        def queued(self, name: str, depth: int) -> None:
            if self.broken:
                raise ZeroDivisionError
            super().queued(name, depth)

    heard: Complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    gate = GatedRunner()
    observer = Broken()
    batcher = make(gate, observer=observer, max_batch_size=1)
    futures = batcher.submit([1, 2])
    run = await gate.begun()
    observer.broken = True
    run.give()
    assert await outcomes(futures) == [1, InferenceError]
    assert heard[0]["message"] == batcher.failure == "a worker of m ended unexpectedly"
    observer.broken = False
    await asyncio.wait_for(batcher.close(drain_s=3600), 10)


async def test_without_threads_it_does_not_start(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SlotThread[Any, Any]] = []

    def thread(*arguments: Any, **options: Any) -> SlotThread[Any, Any]:
        if made:
            raise RuntimeError("can't start new thread")
        made.append(SlotThread(*arguments, **options))
        return made[0]

    monkeypatch.setattr(module, "SlotThread", thread)
    batcher = make(ScriptedRunner(), slots=2, start=False)
    with pytest.raises(RuntimeError, match="new thread"):
        batcher.start()
    with pytest.raises(ServiceClosed):
        batcher.submit([1])
    await asyncio.wait_for(asyncio.to_thread(made[0].join), 10)
    await asyncio.wait_for(batcher.close(drain_s=3600), 10)


async def test_an_observer_that_breaks_at_admission_loses_nothing(make: Make) -> None:
    observer = Fragile()
    runner = ScriptedRunner()
    batcher = make(runner, observer=observer)
    observer.broken_by = "queued 2"
    with pytest.raises(ZeroDivisionError):
        batcher.submit([1, 2])
    assert await outputs(batcher.submit([3])) == [3]


# Closing ---------------------------------------------------------------------------------------


async def test_close_drains(make: Make, complaints: Complaints) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=1)
    futures = batcher.submit([1, 2])
    run = await gate.begun()
    closing = asyncio.create_task(batcher.close(drain_s=3600))
    await settle()
    with pytest.raises(ServiceClosed):
        batcher.submit([3])
    assert not closing.done()
    run.give()
    (await gate.begun()).give()
    await asyncio.wait_for(closing, 10)
    assert await outcomes(futures) == [1, 2]


async def test_close_fails_what_is_left_after_its_time(make: Make, complaints: Complaints) -> None:
    gate = GatedRunner()
    observer = RecordingObserver()
    batcher = make(gate, max_batch_size=1, observer=observer)
    futures = batcher.submit([1, 2, 3])
    futures[1].cancel()
    await gate.begun()
    await batcher.close(drain_s=0)
    assert await outcomes(futures) == [ServiceClosed, asyncio.CancelledError, ServiceClosed]
    assert observer.depths[-1] == 0
    assert batcher.failure is None


async def test_a_close_that_is_cancelled_closes_all_the_same(
    make: Make, complaints: Complaints
) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=1)
    futures = batcher.submit([1, 2])
    run = await gate.begun()
    closing = asyncio.create_task(batcher.close(drain_s=3600))
    await settle()
    closing.cancel()
    assert await outcomes(futures) == [ServiceClosed, ServiceClosed]
    run.give()
    await until(lambda: not any(each.name == "mien-m-0" for each in threading.enumerate()))


async def test_a_run_that_ends_after_close_is_dropped(make: Make, complaints: Complaints) -> None:
    gate = GatedRunner()
    observer = RecordingObserver()
    batcher = make(gate, observer=observer)
    futures = batcher.submit([1, 2])
    run = await gate.begun()
    await batcher.close(drain_s=0)
    run.give()
    assert await outcomes(futures) == [ServiceClosed, ServiceClosed]
    await until(lambda: not any(each.name == "mien-m-0" for each in threading.enumerate()))
    await settle()
    assert observer.sizes == []
    assert batcher.failure is None


async def test_close_when_idle_is_at_once_and_may_be_repeated(make: Make) -> None:
    batcher = make(ScriptedRunner())
    await outputs(batcher.submit([1]))
    for _ in range(2):
        await asyncio.wait_for(batcher.close(drain_s=3600), 10)


async def test_close_without_start(make: Make) -> None:
    await asyncio.wait_for(make(ScriptedRunner(), start=False).close(drain_s=3600), 10)


async def test_close_does_not_wait_for_callers_that_have_gone(make: Make) -> None:
    gate = GatedRunner()
    batcher = make(gate, max_batch_size=1)
    futures = batcher.submit([1, 2])
    run = await gate.begun()
    futures[1].cancel()
    closing = asyncio.create_task(batcher.close(drain_s=3600))
    await settle()
    run.give()
    await asyncio.wait_for(closing, 10)
    assert len(gate.runs) == 1


# Conservation ----------------------------------------------------------------------------------

MAX_BATCH, MAX_PENDING = 3, 6
KINDS = ("good",) * 8 + ("poison", "crash")

SUBMIT = st.tuples(
    st.just("submit"),
    st.lists(st.sampled_from(KINDS), max_size=4),
    st.one_of(st.none(), st.integers(0, 5)),
)
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 30))
STEP = st.tuples(st.just("step"), st.integers(0, 3))
WAIT = st.tuples(st.just("wait"), st.integers(1, 5))
SETTLE = st.tuples(st.just("settle"))
OPS = st.lists(st.one_of(SUBMIT, SUBMIT, CANCEL, STEP, STEP, WAIT, SETTLE, SETTLE), max_size=30)


class World:
    """A batcher, and beside it a plain account of what must hold of it."""

    def __init__(self, slots: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppedLoop)
        self.loop = loop
        self.slots = slots
        self.futures: list[asyncio.Future[Served[Any]]] = []
        self.items: list[tuple[int, str]] = []
        self.deadlines: list[float | None] = []
        self.taken: set[int] = set()
        self.complaints: Complaints = []
        self.faults: list[str] = []
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.batcher: Batcher[Any, Any] = Batcher(
            self,
            name="m",
            slots=slots,
            max_batch_size=MAX_BATCH,
            max_pending=MAX_PENDING,
            observer=RecordingObserver(),
        )
        self.held = loop.threads.calls
        loop.threads.on_call = self.run_begins
        self.batcher.start()

    def run(self, items: tuple[tuple[int, str], ...]) -> list[tuple[str, int]]:
        """The runner."""
        kinds = {kind for _, kind in items}
        if "crash" in kinds:
            raise RuntimeError("crash")
        if "poison" in kinds:
            raise InvalidItem("poison")
        return [("output of", number) for number, _ in items]

    def run_begins(self, call: HeldCall) -> None:
        # An exception here would pass for a failed run: it is kept for `check`.
        self.expect(1 <= len(call.items) <= MAX_BATCH, f"a run of {len(call.items)}")
        self.expect(len(self.held) < self.slots, "more runs than slots")
        for number, _ in call.items:
            self.expect(not self.futures[number].done(), "what nobody waits for is run")
            self.expect(not self.expired(number), "what is late is run")
            self.taken.add(number)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def expired(self, number: int) -> bool:
        deadline = self.deadlines[number]
        return deadline is not None and self.loop.now >= deadline

    def waiting(self) -> int:
        return sum(
            not future.done() and number not in self.taken and not self.expired(number)
            for number, future in enumerate(self.futures)
        )

    def submit(self, kinds: list[str], patience: int | None) -> None:
        first = len(self.items)
        items = [(first + index, kind) for index, kind in enumerate(kinds)]
        deadline = None if patience is None else self.loop.now + patience
        fits = self.waiting() + len(items) <= MAX_PENDING
        try:
            futures = self.batcher.submit(items, deadline=deadline)
        except Overloaded:
            assert not fits
            return
        assert fits
        assert len(futures) == len(items)
        self.futures += futures
        self.items += items
        self.deadlines += [deadline] * len(items)

    def cancel(self, index: int) -> None:
        if self.futures:
            self.futures[index % len(self.futures)].cancel()

    async def step(self, index: int) -> None:
        await self.settle()
        if calls := self.held:
            call = calls[index % len(calls)]
            calls.remove(call)
            call.step()

    def wait(self, seconds: int) -> None:
        self.loop.now += seconds

    async def settle(self) -> None:
        await settle()
        assert not self.waiting() or len(self.held) == self.slots, "a slot idles"

    def check(self) -> None:
        """Every submission has resolved, and as it must."""
        for (number, kind), future in zip(self.items, self.futures, strict=True):
            assert future.done()
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                assert kind == "good"
                assert future.result().output == ("output of", number)
            elif isinstance(error, InvalidItem):
                assert kind == "poison"
            elif isinstance(error, DeadlineExceeded):
                assert self.expired(number)
            else:
                assert isinstance(error, InferenceError | ServiceClosed)
        assert self.faults == []
        assert self.complaints == []
        assert self.batcher.failure is None
        assert len(self.batcher._queue) == 0


async def play(ops: list[tuple[Any, ...]], slots: int, drains: bool) -> None:
    world = World(slots)
    for name, *arguments in ops:
        done = getattr(world, name)(*arguments)
        if done is not None:
            await done
    closing = asyncio.create_task(world.batcher.close(drain_s=3600 if drains else 0))
    await settle()
    while drains and world.held:
        await world.step(0)
        await settle()
    if not drains:
        world.loop.now += 1
    await settle()
    assert closing.done(), "close hangs"
    if drains:
        assert not any(
            isinstance(future.exception(), ServiceClosed)
            for future in world.futures
            if not future.cancelled()
        )
    world.check()


@settings(max_examples=150, deadline=None)
@given(ops=OPS, slots=st.integers(1, 3), drains=st.booleans())
def test_every_submission_resolves_exactly_once(
    ops: list[tuple[Any, ...]], slots: int, drains: bool
) -> None:
    run_stepped(lambda _: play(ops, slots, drains))
