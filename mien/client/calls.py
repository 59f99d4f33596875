"""Calls as values, and answers read: what both clients share, without any transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mien.client.errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    Problem,
    problem_class,
)
from mien.client.types import Photo

# The server reads the format from the bytes, whichever of the image types is named.
_IMAGE = {"content-type": "image/jpeg"}
_LONGEST_TIMEOUT_MS = 999_999_999


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be sent."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    files: Sequence[tuple[str, bytes]] | None = None


def read(photo: Photo) -> bytes:
    """The bytes of a photo.

    Raises:
        OSError: its file cannot be read.
    """
    return photo if isinstance(photo, bytes) else Path(photo).read_bytes()


def one(path: str, photo: bytes, options: Mapping[str, Any]) -> Call:
    """A call with one image as its body."""
    return Call("POST", path, _params(options), _IMAGE, photo)


def several(path: str, photos: Sequence[bytes], options: Mapping[str, Any]) -> Call:
    """A call with images in a form."""
    return Call("POST", path, _params(options), files=[("images", photo) for photo in photos])


def headers(api_key: str | None, timeout_s: float) -> httpx.Headers:
    """What goes with every call: the key, and how long the server's work is of use.

    Raises:
        ClientError: no header can show this key.
    """
    timeout_ms = min(max(round(1000 * timeout_s), 1), _LONGEST_TIMEOUT_MS)
    told = {"request-timeout-ms": str(timeout_ms)} | authorization(api_key)
    return httpx.Headers(told, encoding="latin-1")


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that shows a key, if there is one: its UTF-8, a character a byte.

    Raises:
        ClientError: no header can show this key.
    """
    if api_key is None:
        return {}
    if not api_key or not api_key.isprintable() or api_key != api_key.strip():
        raise ClientError("the API key is empty, or has spaces around it or control characters")
    return {"authorization": f"Bearer {api_key.encode().decode('latin-1')}"}


def answer(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        Problem: the server's answer is an error.
        ClientError: the answer is none of this service's.
    """
    if not response.is_success:
        raise _problem(response)
    try:
        return response.json()
    except ValueError as error:
        raise ClientError(f"{response.url} answers, but is no mien service") from error


def failure(error: httpx.TransportError) -> ClientError:
    """What a failed transport is called here."""
    # A failure to get through a proxy is one to connect, too.
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
    kind = ConnectionFailed if isinstance(error, unsent) else ConnectionLost
    where = error.request.url.copy_with(query=None)
    return kind(f"{where}: {str(error) or type(error).__name__}")


def _params(options: Mapping[str, Any]) -> dict[str, str]:
    return {name: _param(value) for name, value in options.items() if value is not None}


def _param(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return ",".join(map(str, value))


def _problem(response: httpx.Response) -> Problem:
    try:
        body = response.json()
    except ValueError:
        body = None
    # A proxy on the way answers in a form of its own.
    said = body if isinstance(body, dict) else {}
    return problem_class(response.status_code)(
        response.status_code,
        str(said.get("code", f"http_{response.status_code}")),
        str(said.get("detail", response.reason_phrase)),
        request_id=said.get("request_id") or response.headers.get("x-request-id"),
        retry_after_s=_seconds(response.headers.get("retry-after")),
    )


def _seconds(value: str | None) -> float | None:
    # The other form, a date, is none that this service sends.
    return float(value) if value is not None and value.isdecimal() else None
