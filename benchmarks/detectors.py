"""The whole request with our detector against Haar: two servers, in turns within one run.

Each has one slot of one thread. Beside other work the clock also counts the waiting for a core, so
the processor time of the servers is given as well. A folder as argument is served in place of the
committed detector.
"""

from __future__ import annotations

import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.request import PHOTO, ROUNDS, in_turns, poster, server, vga
from service.settings import Settings

MAX_P50_MS = 10.0
ONE_THREAD = ("--slots", "1", "--threads", "1", "--provider", "cpu")


def main(folder: Path | None = None) -> None:
    """Measure and print."""
    ours = folder or Settings().detector_dir
    detectors = {
        "mien": ("--detector", "mien", "--detector-dir", str(ours)),
        "haar": ("--detector", "haar"),
    }
    photo = vga(PHOTO.read_bytes())
    with ExitStack() as servers:
        opened = [servers.enter_context(server(*ONE_THREAD, *f)) for f in detectors.values()]
        calls = [poster(port, photo) for _, port, _ in opened]
        before = [processor_s(process.pid) for process, *_ in opened]
        taken = in_turns(*calls)
        after = [processor_s(process.pid) for process, *_ in opened]
    title = f"One 640x480 photo, one face, all heads, one thread, {ROUNDS} rounds"
    table = Table("detector", "p50 ms", "p99 ms", "processor ms, mean", title=title)
    # The calls that warm up are counted by the processor's clock too.
    spent = [(b - a) / (ROUNDS + 10) for a, b in zip(before, after, strict=True)]
    for name, seconds, each in zip(detectors, taken, spent, strict=True):
        p50, p99 = statistics.median(seconds), sorted(seconds)[int(0.99 * len(seconds))]
        table.add_row(name, *(f"{value * 1000:.1f}" for value in (p50, p99, each)))
    Console().print(table)
    mine, theirs = (statistics.median(seconds) for seconds in taken)
    print(f"{theirs / mine:.1f} times as fast as with haar; aimed at a p50 of {MAX_P50_MS:g} ms")


def processor_s(pid: int) -> float:
    """Processor time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
