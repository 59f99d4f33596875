"""Who is let in: keys, rates and room, of requests and streams alike."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import HTTPConnection

from service.api.problems import RateLimited, Unauthorized
from service.errors import Overloaded
from service.settings import Settings


class Gate:
    """Lets a client in: API key and rate limit, both optional, and only so many at a time."""

    def __init__(self, settings: Settings, retry_after_s: Callable[[], float]) -> None:
        """Make a gate.

        Args:
            settings: with its limits.
            retry_after_s: when to come again for whom there is no room.
        """
        self._retry_after_s = retry_after_s
        self._keys = [key.get_secret_value().encode() for key in settings.api_keys]
        self._limit = parse(settings.rate_limit) if settings.rate_limit else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._room = settings.max_requests
        self._free_bytes = settings.max_held_bytes
        self._for_requests = settings.max_held_bytes // 2

    def expects_key(self, connection: HTTPConnection) -> bool:
        """Whether keys are set and the headers show none, right or wrong."""
        return bool(self._keys) and not shown_key(connection)

    def admit(self, connection: HTTPConnection, key: bytes | None = None) -> str:
        """Let a request or a stream pass.

        Args:
            connection: who asks.
            key: the key that was shown, where it did not come in the headers.

        Returns:
            What the client is counted by: its key, or else its address.

        Raises:
            Unauthorized: keys are set and none of them was shown.
            RateLimited: the client has used up its limit; wrong keys count for the address.
        """
        client, index = address(connection), None
        if self._keys:
            index = self._find_key(shown_key(connection) if key is None else key)
        if index is not None:
            client = f"key {index}"
        self._count(client)
        if self._keys and index is None:
            raise Unauthorized("show an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        return client

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Hold one of the places for requests; gives what counts the bytes of its body.

        Many slow bodies would otherwise fill the memory before one of them is over its limit.

        Raises:
            Overloaded: all places are taken; from what it gives: the bytes do not fit.
        """
        if self._room == 0:
            raise self._overloaded("too many requests at a time")
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            self.take_bytes(count)
            held += count

        self._room -= 1
        try:
            yield hold
        finally:
            self._room += 1
            self.give_bytes(held)

    def take_bytes(self, count: int, *, stream: bool = False) -> None:
        """Count bytes that are kept from now on, until `give_bytes`.

        Args:
            count: of them.
            stream: whether they are a stream's, which leave half of the room to requests.

        Raises:
            Overloaded: they do not fit.
        """
        if count > self._free_bytes - (self._for_requests if stream else 0):
            raise self._overloaded("too many bytes at a time")
        self._free_bytes -= count

    def give_bytes(self, count: int) -> None:
        """They are not kept any more."""
        self._free_bytes += count

    def _overloaded(self, detail: str) -> Overloaded:
        return Overloaded(detail, retry_after_s=self._retry_after_s())

    def _count(self, client: str) -> None:
        if self._limit is not None and not self._limiter.hit(self._limit, client):
            reset = self._limiter.get_window_stats(self._limit, client).reset_time
            raise RateLimited("this client has used up its rate limit", max(reset - time(), 1.0))

    def _find_key(self, shown: bytes) -> int | None:
        # Every key is compared, so that the time does not tell which one was nearly right.
        matches = [hmac.compare_digest(shown, key) for key in self._keys]
        return matches.index(True) if any(matches) else None


def address(connection: HTTPConnection) -> str:
    """Where the client is; that of a proxy is the client's where the proxy is trusted."""
    client = connection.client
    return client.host if client else "unknown"


def shown_key(connection: HTTPConnection) -> bytes:
    """The key that the headers show, as the bytes that came; empty for none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else None
    return (bearer or connection.headers.get("x-api-key", "")).encode("latin-1")
