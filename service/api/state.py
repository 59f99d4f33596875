"""The `state` of a stream: its tracks, signed, for a client that goes on at another replica."""

from __future__ import annotations

import json
import secrets
from time import time
from typing import Any

from itsdangerous import BadData, URLSafeSerializer
from pydantic import SecretStr, TypeAdapter, ValidationError

from service.core.tracking import Tracker, TrackerState
from service.errors import InvalidOption

_MOST_TRACKS = 32
"""In a token: with three heads it then stays under the 16 KiB of a message."""
_DECIMALS = 4
_STATE = TypeAdapter(TrackerState)


class StateTokens:
    """Writes and reads tokens; replicas with one key read each other's."""

    def __init__(self, key: SecretStr | None) -> None:
        secret = key.get_secret_value() if key else secrets.token_bytes(32)
        # itsdangerous compresses what it signs where that makes it shorter.
        self._signer = URLSafeSerializer(secret, salt="mien.v1 state")

    def write(self, tracker: Tracker) -> str:
        """What the tracker knows now."""
        state = _STATE.dump_python(tracker.state(_MOST_TRACKS))
        token: str | bytes = self._signer.dumps({"at": time(), "tracker": _rounded(state)})
        return token if isinstance(token, str) else token.decode()

    def resume(self, tracker: Tracker, token: str, now: float) -> int:
        """Let the tracker go on from a token; how many tracks it took over.

        Raises:
            InvalidOption: none of ours, or changed.
        """
        try:
            content = self._signer.loads(token)
            state = _STATE.validate_python(content["tracker"])
        except (BadData, ValidationError) as error:
            raise InvalidOption("resume: no state that this service has signed") from error
        # Clocks of replicas differ a little: nothing was seen in the future.
        return tracker.resume(state, now, max(time() - content["at"], 0.0))


def _rounded(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=lambda digits: round(float(digits), _DECIMALS))
