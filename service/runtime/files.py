"""The files of a model folder, read once: what is loaded is what was checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

from service.errors import HashMismatch, ModelError


def read_checked(path: Path, sha256: str) -> bytes:
    """The content of a file of a model folder.

    Raises:
        ModelError: it cannot be read.
        HashMismatch: it is not the one that the model's card describes.
    """
    name = path.parent.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {name!r} has no readable {path.name}") from error
    if (actual := hashlib.sha256(data).hexdigest()) != sha256:
        raise HashMismatch(name, path.name, sha256, actual)
    return data
