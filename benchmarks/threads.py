"""From the event loop to a thread and back: `SlotThread` against `ThreadPoolExecutor`, in turns.

Before each way a large array is summed, so that caches are as cold as after the work of a request.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

from service.core.slot import SlotThread

ROUNDS = 300
_EVICTING = np.random.default_rng(0).random(1 << 21)


def main() -> None:
    """Measure and print."""
    there_and_back = uvloop.run(_measure())
    table = Table("thread", "there, us", "back, us", title=f"One call, p50 of {ROUNDS} rounds")
    for name, ways in there_and_back.items():
        table.add_row(
            name, *(f"{statistics.median(way) * 1e6:.0f}" for way in zip(*ways, strict=True))
        )
    Console().print(table)


async def _measure() -> dict[str, list[tuple[float, float]]]:
    loop = asyncio.get_running_loop()
    found: dict[str, list[tuple[float, float]]] = {"SlotThread": [], "ThreadPoolExecutor": []}
    slot = SlotThread(_work, name="slot")
    with ThreadPoolExecutor(1) as pool:
        for _ in range(ROUNDS):
            given: asyncio.Future[Callable[[], tuple[float, float]]] = loop.create_future()
            _EVICTING.sum()
            called = perf_counter()
            slot.call(None, given.set_result)
            outcome = await given
            found["SlotThread"].append(_ways(called, outcome()))
            _EVICTING.sum()
            called = perf_counter()
            run = await loop.run_in_executor(pool, _work, None)
            found["ThreadPoolExecutor"].append(_ways(called, run))
    slot.end()
    return found


def _work(_: None) -> tuple[float, float]:
    begun = perf_counter()
    _EVICTING.sum()
    return begun, perf_counter()


def _ways(called: float, run: tuple[float, float]) -> tuple[float, float]:
    return run[0] - called, perf_counter() - run[1]


if __name__ == "__main__":
    main()
