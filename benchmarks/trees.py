"""One request to servers of several source trees and its bare parts, in turns in random order.

`git worktree add /tmp/old HEAD~1 && python -m benchmarks.trees /tmp/old .`

One process is up to 0.1 ms slower than another of the same code, the first started one always: so
every start has another order, behind a server that is not asked, and differences are paired.
"""

from __future__ import annotations

import random
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.request import PHOTO, bare, in_turns, poster, server, vga


def main(
    trees: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, resolve_path=True)],
    starts: Annotated[int, typer.Option(min=2)] = 8,
    rounds: Annotated[int, typer.Option(min=10)] = 120,
) -> None:
    """Measure and print: milliseconds over the bare parts, and against the first tree."""
    photo = vga(PHOTO.read_bytes())
    bare_parts = bare(photo)
    over: list[list[float]] = [[] for _ in trees]
    for _ in range(starts):
        order = random.sample(range(len(trees)), len(trees))
        with ExitStack() as stack:
            stack.enter_context(server(tree=trees[0]))
            ports = [stack.enter_context(server(tree=trees[index]))[1] for index in order]
            calls = [poster(port, photo) for port in ports]
            *served, alone = in_turns(*calls, bare_parts, rounds=rounds, shuffle=True)
        for index, times in zip(order, served, strict=True):
            over[index].append(1000 * (statistics.median(times) - statistics.median(alone)))
    table = Table("tree", "over bare, ms", "against the first, ms", title=f"{starts} starts")
    for tree, found in zip(trees, over, strict=True):
        apart = [here - first for here, first in zip(found, over[0], strict=True)]
        error = statistics.stdev(apart) / len(apart) ** 0.5
        table.add_row(
            str(tree),
            f"{statistics.mean(found):.2f}",
            f"{statistics.mean(apart):+.3f} +- {error:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
