"""uvicorn, with a drain: on SIGTERM it first says that it is unready, then stops."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.api.messages import MAX_TEXT_BYTES
from service.api.protocol import BoundedProtocol
from service.api.websocket import BoundedWebSocket
from service.core.pipeline import Analyzer
from service.settings import Settings


def run(app: FastAPI, settings: Settings) -> None:
    """Serve `app` until a signal; returns when every admitted request was answered."""
    make_server(app, settings).run()


def make_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """The server that `run` runs."""
    # A client whose frames are not read, for they are many, cannot be heard to answer a ping.
    deaf_s = settings.request_timeout_s + settings.stream_send_timeout_s
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws=BoundedWebSocket,
        ws_max_size=max(settings.max_frame_bytes, MAX_TEXT_BYTES),
        ws_ping_interval=settings.stream_ping_s,
        ws_ping_timeout=max(settings.stream_ping_s, deaf_s),
        # Encoded images do not become smaller, and each session would keep its tables.
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        # Without proxies that are named, uvicorn would believe whoever asks from loopback.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout_s)),
    )
    return _DrainingServer(config, app, settings.drain_delay_s)


class _DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI, delay_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._delay_s = delay_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.streams.drain()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        analyzer: Analyzer = self._app.state.analyzer
        first = not analyzer.draining
        analyzer.drain()
        if first and self._delay_s > 0 and self._loop is not None:
            # A load balancer needs a moment to see /readyz before connections are refused.
            stop = super().handle_exit
            self._loop.call_soon_threadsafe(self._loop.call_later, self._delay_s, stop, sig, frame)
        else:
            super().handle_exit(sig, frame)
