"""Streams: frames in, one reply each, in order; docs/stream.md is the protocol."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import websockets
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as open_async
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_sync

from mien.client.calls import authorization, read
from mien.client.errors import ConnectionFailed, ConnectionLost, StreamClosed
from mien.client.messages import CLOSE, MAX_REPLY_BYTES, SUBPROTOCOL, Inbox, configure, stream_url
from mien.client.types import Photo, Reply, Session, Totals

_UNOPENED = (OSError, websockets.InvalidHandshake, websockets.InvalidURI)


class Stream:
    """An open stream: one thread may send while another one receives.

    Replies wait until they are taken, so take them: a server does not wait long for a client that
    does not read.
    """

    def __init__(
        self, socket: ClientConnection, options: Mapping[str, Any], timeout_s: float
    ) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._inbox = Inbox()
        self._receiving = threading.Lock()
        self.session: Session = self._told()
        """What the server said at first: `session_id`, `limits`, `models`."""
        self._say(configure(options))
        self.options: dict[str, Any] = self._told()
        """What holds: the server may have lowered a limit."""

    def send(self, frame: Photo) -> None:
        """Send an encoded image.

        Raises:
            StreamClosed: the server has ended the stream.
            OSError: its file cannot be read.
        """
        data = read(frame)
        self._inbox.sent += 1
        self._say(data)

    def receive(self) -> Reply:
        """Wait for the next reply, without an end while every frame is answered.

        Raises:
            StreamClosed: none will come.
            ConnectionLost: a frame was not answered for `timeout_s`.
        """
        while True:
            with self._receiving:
                if (reply := self._inbox.take()) is not None:
                    return reply
                self._inbox.put(self._read())

    def __iter__(self) -> Iterator[Reply]:
        """Replies until the stream is closed, by `close` in another thread or by the server."""
        while True:
            try:
                yield self.receive()
            except StreamClosed as error:
                if error.code == 1000:
                    return
                raise

    def analyze(self, frames: Iterable[Photo]) -> Iterator[Reply]:
        """Send frames as fast as they are answered, and give a reply for each.

        Replies to frames that were sent before are passed over.
        """
        first = self._inbox.sent
        for frame in frames:
            self.send(frame)
            yield from self._replies(first, self.options["max_in_flight"] - 1)
        yield from self._replies(first, 0)

    def close(self) -> Totals:
        """End the stream once every frame is answered; replies can still be taken afterwards.

        Raises:
            StreamClosed: the server ended it before.
            ConnectionLost: it said nothing for `timeout_s`.
        """
        if self._inbox.totals is None:
            self._inbox.closing = True
            self._say(CLOSE)
        while self._inbox.totals is None:
            with self._receiving:
                if self._inbox.totals is None:
                    self._inbox.put(self._read())
        return self._inbox.totals

    def _replies(self, first: int, most: int) -> Iterator[Reply]:
        """Replies to frames from `first` on, until only `most` frames wait for theirs."""
        while self._inbox.untaken > most:
            reply = self.receive()
            if reply["frame"] >= first:
                yield reply

    def _say(self, message: bytes | str) -> None:
        try:
            self._socket.send(message)
        except websockets.ConnectionClosed as error:
            raise _closed(error) from error

    def _read(self) -> bytes | str:
        while True:
            # Nobody has to answer a stream that only waits for its next frame.
            owed = self._inbox.owed
            try:
                return self._hear()
            except ConnectionLost:
                if owed:
                    raise

    def _hear(self) -> bytes | str:
        try:
            return self._socket.recv(self._timeout_s)
        except TimeoutError as error:
            raise _silent(self._timeout_s) from error
        except websockets.ConnectionClosed as error:
            raise _closed(error) from error

    def _told(self) -> Any:
        return json.loads(self._hear())


class AsyncStream:
    """As `Stream`: one task may send while another one receives."""

    def __init__(self, socket: AsyncConnection, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._inbox = Inbox()
        self._receiving = asyncio.Lock()
        self.session: Session
        """What the server said at first: `session_id`, `limits`, `models`."""
        self.options: dict[str, Any]
        """What holds: the server may have lowered a limit."""

    async def open(self, options: Mapping[str, Any]) -> None:
        """Hear the server, and tell it what is wanted; `AsyncClient.stream` does this."""
        self.session = cast(Session, await self._told())
        await self._say(configure(options))
        self.options = await self._told()

    async def send(self, frame: Photo) -> None:
        """Send an encoded image.

        Raises:
            StreamClosed: the server has ended the stream.
            OSError: its file cannot be read.
        """
        data = frame if isinstance(frame, bytes) else await asyncio.to_thread(read, frame)
        # Before it is sent: a task that is cancelled meanwhile has sent it all the same.
        self._inbox.sent += 1
        await self._say(data)

    async def receive(self) -> Reply:
        """Wait for the next reply, without an end while every frame is answered.

        Raises:
            StreamClosed: none will come.
            ConnectionLost: a frame was not answered for `timeout_s`.
        """
        while True:
            async with self._receiving:
                if (reply := self._inbox.take()) is not None:
                    return reply
                self._inbox.put(await self._read())

    async def __aiter__(self) -> AsyncIterator[Reply]:
        """Replies until the stream is closed, by `close` in another task or by the server."""
        while True:
            try:
                yield await self.receive()
            except StreamClosed as error:
                if error.code == 1000:
                    return
                raise

    async def analyze(self, frames: Iterable[Photo] | AsyncIterable[Photo]) -> AsyncIterator[Reply]:
        """Send frames as fast as they are answered, and give a reply for each.

        Replies to frames that were sent before are passed over.
        """
        first = self._inbox.sent
        async for frame in _each(frames):
            await self.send(frame)
            async for reply in self._replies(first, self.options["max_in_flight"] - 1):
                yield reply
        async for reply in self._replies(first, 0):
            yield reply

    async def close(self) -> Totals:
        """End the stream once every frame is answered; replies can still be taken afterwards.

        Raises:
            StreamClosed: the server ended it before.
            ConnectionLost: it said nothing for `timeout_s`.
        """
        if self._inbox.totals is None:
            self._inbox.closing = True
            await self._say(CLOSE)
        while self._inbox.totals is None:
            async with self._receiving:
                if self._inbox.totals is None:
                    self._inbox.put(await self._read())
        return self._inbox.totals

    async def _replies(self, first: int, most: int) -> AsyncIterator[Reply]:
        """Replies to frames from `first` on, until only `most` frames wait for theirs."""
        while self._inbox.untaken > most:
            reply = await self.receive()
            if reply["frame"] >= first:
                yield reply

    async def _say(self, message: bytes | str) -> None:
        try:
            await self._socket.send(message)
        except websockets.ConnectionClosed as error:
            raise _closed(error) from error

    async def _read(self) -> bytes | str:
        while True:
            # Nobody has to answer a stream that only waits for its next frame.
            owed = self._inbox.owed
            try:
                return await self._hear()
            except ConnectionLost:
                if owed:
                    raise

    async def _hear(self) -> bytes | str:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._socket.recv()
        except TimeoutError as error:
            raise _silent(self._timeout_s) from error
        except websockets.ConnectionClosed as error:
            raise _closed(error) from error

    async def _told(self) -> Any:
        return json.loads(await self._hear())


@contextmanager
def connect(
    url: str, api_key: str | None, timeout_s: float, options: Mapping[str, Any]
) -> Iterator[Stream]:
    """A stream that is open within the block; see `Client.stream`.

    Raises:
        ClientError: no header can show this key.
        ConnectionFailed: no connection came about.
        StreamClosed: the server does not take the stream, or not these options.
    """
    try:
        connection = open_sync(stream_url(url), **_settings(api_key, timeout_s))
    except _UNOPENED as error:
        raise _unopened(url, error) from error
    with connection as socket:
        yield Stream(socket, options, timeout_s)


@asynccontextmanager
async def connect_async(
    url: str, api_key: str | None, timeout_s: float, options: Mapping[str, Any]
) -> AsyncIterator[AsyncStream]:
    """As `connect`."""
    try:
        socket = await open_async(stream_url(url), **_settings(api_key, timeout_s))
    except _UNOPENED as error:
        raise _unopened(url, error) from error
    async with socket:
        stream = AsyncStream(socket, timeout_s)
        await stream.open(options)
        yield stream


def _settings(api_key: str | None, timeout_s: float) -> dict[str, Any]:
    return {
        "subprotocols": [SUBPROTOCOL],
        "additional_headers": authorization(api_key),
        "open_timeout": timeout_s,
        "max_size": MAX_REPLY_BYTES,
        # Images do not become smaller, and the server offers none.
        "compression": None,
    }


def _unopened(url: str, error: Exception) -> ConnectionFailed:
    return ConnectionFailed(f"{stream_url(url)}: {error or type(error).__name__}")


def _silent(timeout_s: float) -> ConnectionLost:
    return ConnectionLost(f"the server said nothing for {timeout_s:g} s")


def _closed(error: websockets.ConnectionClosed) -> StreamClosed:
    if error.rcvd is None:
        return StreamClosed(1006, "the connection broke")
    return StreamClosed(error.rcvd.code, error.rcvd.reason)


async def _each(frames: Iterable[Photo] | AsyncIterable[Photo]) -> AsyncIterator[Photo]:
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
    else:
        for frame in frames:
            yield frame
