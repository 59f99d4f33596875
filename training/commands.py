"""How the commands of `training` and `export` tell what stopped them."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from service.errors import MienError
from training.errors import WorkError


class Commands(TyperGroup):
    """Commands that end with one line and status 1 where a file, set or option is at fault."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (WorkError, MienError, OSError) as error:
            typer.echo(_line(error), err=True)
            raise typer.Exit(1) from error


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
