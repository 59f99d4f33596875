"""A client of the service, over REST and streams; `docs/client.md` shows its use."""

from mien.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    Problem,
    RateLimited,
    Refused,
    StreamClosed,
    Unauthorized,
    Unavailable,
)
from mien.client.rest import AsyncClient, Client
from mien.client.retry import Retry
from mien.client.stream import AsyncStream, Stream

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "Problem",
    "RateLimited",
    "Refused",
    "Retry",
    "Stream",
    "StreamClosed",
    "Unauthorized",
    "Unavailable",
]
