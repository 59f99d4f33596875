"""Errors -> `application/problem+json` (RFC 9457): the one place where an error meets a status."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.core.metrics import Metrics
from service.errors import (
    DeadlineExceeded,
    InvalidImage,
    InvalidOption,
    MienError,
    NotReady,
    Overloaded,
    ServiceClosed,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)

MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


class BadRequest(MienError):
    """A body that does not have the form that it claims."""


class Unauthorized(MienError):
    """No valid key was shown."""


class Forbidden(MienError):
    """A page of another origin asked."""


class ClientGone(MienError):
    """The client closed its connection before the answer."""


class RateLimited(MienError):
    """This client asked more often than it may."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Kind:
    """How one class of error is answered."""

    status: int
    code: str
    title: str


# The first class that fits decides, so a subclass stands before its base.
KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (BadRequest, Kind(400, "bad_request", "The request could not be read")),
    (Unauthorized, Kind(401, "unauthorized", "A valid API key is needed")),
    (Forbidden, Kind(403, "forbidden", "Only the server's own pages may do this")),
    (TooLarge, Kind(413, "too_large", "The image or the body is over a limit")),
    (UnsupportedMedia, Kind(415, "unsupported_media", "This kind of content is not taken")),
    (InvalidImage, Kind(422, "invalid_image", "The bytes are not a whole, valid image")),
    (InvalidOption, Kind(422, "invalid_option", "An option cannot be met")),
    (RateLimited, Kind(429, "rate_limited", "Too many requests from this client")),
    # Nobody reads this one; nginx's status keeps it apart in logs and metrics.
    (ClientGone, Kind(499, "client_gone", "The client has gone")),
    (Overloaded, Kind(503, "overloaded", "The service is at its capacity")),
    (ServiceClosed, Kind(503, "draining", "The service is shutting down")),
    (NotReady, Kind(503, "not_ready", "The service is not ready")),
    (DeadlineExceeded, Kind(504, "deadline_exceeded", "The time for this request was up")),
)
INTERNAL = Kind(500, "internal", "Something failed inside the service")
# Work that was turned away, by the reason under which it is counted.
_SHED = (RateLimited, ClientGone, Unavailable, DeadlineExceeded)


def kind_of(error: Exception) -> Kind:
    """How `error` is answered; everything that is not in the table is an internal error."""
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        return Kind(error.status_code, title.lower().replace(" ", "_"), title)
    return next((kind for cls, kind in KINDS if isinstance(error, cls)), INTERNAL)


def problem(error: Exception, *, instance: str, request_id: str) -> dict[str, Any]:
    """The body of an error answer; what went wrong inside stays inside."""
    kind = kind_of(error)
    return {
        "type": f"urn:mien:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail(error),
        "instance": instance,
        "code": kind.code,
        "request_id": request_id,
    }


def detail(error: Exception) -> str:
    """What the client is told of it."""
    if kind_of(error) is INTERNAL:
        return "the request failed and was logged under its request id"
    return str(error.detail if isinstance(error, HTTPException) else error)


def note(error: Exception, metrics: Metrics) -> None:
    """Count an error, and log it if nobody expected it."""
    kind = kind_of(error)
    metrics.errors.labels(kind.code).inc()
    if isinstance(error, _SHED):
        metrics.shed.labels(kind.code).inc()
    if kind is INTERNAL:
        log.error("internal_error", exc_info=error)


def install(app: FastAPI) -> None:
    """Answer the expected errors of `app` as problems; `Telemetry` answers the others."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[JSONResponse]]] = {
        MienError: answer,
        HTTPException: answer,
    }
    for cls, handler in handlers.items():
        app.add_exception_handler(cls, handler)


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Count, log and answer one error."""
    note(error, request.app.state.metrics)
    return respond(request, error)


def respond(request: Request, error: Exception) -> JSONResponse:
    """The answer alone, for what is no error but a state."""
    body = problem(error, instance=request.url.path, request_id=request.state.request_id)
    return JSONResponse(body, body["status"], headers=_headers(error), media_type=MEDIA_TYPE)


def refusal(error: Exception, metrics: Metrics) -> tuple[dict[str, str], bytes]:
    """Headers and body for what never reaches the application, and is counted all the same."""
    note(error, metrics)
    request_id = uuid4().hex
    body = json.dumps(problem(error, instance="", request_id=request_id)).encode()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "x-request-id": request_id,
        "server-timing": "total;dur=0.00",
        "connection": "close",
    }
    return headers, body


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, Unavailable | RateLimited):
        return {"retry-after": str(math.ceil(error.retry_after_s))}
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    headers = dict(getattr(error, "headers", None) or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # see `Telemetry`
    return headers
