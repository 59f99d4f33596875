"""One stream: frames in, exactly one reply each, in order.

Three tasks share a `FrameQueue`: one reads, one has frames analysed, one replies. What a session
may hold is bounded by the queue; what all may have in work, by `Streams.capacity`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.api import problems
from service.api.gate import Gate
from service.api.messages import (
    BadMessage,
    FrameDropped,
    FrameError,
    LatencyOut,
    SessionAuth,
    SessionClosed,
    SessionConfigure,
    SessionConfigured,
    on_tracks,
    parse,
)
from service.api.schemas import Json, encode, to_json
from service.api.state import StateTokens
from service.api.waiting import InTime
from service.core.frames import Frame, FrameQueue, Outcome
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer, Options
from service.core.tracking import Tracker, TrackOptions
from service.errors import InvalidOption, Overloaded, TooLarge
from service.settings import Settings
from service.types import Result

_LATENCIES = 1000


@dataclass(frozen=True, slots=True)
class Close:
    """How a session ends."""

    code: int | None
    """None where nobody is left to be told."""
    reason: str = ""
    answers: bool = False
    """Whether what is held is still answered."""


GONE = Close(None, "the client has gone")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session uses of the application."""

    settings: Settings
    analyzer: Analyzer
    gate: Gate
    metrics: Metrics
    options: Options
    states: StateTokens
    capacity: asyncio.Semaphore
    draining: asyncio.Event


class Session:
    """One WebSocket connection that was let in."""

    def __init__(self, websocket: WebSocket, parts: Parts, session_id: str) -> None:
        self._websocket = websocket
        self._parts = parts
        self._id = session_id
        self._counts: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._work: set[asyncio.Task[None]] = set()
        self._frames = FrameQueue("latest", 2)
        self._configure(SessionConfigure(type="session.configure"))

    async def run(self) -> Close:
        """Serve until the client or the server ends it; all tasks have ended then.

        Raises:
            TimeoutError: the client does not read.
        """
        reading = asyncio.create_task(self._read())
        draining = asyncio.create_task(self._parts.draining.wait())
        serving = [asyncio.create_task(self._dispatch()), asyncio.create_task(self._reply())]
        tasks = [reading, draining, *serving]
        try:
            await _first(tasks)
            close = reading.result() if reading.done() else Close(1001, "draining", answers=True)
            if close.answers:
                reading.cancel()
                self._frames.finish()
                await _first(serving)
            return close
        except WebSocketDisconnect:
            return GONE
        finally:
            for task in (*tasks, *self._work):
                task.cancel()
            await asyncio.gather(*tasks, *self._work, return_exceptions=True)
            self._frames.abandon()

    def closed(self) -> SessionClosed:
        """The totals."""
        counts = {name: self._counts[name] for name in ("processed", "dropped", "failed")}
        latency = LatencyOut(p50=None, p95=None, p99=None)
        if self._latencies:
            quantiles = np.quantile(self._latencies, (0.5, 0.95, 0.99))
            p50, p95, p99 = (round(float(value), 3) for value in quantiles)
            latency = LatencyOut(p50=p50, p95=p95, p99=p99)
        return SessionClosed(received=self._frames.received, **counts, latency_ms=latency)

    async def send(self, message: BaseModel | Json) -> None:
        """Send one message: a model, or plain values in the form of one.

        Raises:
            WebSocketDisconnect: the client has gone.
            TimeoutError: it does not read.
        """
        async with asyncio.timeout(self._parts.settings.stream_send_timeout_s):
            await self._websocket.send_text(encode(message).decode())

    # Reading ---------------------------------------------------------------------------------

    async def _read(self) -> Close:
        settings = self._parts.settings
        while True:
            await self._frames.room()
            try:
                async with asyncio.timeout(settings.stream_idle_timeout_s):
                    message = await self._websocket.receive()
            except TimeoutError:
                return Close(1008, "idle for too long", answers=True)
            if message["type"] == "websocket.disconnect":
                return GONE
            data, text = message.get("bytes"), message.get("text")
            close = self._take(data) if data is not None else await self._told(text or "")
            if close is not None:
                return close
            # What the server has read ahead comes without a wait; others must have their turn.
            await asyncio.sleep(0)

    def _take(self, data: bytes) -> Close | None:
        limit, now = self._parts.settings.max_frame_bytes, asyncio.get_running_loop().time()
        if len(data) > limit:
            return Close(1009, f"the limit is {limit:,} bytes a frame")
        gate, size = self._parts.gate, len(data)
        try:
            gate.take_bytes(size, stream=True)
        except Overloaded as error:
            self._frames.refuse(error, now)
            return None
        frame = self._frames.add(data, now)
        frame.outcome.add_done_callback(lambda _: gate.give_bytes(size))
        return None

    async def _told(self, text: str) -> Close | None:
        try:
            message = parse(text)
            if isinstance(message, SessionConfigure):
                await self.send(self._configure(message))
                return None
        except TooLarge as error:
            return Close(1009, str(error))
        except problems.BadRequest as error:
            return Close(1007, str(error))
        except BadMessage as error:
            return Close(1003, str(error))
        except InvalidOption as error:
            return Close(1008, f"invalid_option: {error}")
        if isinstance(message, SessionAuth):
            return None  # a client that always shows its key, where none is asked for
        return Close(1000, answers=True)

    def _configure(self, wanted: SessionConfigure) -> SessionConfigured:
        if self._frames.received:
            raise InvalidOption("session.configure comes before the first frame")
        if not wanted.track and (wanted.state or wanted.resume):
            raise InvalidOption("state and resume need track")
        analyzer = self._parts.analyzer
        options = wanted.merged(self._parts.options)
        heads = analyzer.heads_for(options)
        lowest = 2 if wanted.drop_policy == "latest" else 1
        most = self._parts.settings.max_stream_in_flight
        in_flight = min(max(wanted.max_in_flight, lowest), most)
        self._options, self._landmarks, self._state = options, wanted.landmarks, wanted.state
        self._frames.configure(wanted.drop_policy, in_flight)
        specs = {head: card.heads[head] for head, card in heads.items()}
        tracks = TrackOptions(smoothing_s=wanted.smoothing)
        self._tracker = Tracker(specs, tracks) if wanted.track else None
        resumed = 0
        if self._tracker is not None and wanted.resume:
            now = asyncio.get_running_loop().time()
            resumed = self._parts.states.resume(self._tracker, wanted.resume, now)
        return SessionConfigured(
            attributes=list(heads),
            models=analyzer.ids_for(options),
            max_faces=options.max_faces,
            min_face_px=options.min_face_px,
            detection_threshold=options.detection_threshold,
            landmarks=wanted.landmarks,
            detect=wanted.detect,
            track=wanted.track,
            smoothing=wanted.smoothing,
            drop_policy=wanted.drop_policy,
            max_in_flight=in_flight,
            state=wanted.state,
            resumed_tracks=resumed,
        )

    # Analysing -------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        while True:
            await self._frames.ready()
            # Only one frame of a session stands in line: first come, first served among sessions
            # is a round robin then, however fast one of them sends.
            await self._parts.capacity.acquire()
            task = asyncio.create_task(self._analyze(self._frames.begin()))
            self._work.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Not in a `finally` of the task: one that is cancelled before its first step has none.
        self._work.discard(task)
        self._parts.capacity.release()

    async def _analyze(self, frame: Frame) -> None:
        until = frame.arrived_at + self._parts.settings.request_timeout_s
        outcome: Outcome
        try:
            with InTime(until):
                outcome = await self._parts.analyzer.analyze(
                    frame.data, self._options, deadline=until
                )
        except Exception as error:  # a bad frame keeps the session
            outcome = error
        frame.settle(outcome)

    # Replying --------------------------------------------------------------------------------

    async def _reply(self) -> None:
        while (pair := await self._frames.next_outcome()) is not None:
            frame, outcome = pair
            if isinstance(outcome, Result):
                await self._send_result(frame, outcome)
            elif outcome is None:
                await self.send(FrameDropped(frame=frame.number))
                self._count("dropped")
            else:
                problems.note(outcome, self._parts.metrics)
                code, detail = problems.kind_of(outcome).code, problems.detail(outcome)
                await self.send(FrameError(frame=frame.number, code=code, detail=detail))
                self._count("failed")
            self._frames.answered()

    async def _send_result(self, frame: Frame, result: Result) -> None:
        started = perf_counter()
        message = self._result(frame, result)
        self._parts.metrics.stages["encode"].observe(perf_counter() - started)
        await self.send(message)
        self._latencies.append(1000 * (asyncio.get_running_loop().time() - frame.arrived_at))
        self._count("processed")

    def _result(self, frame: Frame, result: Result) -> Json:
        tracks: list[int] | None = None
        if self._tracker is not None:
            tracked = self._tracker.update(result.faces, frame.arrived_at)
            tracks = [track for track, _ in tracked]
            result = replace(result, faces=tuple(face for _, face in tracked))
        out = to_json(result, request_id=f"{self._id}-{frame.number}", landmarks=self._landmarks)
        faces = on_tracks(out["faces"], tracks)
        reply = {"type": "frame.result", "frame": frame.number, **out, "faces": faces}
        if self._tracker is not None and self._state:
            reply["state"] = self._parts.states.write(self._tracker)
        return reply

    def _count(self, result: str) -> None:
        self._counts[result] += 1
        self._parts.metrics.stream_frames.labels(result).inc()


async def _first(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for the first to end, and raise what it or another ended with."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
