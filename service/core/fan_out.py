"""Work for several batchers at a time: all of it is taken, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from service.core.batcher import Batcher, Served

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Output = TypeVar("Output")


async def fan_out(
    work: Mapping[Key, tuple[Batcher[Item, Output], Sequence[Item]]], *, deadline: float | None
) -> dict[Key, list[Served[Output]]]:
    """Have every batcher run its items, side by side.

    Args:
        work: batcher and items by key.
        deadline: `loop.time()` after which items must not be run any more.

    Raises:
        MienError: as `Batcher.submit` or one of the runs raised it; the rest is cancelled.
    """
    futures: dict[Key, list[asyncio.Future[Served[Output]]]] = {}
    try:
        for key, (batcher, items) in work.items():
            futures[key] = batcher.submit(items, deadline=deadline)
        await asyncio.gather(*(future for group in futures.values() for future in group))
    finally:
        # After an error or a cancellation nobody waits for the rest.
        for future in (future for group in futures.values() for future in group):
            future.cancel()
    return {key: [future.result() for future in group] for key, group in futures.items()}
