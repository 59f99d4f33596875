"""When a call is tried again: only where nothing was done yet, and only so often."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mien.client.errors import ClientError, ConnectionFailed, RateLimited, Unavailable


@dataclass(frozen=True, slots=True)
class Retry:
    """No connection, 429, and 503 with a Retry-After are tried again; `Retry(attempts=1)` is none.

    The wait is what the server asks for, and doubles from `first_wait_s` beside it, less up to a
    half by chance: clients that were turned away together do not come back together.
    """

    attempts: int = 3
    """Of one call, all in all."""
    first_wait_s: float = 0.25
    longest_wait_s: float = 30.0
    """A server that asks for more is not waited for: its answer is raised at once."""

    def wait_s(self, attempt: int, error: ClientError) -> float | None:
        """How long to wait after the failure of the `attempt`-th attempt; None to give up."""
        asked = _asked(error)
        if attempt >= self.attempts or asked is None or asked > self.longest_wait_s:
            return None
        backed_off = min(self.first_wait_s * 2.0 ** (attempt - 1), self.longest_wait_s)
        return asked + backed_off * random.uniform(0.5, 1.0)


def _asked(error: ClientError) -> float | None:
    """Seconds that the server asks to wait; None where another attempt is of no use."""
    if isinstance(error, ConnectionFailed):
        return 0.0
    if isinstance(error, RateLimited):
        return error.retry_after_s or 0.0
    if isinstance(error, Unavailable):
        return error.retry_after_s
    return None
