"""Pictures and videos with the faces drawn in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import cv2

from service.cli.inputs import Input
from service.cli.records import Record
from service.errors import MienError
from service.types import Pixels
from service.vision.annotate import annotate
from service.vision.codec import ImageLimits, decode

VIDEO_SUFFIX = ".mp4"


class DrawingError(MienError):
    """A drawing that cannot be written."""


def targets(inputs: Sequence[Input], folder: Path) -> dict[str, Path]:
    """Where each input's drawing goes, by its key.

    It is called `STEM.faces.png`, so that it takes the place of an earlier drawing and of no
    other file. A stem's second gets a number, and no input is overwritten.
    """
    taken = {os.path.realpath(each.source) for each in inputs}
    found: dict[str, Path] = {}
    for each in inputs:
        suffix = ".faces" + (".png" if each.kind == "photo" else VIDEO_SUFFIX)
        stem = "live" if each.kind == "live" else each.path.stem
        names = (f"{stem}{'' if n == 1 else f'-{n}'}{suffix}" for n in count(1))
        path = next(path for name in names if os.path.realpath(path := folder / name) not in taken)
        taken.add(os.path.realpath(path))
        found[each.key] = path
    return found


def draw_photo(data: bytes, record: Record, path: Path, limits: ImageLimits) -> None:
    """Write a PNG of a photo with its faces.

    Raises:
        OSError: it cannot be written.
    """
    pixels = annotate(decode(data, limits).pixels, record.result.faces)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `imwrite`: on Windows it takes no name beyond the code page.
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@contextmanager
def drawing(path: Path | None, fps: float) -> Iterator[Callable[[Pixels, Record], None]]:
    """Give what draws a video's frames within a block; without a path it draws none.

    Raises:
        DrawingError: it cannot be written.
    """
    if path is None:
        yield lambda pixels, record: None
        return
    video = _DrawnVideo(path, fps)
    try:
        yield video.write
    finally:
        video.close()


class _DrawnVideo:
    """An MP4 that grows frame by frame; under its name it appears when it is closed."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._part = path.with_name(f".{path.name}.part{VIDEO_SUFFIX}")
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None

    def write(self, pixels: Pixels, record: Record) -> None:
        """Append a frame."""
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            self._writer = self._open()
        drawn = annotate(pixels, record.result.faces, record.tracks)
        if (drawn.shape[1], drawn.shape[0]) != self._size:
            # A video has one size; the writer would leave this frame out.
            drawn = cv2.resize(drawn, self._size).astype(drawn.dtype)
        self._writer.write(drawn)

    def close(self) -> None:
        """Finish the file, if there was a frame."""
        if self._writer is not None:
            self._writer.release()
            os.replace(self._part, self._path)

    def _open(self) -> cv2.VideoWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, code, self._fps, self._size)
        if not writer.isOpened():
            raise DrawingError(f"{self._path} cannot be written")
        return writer
