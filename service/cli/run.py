"""One run of `mien analyze`: inputs in order, several pictures in work, results in order."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import cv2

from service.cli.console import complain
from service.cli.drawings import DrawingError, draw_photo, drawing
from service.cli.engine import Engine, Gone
from service.cli.formats import OutputError
from service.cli.frames import Frame, FrameOptions, Frames, VideoError, open_frames
from service.cli.inputs import Input
from service.cli.output import Output
from service.cli.records import Record
from service.core.tracking import Tracker, TrackOptions
from service.errors import MienError, TooLarge
from service.types import Pixels
from service.vision.codec import ImageLimits

T = TypeVar("T")
R = TypeVar("R")

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is done with each input."""

    limits: ImageLimits
    every: int = 1
    """Of a video's frames, each so-many-th."""
    tracks: bool = False
    at_once: int | None = None
    """Pictures in work; None for what keeps the engine busy."""


class Run:
    """Analyses inputs, draws, writes and reports."""

    def __init__(
        self,
        engine: Engine,
        options: RunOptions,
        *,
        output: Output | None,
        drawings: Mapping[str, Path],
        report: Callable[[Record], None],
    ) -> None:
        """Put it together.

        Args:
            engine: who analyses.
            options: how.
            output: where results are written, if anywhere.
            drawings: where those of inputs go, by their keys.
            report: is told of each result, in order.
        """
        self._engine = engine
        self._options = options
        self._output = output
        self._drawings = drawings
        self._report = report
        self._at_once = options.at_once or engine.at_once
        self.analysed = 0
        self.failed = 0

    async def all(self, inputs: Sequence[Input]) -> None:
        """Go through the inputs; a bad one is told of and the next one follows.

        Raises:
            Gone: nothing more can be analysed.
            OSError: results cannot be written.
        """
        for are_photos, group in groupby(inputs, lambda each: each.kind == "photo"):
            if are_photos:
                await self._photos(group)
            else:
                for video in group:
                    await self._video(video)

    def fail(self, name: str, error: object) -> None:
        """Tell of a fault, and count it."""
        self.failed += 1
        complain(f"{name}: {error}")

    async def _photos(self, photos: Iterable[Input]) -> None:
        async with aclosing(in_order(_each(photos), self._photo, self._at_once)) as outcomes:
            async for photo, outcome in outcomes:
                if isinstance(outcome, Record):
                    self._emit(outcome)
                else:
                    self.fail(photo.name, outcome)

    async def _photo(self, photo: Input) -> Record:
        limits = self._options.limits
        data = await asyncio.to_thread(_read, photo.path, limits.max_bytes)
        record = Record(photo.name, await self._engine.analyze(data))
        if target := self._drawings.get(photo.key):
            await asyncio.to_thread(draw_photo, data, record, target, limits)
        return record

    async def _video(self, source: Input) -> None:
        every = self._options.every
        # Neither tracks nor a drawn video can be gone on with.
        whole = self._options.tracks or source.key in self._drawings
        done: Collection[int] = ()
        try:
            if self._output is not None:
                done = self._output.frames_done(source, every=every, whole=whole)
            async with open_frames(source, FrameOptions(every, done)) as frames:
                if self._output is not None and source.kind == "video":
                    self._output.begin(source, every=every, whole=whole)
                await self._finish(source, frames)
        except (VideoError, OutputError) as error:
            if self._output is not None and self._output.unfinished == source.key:
                # What comes next would stand behind half a video.
                raise Gone(f"{source.name} is unfinished there: {error}") from error
            self.fail(source.name, error)

    async def _finish(self, source: Input, frames: Frames) -> None:
        fault = None
        try:
            await self._frames(source, frames)
        except (VideoError, DrawingError) as error:
            fault = str(error)
            self.fail(source.name, fault)
        # Not reached where the run is cut off: the video is unfinished then.
        if self._output is not None and source.kind == "video":
            self._output.end(source, fault)

    async def _frames(self, source: Input, frames: Frames) -> None:
        tracker = self._tracker(frames.fps) if self._options.tracks else None
        target = self._drawings.get(source.key)
        ended: list[VideoError] = []
        faults: list[Exception] = []
        # What comes live is told of before the next frame is waited for.
        at_once = 1 if source.kind == "live" else self._at_once
        readable = _until_fault(frames.each, ended)
        with drawing(target, frames.fps) as draw:
            async with aclosing(in_order(readable, self._frame, at_once)) as outcomes:
                async for frame, outcome in outcomes:
                    if not isinstance(outcome, Record):
                        faults.append(outcome)
                        continue
                    record = Record(source.name, outcome.result, frame.number, frame.time_s)
                    if tracker is not None:
                        record = record.tracked(tracker.update(record.result.faces, frame.time_s))
                    draw(frame.pixels, record)
                    self._emit(record)
        failures = [str(error) for error in ended]
        if faults:
            failures.append(f"{len(faults):,} frames failed; the first of them: {faults[0]}")
        if failures:
            raise VideoError("; ".join(failures))

    def _tracker(self, fps: float) -> Tracker:
        # With few frames a second, too, a face may be missed in one of them.
        gap_s = max(TrackOptions().max_gap_s, 2 / fps)
        return Tracker(self._engine.heads, TrackOptions(max_gap_s=gap_s))

    async def _frame(self, frame: Frame) -> Record:
        data = await asyncio.to_thread(_encode, frame.pixels)
        return Record("", await self._engine.analyze(data))

    def _emit(self, record: Record) -> None:
        if self._output is not None:
            self._output.write(record)
        self._report(record)
        self.analysed += 1


async def in_order(
    items: AsyncIterator[T], work: Callable[[T], Awaitable[R]], at_once: int
) -> AsyncGenerator[tuple[T, R | Exception], None]:
    """Work on several items at a time, and give each with what came of it, in their order.

    Raises:
        Gone: nothing more can be done; what is in work is given up.
    """
    waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
    try:
        async for item in items:
            waiting.append((item, asyncio.ensure_future(work(item))))
            if len(waiting) >= at_once:
                first, future = waiting.popleft()
                yield first, await _outcome(future)
        while waiting:
            first, future = waiting.popleft()
            yield first, await _outcome(future)
    finally:
        for _, future in waiting:
            future.cancel()
        await asyncio.gather(*(future for _, future in waiting), return_exceptions=True)


async def _outcome(future: asyncio.Future[Any]) -> Any:
    """What came of it, or the error that is this item's alone."""
    try:
        return await future
    except Gone:
        raise
    except (MienError, OSError) as error:
        return error


async def _each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def _until_fault(
    frames: AsyncIterator[Frame], faults: list[VideoError]
) -> AsyncIterator[Frame]:
    """Frames up to a fault of the video, which is kept: those that are in work are still good."""
    try:
        async for frame in frames:
            yield frame
    except VideoError as error:
        faults.append(error)


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise TooLarge("bytes", size, max_bytes)
        # What has no size, as a pipe, is not read without end.
        return file.read(max_bytes + 1)


def _encode(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".jpg", pixels, _JPEG)
    if not done:
        raise VideoError("a frame cannot be encoded")
    return data.tobytes()
