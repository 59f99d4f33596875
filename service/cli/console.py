"""What goes to the terminal, and how names are written there and in results."""

from __future__ import annotations

import os
from typing import NoReturn

import typer
from rich.console import Console

# Plain text: a photo may be called `[/b].jpg`.
out = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True, soft_wrap=True)


def shown(name: str | os.PathLike[str]) -> str:
    r"""A name that terminal and JSON can take: bytes that are no UTF-8 are written as `\xff`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def complain(message: str) -> None:
    """Tell of a fault."""
    err.print(message, style="red")


def quit_with(message: str, status: int = 2) -> NoReturn:
    """End the command with a reason."""
    complain(f"mien: {message}")
    raise typer.Exit(status)
