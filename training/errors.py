"""The base of what stops a command for a reason outside the code."""

from __future__ import annotations


class WorkError(Exception):
    """What a command of `training` or `export` tells in one line, and not by a traceback."""
