"""A camera of the network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.cli.commands import SMALL


@contextmanager
def broadcast(count: int) -> Iterator[str]:
    """A camera of the network that shows so many pictures (MJPEG over HTTP)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(SMALL)}\r\n\r\n"
            with suppress(ConnectionError):  # who watches may leave
                for _ in range(count):
                    self.wfile.write(head.encode() + SMALL + b"\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/live.mjpg"
        finally:
            server.shutdown()
