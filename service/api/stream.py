"""`/v1/stream`: who may open a stream, how many there are, and how each of them ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import structlog
from fastapi import APIRouter, WebSocket
from starlette.datastructures import State
from starlette.websockets import WebSocketDisconnect

from service.api import problems
from service.api.gate import Gate, address
from service.api.messages import LimitsOut, SessionAuth, SessionCreated, parse
from service.api.session import GONE, Close, Parts, Session
from service.api.state import StateTokens
from service.api.telemetry import bind
from service.build import stream_frames
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer
from service.errors import MienError, NotReady, Overloaded
from service.settings import Settings

SUBPROTOCOL = "mien.v1"
# RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code.
_MAX_REASON_BYTES = 123

router = APIRouter()
log = structlog.get_logger(__name__)


class Streams:
    """What all streams share: places, and how many frames are in work at a time."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._free = settings.max_streams
        self._most_of_one = settings.max_client_streams
        self._clients: Counter[str] = Counter()
        self._open = metrics.stream_sessions
        self.capacity = asyncio.Semaphore(stream_frames(settings))
        self.draining = asyncio.Event()
        self.states = StateTokens(settings.stream_state_key)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places.

        Raises:
            Overloaded: all are taken.
        """
        if self._free == 0:
            raise Overloaded("too many streams at a time", retry_after_s=1.0)
        self._free -= 1
        self._open.inc()
        try:
            yield
        finally:
            self._free += 1
            self._open.dec()

    @contextmanager
    def share(self, client: str) -> Iterator[None]:
        """Hold one of the places of this client.

        Raises:
            RateLimited: it has all of them.
        """
        if self._clients[client] >= self._most_of_one:
            raise problems.RateLimited("too many streams of this client", retry_after_s=1.0)
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            self._clients += Counter()  # drops the zeros

    def drain(self) -> None:
        """Let every session answer what it holds, and end."""
        self.draining.set()


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Serve one stream from its handshake to its close."""
    state = websocket.app.state
    session_id = uuid4().hex
    bind(request_id=session_id)
    try:
        # Also who is refused is let in first: before, there is no close code to be told.
        offered = websocket.scope["subprotocols"]
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        close = await _serve(websocket, session_id)
    except WebSocketDisconnect:
        close = GONE
    except asyncio.CancelledError:
        # uvicorn cancels what is left when the time to drain is up.
        close = Close(1001, "draining")
    except MienError as error:
        problems.note(error, state.metrics)
        close = _refusal(error)
    except Exception as error:
        problems.note(error, state.metrics)
        close = Close(1011, "internal")
    await _end(websocket, close)
    log.info("stream", code=close.code, reason=close.reason)


async def _serve(websocket: WebSocket, session_id: str) -> Close:
    state = websocket.app.state
    streams: Streams = state.streams
    offered = websocket.scope["subprotocols"]
    if offered and SUBPROTOCOL not in offered:
        return Close(1008, f"offer the subprotocol {SUBPROTOCOL}")
    if streams.draining.is_set() or state.analyzer.draining:
        return Close(1001, "draining")
    if reason := state.analyzer.unready:
        raise NotReady(f"not ready: {reason}", retry_after_s=1.0)
    # Before it takes a place: who shows no key must not keep out those who do.
    client = await _admit(websocket)
    if isinstance(client, Close):
        return client
    with streams.share(client), streams.place():
        return await _run(Session(websocket, _parts(state), session_id), state, session_id)


async def _run(session: Session, state: State, session_id: str) -> Close:
    try:
        await session.send(_created(state, session_id))
        close = await session.run()
        if close.code == 1000:
            await session.send(session.closed())
    except TimeoutError:
        return Close(None, "the client does not read")
    return close


async def _admit(websocket: WebSocket) -> str | Close:
    """Check key and rate; where the headers show no key, the first message must."""
    state = websocket.app.state
    gate: Gate = state.gate
    if not gate.expects_key(websocket):
        return gate.admit(websocket)
    try:
        # Until the key tells who it is, a client is known by its address.
        with state.streams.share(address(websocket)):
            async with asyncio.timeout(state.settings.head_timeout_s):
                message = await websocket.receive()
    except TimeoutError:
        message = {"type": "websocket.receive"}
    if message["type"] == "websocket.disconnect":
        return GONE
    try:
        first = parse(message.get("text") or "{}")
    except problems.BadRequest as error:
        return Close(1007, str(error))
    except MienError:
        first = None
    shown = first.key.encode() if isinstance(first, SessionAuth) else b""
    return gate.admit(websocket, shown)


def _parts(state: State) -> Parts:
    streams: Streams = state.streams
    return Parts(
        settings=state.settings,
        analyzer=state.analyzer,
        gate=state.gate,
        metrics=state.metrics,
        options=state.options,
        states=streams.states,
        capacity=streams.capacity,
        draining=streams.draining,
    )


def _created(state: State, session_id: str) -> SessionCreated:
    settings: Settings = state.settings
    analyzer: Analyzer = state.analyzer
    limits = LimitsOut(
        max_in_flight=settings.max_stream_in_flight,
        max_frame_bytes=settings.max_frame_bytes,
        max_pixels=settings.max_pixels,
        max_side=settings.max_side,
        max_faces=settings.max_faces,
        frame_timeout_s=settings.request_timeout_s,
        idle_timeout_s=settings.stream_idle_timeout_s,
    )
    models = analyzer.ids_for(state.options)
    return SessionCreated(session_id=session_id, limits=limits, models=models)


def _refusal(error: MienError) -> Close:
    """1013 for who may try again later, 1008 for who may not."""
    busy = isinstance(error, Overloaded | NotReady)
    return Close(1013 if busy else 1008, f"{problems.kind_of(error).code}: {error}")


async def _end(websocket: WebSocket, close: Close) -> None:
    if close.code is None:
        return
    reason = close.reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
    try:
        async with asyncio.timeout(websocket.app.state.settings.stream_send_timeout_s):
            await websocket.close(close.code, reason)
    except (WebSocketDisconnect, RuntimeError, TimeoutError):
        pass  # gone, or not reading: the server drops the connection
