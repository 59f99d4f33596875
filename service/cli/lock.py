"""One run at a time on a results file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.cli.formats import OutputError

if sys.platform != "win32":  # There two runs are not kept apart.
    import fcntl


@contextmanager
def only_run(path: Path) -> Iterator[None]:
    """Keep other runs from a results file for a block, by `FILE.lock`.

    What is left of it by a run that was killed holds nobody up: the system lets go of it.

    Raises:
        OutputError: another run is at it.
        OSError: there can be no file beside it.
    """
    lock = path.with_name(f"{path.name}.lock")
    with lock.open("wb") as file:
        if not _take(file.fileno()):
            raise OutputError(f"another run is writing {path}")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _take(file: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Who had it may have removed it between our opening it and our getting it.
    return os.fstat(file).st_nlink > 0
