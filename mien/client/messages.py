"""The protocol `mien.v1` as a client speaks it, without any transport."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from mien.client.errors import StreamClosed
from mien.client.types import Reply, Totals

SUBPROTOCOL = "mien.v1"
CLOSE = '{"type": "session.close"}'
MAX_REPLY_BYTES = 16 * 2**20
"""A reply with the most faces that a server can be set to give, 1000, is about 1 MB."""


def stream_url(url: str) -> str:
    """Where streams are, of a service at `url`."""
    return f"ws{url.removeprefix('http').rstrip('/')}/v1/stream"


def configure(options: Mapping[str, Any]) -> str:
    """The message that asks for `options`."""
    given = {name: value for name, value in options.items() if value is not None}
    return json.dumps({"type": "session.configure", **given}, default=list)


class Inbox:
    """What has come and was not taken yet, and what is still to come."""

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque()
        self._taken = 0
        self.sent = 0
        """Frames, which is what the next one is numbered."""
        self.closing = False
        """Whether the totals were asked for."""
        self.totals: Totals | None = None

    @property
    def untaken(self) -> int:
        """Frames whose reply was not taken yet, or has not come."""
        return self.sent - self._taken

    @property
    def owed(self) -> bool:
        """Whether the server has something to say."""
        return self.untaken > len(self._replies) or (self.closing and self.totals is None)

    def put(self, text: str | bytes) -> None:
        """Keep a message of the server."""
        message = json.loads(text)
        if message["type"] == "session.closed":
            self.totals = message
        else:
            self._replies.append(message)

    def take(self) -> Reply | None:
        """The next reply; None where one has to be waited for.

        Raises:
            StreamClosed: none will come.
        """
        if self._replies:
            self._taken += 1
            return self._replies.popleft()
        if self.totals is not None:
            raise StreamClosed(1000, "")
        return None
