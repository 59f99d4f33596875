"""The batcher's policy: taking at once what is there, against waiting a fixed time for more.

The runner takes 3 ms + 0.4 ms an item, arrivals are Poisson; latency is measured by the caller.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from service.core.batcher import Batcher

RATES = (50, 200, 800, 1700)
WAITS_MS = (0, 5, 20)
SECONDS = 4.0
BATCH = 32


class Runner:
    """3 ms + 0.4 ms an item, asleep: as a device would, it leaves the core free."""

    def run(self, items: Sequence[float]) -> Sequence[float]:
        """Sleep as long as the run would take."""
        time.sleep(0.003 + 0.0004 * len(items))
        return items


class Silent:
    """An observer that keeps nothing."""

    def queued(self, name: str, depth: int) -> None:
        """Keep nothing."""

    def ran(self, name: str, size: int, seconds: float) -> None:
        """Keep nothing."""


class WaitingBatcher(Batcher[float, float]):
    """The same batcher, but every run first waits for a fixed window."""

    wait_s = 0.0

    def _go_on(self, slot: Any) -> None:
        if self._queue:
            asyncio.get_running_loop().call_later(self.wait_s, super()._go_on, slot)
        else:
            super()._go_on(slot)


async def main() -> None:
    """Measure and print."""
    table = Table("arrivals/s", *(f"wait {wait} ms" for wait in WAITS_MS), title="p50 / p99 in ms")
    for rate in RATES:
        cells = [await _measure(rate, wait / 1000) for wait in WAITS_MS]
        table.add_row(str(rate), *cells)
    Console().print(table)


async def _measure(rate: float, wait_s: float) -> str:
    kind = WaitingBatcher if wait_s else Batcher
    batcher = kind(
        Runner(),
        name="bench",
        slots=1,
        max_batch_size=BATCH,
        max_pending=100_000,
        observer=Silent(),
    )
    if isinstance(batcher, WaitingBatcher):
        batcher.wait_s = wait_s
    batcher.start()
    rng = random.Random(0)
    latencies: list[float] = []
    calls: list[asyncio.Task[None]] = []

    async def call(arrived: float) -> None:
        await batcher.submit([arrived])[0]
        latencies.append(time.perf_counter() - arrived)

    started = due = time.perf_counter()
    while due - started < SECONDS:
        due += rng.expovariate(rate)
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        # From when it was due, so that a late generator does not flatter the queue.
        calls.append(asyncio.create_task(call(due)))
    await asyncio.gather(*calls)
    await batcher.close(drain_s=0)
    cuts = statistics.quantiles(latencies, n=100)
    return f"{cuts[49] * 1000:.1f} / {cuts[98] * 1000:.1f}"


if __name__ == "__main__":
    asyncio.run(main())
