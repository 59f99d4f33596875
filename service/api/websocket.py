"""uvicorn's WebSocket protocol, with bounds that the application cannot set from inside."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidOrigin
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import Origin

from service.api import problems
from service.api.messages import MAX_TEXT_BYTES
from service.core.metrics import Metrics

_MAX_FRAGMENTS = 4096
_LINGER_S = 5.0
"""For the client to take the last bytes and close; a client that does not read never would."""

_QUIET_S = 0.25
"""Without a byte from a client that was told to go: it has taken note."""


class _Handshake(ServerProtocol):
    """Refuses in the contract's form of errors."""

    def __init__(self, max_size: int, metrics: Metrics) -> None:
        super().__init__(max_size=max_size)
        self._metrics = metrics

    def process_origin(self, headers: Headers) -> Origin | None:
        """Take pages of this server, and who is no page at all.

        No CORS holds a WebSocket: any website may open one to a server that the browser reaches.
        """
        origin = super().process_origin(headers)
        if origin is not None:
            host = origin.partition("://")[2].lower()
            if [host] != [name.lower() for name in headers.get_all("Host")]:
                raise InvalidOrigin(origin)
        return origin

    def reject(self, status: int, text: str) -> Response:
        """Answer what becomes no stream."""
        error = _reason(status, text.strip(), self.handshake_exc)
        headers, body = problems.refusal(error, self._metrics)
        answered = HTTPStatus(problems.kind_of(error).status)
        return Response(answered.value, answered.phrase, Headers(headers), body)


def _reason(status: int, text: str, cause: Exception | None) -> Exception:
    if isinstance(cause, InvalidOrigin):
        return problems.Forbidden(f"a page of {cause.value} may not open a stream here")
    if status == HTTPStatus.FORBIDDEN:
        # So uvicorn says that the application did not accept; on its one path, it does.
        return HTTPException(404, "there is no stream at this path")
    return problems.BadRequest(text) if status < 500 else RuntimeError(text)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Ends what would be kept without limit, and leaves the end of a session to the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        metrics: Metrics = self.config.app.state.metrics  # type: ignore[union-attr]
        self.conn = _Handshake(MAX_TEXT_BYTES, metrics)

    def data_received(self, data: bytes) -> None:
        """The first `data` are a whole head; uvicorn would wait for ever after one it cannot read.

        websockets takes no line over 8 KiB, and no more than 128 headers.
        """
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            refused = b"".join(self.conn.data_to_send())
            self.transport.write(
                refused or self.conn.reject(400, "this is no WebSocket handshake").serialize()
            )
            self.transport.close()

    async def send(self, message: Any) -> None:
        """Take messages in full size from the server's first one on: it has let the client in.

        Before that there is only a key to be shown.
        """
        if message["type"] == "websocket.send":
            self.conn.max_message_size = self.config.ws_max_size
        await super().send(message)

    def handle_cont(self, event: Frame) -> None:
        """Refuse a message in very many parts: empty ones could go on for ever."""
        if len(self.frames) >= _MAX_FRAGMENTS:
            self.conn.fail(1009, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the client does not read: its pongs would pile up."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def keepalive_timeout(self) -> None:
        """The client has vanished."""
        super().keepalive_timeout()
        self._abort_later()

    def shutdown(self) -> None:
        """The server stops: the session is told by `Streams`, answers what it holds, and closes."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()

    async def run_asgi(self) -> None:
        """Serve; what is not read soon after the end never will be."""
        try:
            await super().run_asgi()
        finally:
            self._abort_later()

    def handle_parser_exception(self) -> None:
        """Close for bytes that are no WebSocket, or too many of them.

        What the client still sends is read and thrown away for a while: a socket that is closed
        with bytes unread is reset, and the client would not get the code (RFC 9293, 3.10.4).
        """
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(_QUIET_S, self.transport.close)
        if self.close_sent or (close := self.conn.close_sent) is None:
            return
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._abort_later()

    def _abort_later(self) -> None:
        self.loop.call_later(_LINGER_S, self.transport.abort)
