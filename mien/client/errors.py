"""What a call can end with, as a tree.

ClientError
├── ConnectionFailed     no connection came about: nothing was sent
├── ConnectionLost       it broke, or took longer than `timeout_s`, before the answer was there
├── StreamClosed         the stream has ended
└── Problem              the server answered with an error
    ├── Refused          what was sent is at fault: 400, 413, 415, 422
    ├── Unauthorized     no valid key was shown: 401
    ├── RateLimited      this client asked too often: 429
    ├── Unavailable      the server cannot take the work now: 503
    └── DeadlineExceeded the time was up before the work was done: 504
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of every error that this client raises on purpose."""


class ConnectionFailed(ClientError):
    """No connection came about: nothing was sent."""


class ConnectionLost(ClientError):
    """It broke, or took longer than `timeout_s`, before the answer was there."""


class StreamClosed(ClientError):
    """The stream has ended.

    Attributes:
        code: WebSocket close code, as docs/stream.md lists them; 1006 when it just broke.
        reason: what the server said to it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the stream was closed with {code}{f': {reason}' if reason else ''}")
        self.code, self.reason = code, reason


class Problem(ClientError):
    """The server answered with an error.

    Attributes:
        status: of HTTP.
        code: the contract's name for it, as `too_large`; docs/api.md lists them.
        detail: a sentence for people.
        request_id: under which the server logged it, if it said so.
        retry_after_s: when a new attempt has a chance, if it said so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.code, self.detail = status, code, detail
        self.request_id, self.retry_after_s = request_id, retry_after_s


class Refused(Problem):
    """What was sent is at fault; `code` says how."""


class Unauthorized(Problem):
    """No valid key was shown."""


class RateLimited(Problem):
    """This client asked too often."""


class Unavailable(Problem):
    """The server cannot take the work now."""


class DeadlineExceeded(Problem):
    """The time was up before the work was done."""


_BY_STATUS: dict[int, type[Problem]] = {
    **dict.fromkeys((400, 413, 415, 422), Refused),
    401: Unauthorized,
    429: RateLimited,
    503: Unavailable,
    504: DeadlineExceeded,
}


def problem_class(status: int) -> type[Problem]:
    """The class for a status of HTTP; plain `Problem` for one that has none of its own."""
    return _BY_STATUS.get(status, Problem)
