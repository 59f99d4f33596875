"""The `mien` command."""

from service.cli.app import app

__all__ = ["app"]
