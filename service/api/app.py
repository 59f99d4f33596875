"""The application: a factory and its lifespan; no state at import time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

import service
from service.api import ops, page, problems, rest, stream
from service.api.gate import Gate
from service.api.telemetry import Telemetry
from service.api.work import WorkFirst, WorkRoute
from service.build import default_options, explain_defaults, open_analyzer
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer
from service.settings import Settings

log = structlog.get_logger(__name__)

_DESCRIPTION = """Faces in an image, each with seven emotion probabilities, gender and age band.

Stateless: no image and no result is stored. Read the models' `limits` before use: emotion
recognition is restricted or forbidden in some settings (EU AI Act, Articles 5 and 50)."""


def create_app(settings: Settings) -> FastAPI:
    """Make the application for `settings`.

    Models are loaded and verified here; when it starts up they are warmed up, while it answers
    `/livez` and `/readyz` says when they are. It starts once: what was stopped stays so.

    Raises:
        ModelError: a model, or the detector's file, is missing, damaged or not what its card says.
    """
    metrics = Metrics(CollectorRegistry())
    app = WorkFirst(
        title="mien",
        version=service.__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        # Swagger and ReDoc would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat whatever host the client named.
        redirect_slashes=False,
        # What is measured stands at /metrics; nothing is sent anywhere.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.options = default_options(settings)
    app.state.explain_options = explain_defaults(settings)
    app.state.analyzer = open_analyzer(settings, metrics)
    app.state.gate = Gate(settings, app.state.analyzer.retry_after_s)
    app.state.streams = stream.Streams(settings, metrics)
    app.include_router(ops.router, tags=["operations"])
    app.include_router(rest.work_router, tags=["analysis"])
    app.include_router(rest.router, tags=["analysis"])
    app.include_router(stream.router)
    page.install(app)
    problems.install(app)
    app.add_middleware(Telemetry, metrics=metrics)
    app.work = {
        route.path: Telemetry(route.alone(), metrics)
        for route in rest.work_router.routes
        if isinstance(route, WorkRoute)
    }
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    analyzer: Analyzer = app.state.analyzer
    starting = asyncio.create_task(_start(analyzer))
    try:
        yield
    finally:
        app.state.streams.drain()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await analyzer.close(drain_s=settings.drain_timeout_s)


async def _start(analyzer: Analyzer) -> None:
    try:
        await analyzer.start()
    except Exception:
        # Stay up and unready: an orchestrator sees the reason on /readyz.
        log.exception("start_failed")
        return
    log.info("ready", models=[model.card.id for model in analyzer.models.values()])
