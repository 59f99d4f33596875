"""Twenty streams of five frames a second, and what a frame costs beside the same image by REST.

Latency is what a client sees, from a frame's sending to its reply; the clients run in this process
and share the cores with the server. The costs are processor time of the server, in turns. Flags
are the server's: `python -m benchmarks.stream --detector haar`.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.detectors import processor_s
from benchmarks.request import PHOTO, server, vga
from mien.client import AsyncClient, Client

SESSIONS, RATE, SECONDS = 20, 5.0, 20.0
TURNS, CALLS = 6, 20
MAX_COST = 1.1


@dataclass
class Seen:
    """What the clients saw of their frames."""

    latencies_ms: list[float] = field(default_factory=list)
    sent: int = 0
    dropped: int = 0
    failed: int = 0


def main(flags: tuple[str, ...] = ()) -> None:
    """Measure and print."""
    photo = vga(PHOTO.read_bytes())
    with server("--max-client-streams", str(SESSIONS), *flags) as (process, port, _):
        url = f"http://127.0.0.1:{port}"
        seen = asyncio.run(_sessions(url, photo))
        frame_s, request_s = _costs(url, photo, lambda: processor_s(process.pid))
    cuts = statistics.quantiles(seen.latencies_ms, n=100) if seen.latencies_ms else [0.0] * 99
    table = Table(
        *("sent", "answered", "dropped", "failed", "p50 ms", "p99 ms"),
        title=f"{SESSIONS} streams of {RATE:g} frames/s, 640x480, {SECONDS:g} s",
    )
    answered = len(seen.latencies_ms)
    counts = (seen.sent, answered, seen.dropped, seen.failed)
    table.add_row(*map(str, counts), f"{cuts[49]:.1f}", f"{cuts[98]:.1f}")
    Console().print(table)
    ratio = frame_s / request_s
    print(
        f"A frame costs {frame_s * 1000:.1f} ms of processor, a request {request_s * 1000:.1f} ms: "
        f"{ratio:.2f} times, aimed at <= {MAX_COST:g}"
    )


async def _sessions(url: str, photo: bytes) -> Seen:
    seen = Seen()
    async with asyncio.TaskGroup() as group:
        for index in range(SESSIONS):
            group.create_task(_session(url, photo, index / SESSIONS / RATE, seen))
    return seen


async def _session(url: str, photo: bytes, begin_s: float, seen: Seen) -> None:
    frames = round(SECONDS * RATE)
    async with AsyncClient(url) as client, client.stream() as stream:
        loop = asyncio.get_running_loop()
        start, sent_at = loop.time() + begin_s, list[float]()

        async def send() -> None:
            for number in range(frames):
                await asyncio.sleep(start + number / RATE - loop.time())
                sent_at.append(loop.time())
                await stream.send(photo)

        sending = asyncio.create_task(send())
        for _ in range(frames):
            reply = await stream.receive()
            if reply["type"] == "frame.result":
                seen.latencies_ms.append(1000 * (loop.time() - sent_at[reply["frame"]]))
            seen.dropped += reply["type"] == "frame.dropped"
            seen.failed += reply["type"] == "frame.error"
        await sending
        await stream.close()
        seen.sent += frames


def _costs(url: str, photo: bytes, clock: Callable[[], float]) -> tuple[float, float]:
    """Processor seconds of the server for a frame and for a request."""
    with Client(url) as client, client.stream(drop_policy="block") as stream:

        def frame() -> None:
            stream.send(photo)
            stream.receive()

        def request() -> None:
            client.analyze(photo)

        spent = {frame: 0.0, request: 0.0}
        for _ in range(TURNS):
            for call in spent:
                before = clock()
                for _ in range(CALLS):
                    call()
                spent[call] += clock() - before
    return spent[frame] / TURNS / CALLS, spent[request] / TURNS / CALLS


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
