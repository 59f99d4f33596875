"""Around every HTTP request: its id, its trace, its time, its log line and its metrics."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from time import perf_counter
from types import MappingProxyType

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import EventDict

from service.api import problems
from service.core.metrics import Metrics
from service.errors import ServiceClosed

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
# W3C Trace Context, 3.2.2: version ff and ids of zeros alone are invalid.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default=MappingProxyType({}))
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger(__name__)


def configure_logging(level: str) -> None:
    """JSON lines on standard error, of this service and of the server under it."""
    shared: list[structlog.typing.Processor] = [
        _with_bound,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def bind(**values: str) -> None:
    """What every log line says from here on, in place of what was bound before.

    A request or stream has a task of its own, where this ends; but the context of that is a copy,
    of its predecessor's where they came together on one connection.
    """
    _bound.set(values)


def _with_bound(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {**_bound.get(), **event}


class Telemetry:
    """ASGI middleware; the outermost, so that no answer lacks its headers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        headers = dict(reversed(scope["headers"]))
        request_id = _request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        scope.setdefault("state", {})["request_id"] = request_id
        # RFC 9110, 9.3.2: a HEAD is a GET; the server leaves the body out.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                stages_ms = scope["state"].get("timings_ms", {})
                timing = _server_timing(stages_ms, perf_counter() - started)
                added = {"x-request-id": request_id, "server-timing": timing}
                if _TRACEPARENT.fullmatch(traceparent):
                    added["traceparent"] = traceparent
                raw = [(name.encode(), value.encode()) for name, value in added.items()]
                message["headers"] = [*message["headers"], *raw]
            await send(message)

        bind(request_id=request_id, **_trace(traceparent))
        self._metrics.in_flight.inc()
        try:
            await self._app(inner, receive, send_with_headers)
        except (Exception, asyncio.CancelledError) as error:
            if status:
                raise
            response = await problems.answer(Request(scope), _expected(error))
            await response(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight.dec()
            # The route's template, not the path: a label must not be the client's to invent.
            route = getattr(inner.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._observe(route, method, status, perf_counter() - started)

    def _observe(self, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.http_seconds.labels(route, method, str(status)).observe(seconds)
        log.info("request", method=method, route=route, status=status, seconds=round(seconds, 6))


def _expected(error: Exception | asyncio.CancelledError) -> Exception:
    """Uvicorn cancels what is left when the time to drain is up, and would answer a plain 500."""
    if isinstance(error, asyncio.CancelledError):
        return ServiceClosed("stopped before the answer was ready", retry_after_s=1.0)
    return error


def _request_id(given: str) -> str:
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


def _trace(traceparent: str) -> dict[str, str]:
    match = _TRACEPARENT.fullmatch(traceparent)
    return {"trace_id": match["trace"]} if match else {}


def _server_timing(stages_ms: Mapping[str, float], total_s: float) -> str:
    # The total of the answer is that of the analysis; this one is of all that the server did.
    stages = {**stages_ms, "total": total_s * 1000}
    return ", ".join([f"{name};dur={value:.2f}" for name, value in stages.items()])
