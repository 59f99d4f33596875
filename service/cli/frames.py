"""Videos, cameras and streams -> frames with their times, read by OpenCV on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from service.cli.inputs import Input
from service.errors import MienError
from service.types import Pixels

ASSUMED_FPS = 25.0
"""Where a video does not say."""
_LIVE_TIMEOUT_MS = 10_000
# A recording that ends so much before its time was cut off, or is damaged; what a container says
# of its length may be a guess.
_SHORT = 0.9


class VideoError(MienError):
    """A video, a camera or a stream of which no frame can be read, or not all of them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video."""

    number: int
    """From 0, of all frames of the video, not only of those that are analysed."""
    time_s: float
    """From the start of a recording; of a live source the Unix time."""
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """Which frames are wanted."""

    every: int = 1
    done: Collection[int] = ()
    """Frames that are not wanted any more; a live source counts on from the last of them."""


class Clock:
    """Times of frames that always go on, whatever a container says."""

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps
        self._last = -self._step

    def at(self, position_ms: float) -> float:
        """The time of the next frame, in seconds, from where the video says that it is."""
        said = position_ms / 1000
        # Also a NaN is not greater.
        self._last = said if said > self._last else self._last + self._step
        return self._last


class Recording:
    """The frames of a file, in order and all of them."""

    def __init__(self, capture: cv2.VideoCapture, options: FrameOptions) -> None:
        self.fps = frame_rate(capture)
        self._capture = capture
        self._options = options
        self._clock = Clock(self.fps)
        self._number = -1

    def read(self) -> Frame | None:
        """The next frame that is wanted; None at the end.

        Raises:
            VideoError: it ended too early.
        """
        while self._capture.grab():
            self._number += 1
            time_s = self._clock.at(self._capture.get(cv2.CAP_PROP_POS_MSEC))
            if self._number % self._options.every or self._number in self._options.done:
                continue
            got, pixels = self._capture.retrieve()
            if got:
                return Frame(self._number, time_s, np.asarray(pixels, np.uint8))
        self._check_length()
        return None

    def _check_length(self) -> None:
        read, said = self._number + 1, frame_count(self._capture)
        if read == 0:
            raise VideoError("no frame can be read")
        if said and read < _SHORT * said:
            raise VideoError(f"it ends after {read:,} of about {said:,} frames")


class Live:
    """The newest frame of a camera or a stream: those that come while one is worked on are lost."""

    def __init__(self, capture: cv2.VideoCapture, options: FrameOptions) -> None:
        self.fps = frame_rate(capture)
        self._capture = capture
        self._every = options.every
        self._number = self._first = max(options.done, default=-1) + 1

    def read(self) -> Frame | None:
        """The next frame that is wanted, when it comes; None at the end.

        Raises:
            VideoError: none came at all.
        """
        while True:
            got, pixels = self._capture.read()
            if not got:
                break
            number, self._number = self._number, self._number + 1
            if number % self._every == 0:
                return Frame(number, time.time(), np.asarray(pixels, np.uint8))
        if self._number == self._first:
            raise VideoError("no frame can be read")
        return None


@dataclass(frozen=True, slots=True)
class Frames:
    """An open video."""

    fps: float
    """Of the frames that are wanted."""
    each: AsyncIterator[Frame]


@asynccontextmanager
async def open_frames(source: Input, options: FrameOptions) -> AsyncIterator[Frames]:
    """Open a video, a camera or a stream.

    Raises:
        VideoError: it cannot be opened.
    """
    loop, stopped = asyncio.get_running_loop(), threading.Event()
    # One thread opens, reads and releases: a capture that is released while it reads crashes.
    with ThreadPoolExecutor(1) as thread:
        capture = await loop.run_in_executor(thread, open_capture, source)
        try:
            if source.kind == "live":
                live = Live(capture, options)
                yield Frames(live.fps / options.every, _newest(live.read, thread, stopped))
            else:
                recording = Recording(capture, options)
                yield Frames(recording.fps / options.every, _all(recording.read, thread))
        finally:
            stopped.set()
            thread.submit(capture.release)


def open_capture(source: Input) -> cv2.VideoCapture:
    """Let OpenCV open it.

    Raises:
        VideoError: it cannot.
    """
    # FFmpeg would write of each damaged packet to stderr.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if source.kind == "video" and not os.path.exists(source.source):
        raise VideoError("no such file")
    if source.source.startswith("camera:"):
        capture = cv2.VideoCapture(_camera(source.source))
    elif source.kind == "live":
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
        timeouts = [value for limit in limits for value in (limit, _LIVE_TIMEOUT_MS)]
        capture = cv2.VideoCapture(source.source, cv2.CAP_FFMPEG, timeouts)
    else:
        capture = cv2.VideoCapture(source.source, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise VideoError("it cannot be opened as a video")
    return capture


def expected_frames(source: Input) -> int | None:
    """How many frames a video says that it has; None where it does not."""
    if source.kind == "live":
        return None
    try:
        capture = open_capture(source)
    except VideoError:
        return None
    count = frame_count(capture)
    capture.release()
    return count


def frame_count(capture: cv2.VideoCapture) -> int | None:
    """What the container says, if it says something that can be."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e12 else None


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames a second; `ASSUMED_FPS` where that is not said, or cannot be."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= 1000 else ASSUMED_FPS


def _camera(name: str) -> int:
    index = name.removeprefix("camera:")
    if not index.isdecimal():
        raise VideoError("a camera is `camera:0`, `camera:1`, ...")
    return int(index)


async def _all(
    read: Callable[[], Frame | None], thread: ThreadPoolExecutor
) -> AsyncIterator[Frame]:
    loop = asyncio.get_running_loop()
    while (frame := await loop.run_in_executor(thread, read)) is not None:
        yield frame


async def _newest(
    read: Callable[[], Frame | None], thread: ThreadPoolExecutor, stopped: threading.Event
) -> AsyncIterator[Frame]:
    """Read on and on, so that nothing old waits in the source's buffers, and give the newest."""
    loop = asyncio.get_running_loop()
    newest: asyncio.Queue[Frame | None] = asyncio.Queue()

    def offer(frame: Frame) -> None:
        while not newest.empty():
            newest.get_nowait()
        newest.put_nowait(frame)

    def pump() -> None:
        while not stopped.is_set() and (frame := read()) is not None:
            loop.call_soon_threadsafe(offer, frame)

    pumping = loop.run_in_executor(thread, pump)
    pumping.add_done_callback(lambda _: newest.put_nowait(None))
    while (frame := await newest.get()) is not None:
        yield frame
    await pumping
