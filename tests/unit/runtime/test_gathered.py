"""Runs of several threads gathered into one: who is answered, with what, and how many runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest

from service.errors import InferenceError
from service.runtime.detector import CELLS, IMAGE
from service.runtime.gathered import GatheredRuns
from service.runtime.session import OrtSession, SessionOptions
from service.settings import Settings
from tests.fakes import until

MODEL = Settings().detector_dir / "model.onnx"


class Gated:
    """Doubles each row; the first run waits until the gate is opened."""

    def __init__(self) -> None:
        self.gate, self.began = Event(), Event()
        self.shapes: list[tuple[int, ...]] = []
        self.broken = False

    def __call__(self, rows: Any) -> Any:
        self.shapes.append(rows.shape)
        self.began.set()
        assert self.gate.wait(30)
        if self.broken:
            raise InferenceError("out of memory")
        return rows * 2


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


async def behind(
    threads: ThreadPoolExecutor, gated: Gated, gathered: GatheredRuns, values: list[Any]
) -> tuple[Future[Any], list[Future[Any]]]:
    """A first call that is being run, and others that all wait behind it."""
    first = threads.submit(gathered.run, np.zeros(2))
    assert gated.began.wait(30)
    others = []
    for count, value in enumerate(values, 1):
        others.append(threads.submit(gathered.run, value))
        await until(lambda count=count: len(gathered._calls) == count)
    return first, others


async def test_what_waits_behind_a_run_goes_in_one(threads: ThreadPoolExecutor) -> None:
    gated = Gated()
    gathered = GatheredRuns(gated, max_batch_size=8)
    values = [np.full(2, k) for k in range(1, 6)]
    first, others = await behind(threads, gated, gathered, values)
    gated.gate.set()

    assert first.result(30).tolist() == [0, 0]
    assert [other.result(30).tolist() for other in others] == [[2 * k, 2 * k] for k in range(1, 6)]
    assert gated.shapes == [(1, 2), (8, 2)]  # Five, padded to eight.


async def test_shapes_and_sizes_part_the_runs(threads: ThreadPoolExecutor) -> None:
    gated = Gated()
    gathered = GatheredRuns(gated, max_batch_size=2)
    values = [np.full(size, k) for k, size in enumerate((2, 3, 2, 2))]
    first, others = await behind(threads, gated, gathered, values)
    gated.gate.set()

    first.result(30)
    for k, (value, other) in enumerate(zip(values, others, strict=True)):
        np.testing.assert_array_equal(other.result(30), 2 * value, err_msg=str(k))
    assert gated.shapes == [(1, 2), (2, 2), (1, 3), (1, 2)]


async def test_a_failed_run_fails_all_of_it_and_nothing_else(threads: ThreadPoolExecutor) -> None:
    gated = Gated()
    gathered = GatheredRuns(gated, max_batch_size=8)
    gated.broken = True
    first, others = await behind(threads, gated, gathered, [np.zeros(2)] * 3)
    gated.gate.set()

    for call in (first, *others):
        with pytest.raises(InferenceError, match="out of memory"):
            call.result(30)
    gated.broken = False
    assert gathered.run(np.ones(2)).tolist() == [2, 2]


def test_many_calls_at_once_each_get_their_own_answer(threads: ThreadPoolExecutor) -> None:
    gathered = GatheredRuns(lambda rows: rows + 1, max_batch_size=4)
    values = [np.full(2 + k % 3, k) for k in range(400)]

    answers = list(threads.map(gathered.run, values))

    for value, answer in zip(values, answers, strict=True):
        np.testing.assert_array_equal(answer, value + 1)


def test_the_detector_answers_as_alone(threads: ThreadPoolExecutor) -> None:
    session = OrtSession(MODEL, SessionOptions(provider="cpu"))
    gathered = GatheredRuns(lambda rows: session.run(IMAGE, rows, [CELLS])[0], max_batch_size=8)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 96 + 32 * (k % 2), 3), np.uint8) for k in range(12)]

    together = list(threads.map(gathered.run, frames))

    for frame, cells in zip(frames, together, strict=True):
        (alone,) = session.run(IMAGE, frame[np.newaxis], [CELLS])
        np.testing.assert_allclose(cells, alone[0], atol=1e-4)
