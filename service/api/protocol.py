"""uvicorn's HTTP protocol, with bounds on a request's head and the contract's form of errors."""

from __future__ import annotations

import asyncio
from itertools import chain

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api import problems
from service.core.metrics import Metrics
from service.settings import Settings


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line and headers, or trailers, are too long or too slow.

    httptools has no limit of its own: 150 MB of headers were taken, and kept.
    """

    _unparsed = 0
    """Bytes since a head was complete or a body grew."""
    _refusal = ""
    """Why the parser was stopped, where it found nothing wrong itself."""
    _head_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client may not connect and say nothing."""
        self._settings: Settings = self.config.app.state.settings  # type: ignore[union-attr]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse `data`; the callbacks below reset the count where it made progress."""
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > self._settings.max_head_bytes and not self.transport.is_closing():
            self.send_400_response(self._too_large())

    def on_message_begin(self) -> None:
        """The first byte of a request, perhaps on a connection that was kept alive."""
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From here on the application's own limits hold."""
        self._stop_timer()
        self._unparsed = 0
        # It may have come in one piece, with what is behind it.
        if len(self.url) + sum(map(len, chain(*self.headers))) > self._settings.max_head_bytes:
            self._refusal = self._too_large()
            raise ValueError(self._refusal)  # the parser stops, and uvicorn asks for a 400
        before = self.cycle
        super().on_headers_complete()
        # Not an upgrade; and what answers a HEAD has no body.
        if self.cycle is not before and self.cycle.scope["method"] != "HEAD":
            self.cycle.transport = _Joining(self.cycle)  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """The application counts these."""
        self._unparsed = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what never reached the application as it would have."""
        metrics: Metrics = self.config.app.state.metrics  # type: ignore[union-attr]
        headers, body = problems.refusal(problems.BadRequest(self._refusal or msg), metrics)
        head = ("HTTP/1.1 400 Bad Request", *(f"{name}: {headers[name]}" for name in headers))
        self.transport.write("\r\n".join((*head, "", "")).encode() + body)
        self.transport.close()

    def _too_large(self) -> str:
        return f"the request's head is over {self._settings.max_head_bytes:,} bytes"

    def _expect_head(self) -> None:
        self._stop_timer()
        self._head_timeout = self.loop.call_later(
            self._settings.head_timeout_s, self.transport.close
        )

    def _stop_timer(self) -> None:
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None


class _Joining:
    """What uvicorn writes a response to: its head goes with the beginning of its body.

    uvicorn writes them apart: a system call more, and a client that is woken twice.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle: RequestResponseCycle | None = cycle
        self._transport = cycle.transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, or keep the head until there is more."""
        if self._cycle is not None and self._cycle.response_started:
            self._head = data
            self._cycle = None  # the two would hold each other
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def is_closing(self) -> bool:
        """Whether nothing more is taken."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection, after all that was written."""
        if self._head:
            self.write(b"")
        self._transport.close()
