from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import structlog
from fastapi import FastAPI

from service.api.app import create_app
from service.settings import Settings

PHOTO = Path(__file__).parent.parent / "media" / "astronaut.jpg"


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app`, once it is ready; the app is stopped afterwards."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://mien") as client:
            for _ in range(3000):
                if (await client.get("/readyz")).status_code == 200:
                    break
                await asyncio.sleep(0.01)
            yield client


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a fresh app with these settings."""
    async with running(create_app(Settings(**settings))) as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    # structlog's default draws every traceback with its variables, which takes seconds.
    processors = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(processors=processors)


@pytest.fixture(scope="session")
def photo() -> bytes:
    return PHOTO.read_bytes()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def app() -> FastAPI:
    return create_app(Settings())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client
