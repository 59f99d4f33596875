"""A bar on the terminal: how far, how fast, how long still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from service.cli.console import err


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


@contextmanager
def bar(total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar for a block.

    Args:
        total: images and frames to come; None where that is not known.

    Yields:
        What is called for each of them.
    """
    # With no markup: a name may hold brackets.
    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("analysing", total=total)
        yield lambda: progress.advance(task)
