"""What goes to the terminal, and how names are written there and in results."""

from __future__ import annotations

import os
import re
from typing import NoReturn

import typer
from rich.console import Console

# Plain text: a photo may be called `[/b].jpg`.
out = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True, soft_wrap=True)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All that do more on a terminal than go to the next line or stop."""


def shown(name: str | os.PathLike[str]) -> str:
    r"""A name that terminal and JSON can take: bytes that are no UTF-8 are written as `\xff`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def escaped(text: str) -> str:
    r"""Text that cannot steer the terminal: an escape in the name of a photo is written `\x1b`."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def complain(message: str) -> None:
    """Tell of a fault."""
    err.print(escaped(message), style="red")


def quit_with(message: str, status: int = 2) -> NoReturn:
    """End the command with a reason."""
    complain(f"mien: {message}")
    raise typer.Exit(status)
