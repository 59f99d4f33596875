"""What is to be analysed: arguments -> photos, videos and live sources, each of them once."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.cli.console import shown

_PHOTOS = frozenset(
    (".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
) | {".webp"}
_VIDEOS = frozenset(
    (".3gp", ".avi", ".flv", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg")
) | {".mts", ".ogv", ".webm", ".wmv"}
# The user and what is between the colon and the host. One that holds a slash is no password by
# RFC 3986, and is one that people type.
_PASSWORD = re.compile(r"(?<=://)([^:/?#@\[]*):(?:[^/?#]*@|(?!\d*(?:[/?#]|$)).*@)")


@dataclass(frozen=True, slots=True)
class Input:
    """A file or a live source."""

    source: str
    """A path, a URL or `camera:N`."""
    kind: Literal["photo", "video", "live"]

    @property
    def name(self) -> str:
        """What it is called; without the password of a URL."""
        return shown(_PASSWORD.sub(r"\1:***@", self.source) if self.kind == "live" else self.source)

    @property
    def key(self) -> str:
        """By which it is known again."""
        return key_of(self.name)

    @property
    def path(self) -> Path:
        """Of a file."""
        return Path(self.source)


def key_of(name: str) -> str:
    """The key of what is called so: of a file its absolute path."""
    return name if _is_live(name) else shown(os.path.abspath(name))


def is_media(path: str | os.PathLike[str]) -> bool:
    """Whether it is an image or a video, by its suffix."""
    return _suffix(path) in _PHOTOS | _VIDEOS


def expand(
    arguments: Sequence[str], *, without: Collection[Path] = ()
) -> tuple[list[Input], list[str]]:
    """Look up what the arguments stand for.

    Args:
        arguments: files, folders (with all that is below them), globs, URLs, `camera:N`.
        without: what is written to, and so is not read where a folder holds it.

    Returns:
        Inputs, each once, and what is wrong with arguments that stand for nothing.
    """
    kept_out = {os.path.abspath(path) for path in without}
    found: dict[str, Input] = {}
    faults: list[str] = []
    for argument in arguments:
        some = list(_inputs(argument, kept_out, faults))
        if not some:
            faults.append(f"{shown(argument)}: no image and no video there")
        for each in some:
            found.setdefault(each.key, each)
    return list(found.values()), faults


def _inputs(argument: str, kept_out: Collection[str], faults: list[str]) -> Iterator[Input]:
    if _is_live(argument):
        yield Input(argument, "live")
    elif glob.has_magic(argument) and not os.path.lexists(argument):
        for match in sorted(glob.iglob(argument, recursive=True)):
            yield from _at(match, kept_out, faults)
    else:
        yield from _at(argument, kept_out, faults)


def _at(path: str, kept_out: Collection[str], faults: list[str]) -> Iterator[Input]:
    if os.path.isdir(path):
        yield from _below(path, kept_out, faults)
    else:
        yield _file(path)


def _is_live(name: str) -> bool:
    return "://" in name or name.startswith("camera:")


def _file(path: str) -> Input:
    kind: Literal["photo", "video"] = "video" if _suffix(path) in _VIDEOS else "photo"
    return Input(str(Path(path)), kind)


def _below(folder: str, kept_out: Collection[str], faults: list[str]) -> Iterator[Input]:
    """Images and videos in a folder and its folders; hidden ones are not meant."""

    def fault(error: OSError) -> None:
        faults.append(f"{shown(error.filename)}: {error.strerror}")

    for where, folders, files in os.walk(folder, onerror=fault):
        folders[:] = sorted(
            name for name in folders if _is_meant(os.path.join(where, name), kept_out)
        )
        for name in sorted(files):
            path = os.path.join(where, name)
            if is_media(name) and _is_meant(path, kept_out):
                yield _file(path)


def _is_meant(path: str, kept_out: Collection[str]) -> bool:
    return not os.path.basename(path).startswith(".") and os.path.abspath(path) not in kept_out


def _suffix(path: str | os.PathLike[str]) -> str:
    return os.path.splitext(path)[1].lower()
