"""Calls of several threads in one run: a GPU does eight pictures in little more time than one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.runtime.session import buckets, pad_to_bucket

Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class _Call:
    value: Array
    output: Array | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.output is not None or self.error is not None


class GatheredRuns:
    """One run at a time; the next one takes all that came meanwhile and have one shape.

    As in `core.batcher` nobody waits while nothing is run: the run before is the window. The
    thread that is to go next does the run of all, so there is none to be started or stopped.
    """

    def __init__(self, run: Callable[[Array], Array], max_batch_size: int) -> None:
        """Gather calls of `run`.

        Args:
            run: (N, ...) -> (N, ...), row by row.
            max_batch_size: rows a run takes at most; fewer are padded up to a power of two.
        """
        self._run, self._sizes = run, buckets(max_batch_size)
        self._calls: deque[_Call] = deque()
        self._changed = Condition()
        self._busy = False

    def run(self, value: Array) -> Array:
        """The row that `run` gives for `value`, maybe together with those of other threads.

        Raises:
            Exception: what the run of these raised, in each of their threads.
        """
        call = _Call(value)
        with self._changed:
            self._calls.append(call)
        while not call.done:
            if batch := self._next(call):
                self._work(batch)
        if call.error is not None:
            raise call.error
        assert call.output is not None
        return call.output

    def _next(self, call: _Call) -> list[_Call]:
        """The calls to be run now, by the thread of `call`; none once that is done."""
        with self._changed:
            self._changed.wait_for(lambda: call.done or not self._busy)
            if call.done:
                return []
            self._busy = True
            shape = self._calls[0].value.shape
            alike = [one for one in self._calls if one.value.shape == shape]
            batch = alike[: self._sizes[-1]]
            self._calls = deque(one for one in self._calls if one not in batch)
            return batch

    def _work(self, batch: list[_Call]) -> None:
        try:
            rows = np.stack([one.value for one in batch])
            outputs = self._run(pad_to_bucket(rows, self._sizes))
            for one, output in zip(batch, outputs, strict=False):  # Rows that pad are left over.
                one.output = output
        except BaseException as error:
            for one in batch:
                one.error = error
        with self._changed:
            self._busy = False
            self._changed.notify_all()
