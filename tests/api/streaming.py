"""A real server in this loop, a client that knows the protocol, and analyses at a gate."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
import websockets
from fastapi import FastAPI
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection

from service.api.app import create_app
from service.api.messages import ServerMessage
from service.api.server import make_server
from service.core.pipeline import Options
from service.errors import InvalidImage
from service.settings import Settings
from service.types import EMOTIONS, AnalyzedFace, Box, Face, Prediction, Quality, Result, Timings
from tests.fakes import until

SERVER_MESSAGE: TypeAdapter[Any] = TypeAdapter(ServerMessage)
PATIENCE_S = 20.0


def result(faces: int = 1) -> Result:
    """Happy faces in a picture of 64 x 48."""
    values = {label: 0.7 if label == "happy" else 0.05 for label in EMOTIONS}
    face = AnalyzedFace(
        Face(Box(10, 10, 20, 20), 0.9),
        {"emotion": Prediction("happy", 0.7, False, values)},
        Quality(20, 0.5),
    )
    models = {"detector": "haar@1.0.0", "emotion": "tiny@1.0.0"}
    return Result(64, 48, 1, (face,) * faces, models, Timings(0.001, 0.001, 0.001, 0.001, 0.004))


@dataclass
class Job:
    """An analysis that has begun and waits for the test."""

    data: bytes
    options: Options
    passed: asyncio.Event = field(default_factory=asyncio.Event)


class GatedAnalysis:
    """Stands in for `Analyzer.analyze`: each frame waits until the test lets it pass."""

    def __init__(self, app: FastAPI, *, faces: int = 1) -> None:
        self._faces = faces
        self.jobs: list[Job] = []
        self.open = False
        self.in_work = 0
        self.most_in_work = 0
        app.state.analyzer.analyze = self.analyze

    async def analyze(
        self, data: bytes, options: Options, *, deadline: float | None = None
    ) -> Result:
        if data.startswith(b"bad"):
            raise InvalidImage("it is bad")
        if data.startswith(b"bug"):
            raise RuntimeError("/secret/path")
        job = Job(data, options)
        self.jobs.append(job)
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        try:
            if not self.open:
                await job.passed.wait()
        finally:
            self.in_work -= 1
        return result(self._faces)

    async def begun(self, count: int) -> list[Job]:
        """Wait until so many have begun."""
        await until(lambda: len(self.jobs) >= count)
        return self.jobs

    def release(self) -> None:
        """Let all pass, also those that come."""
        self.open = True
        for job in self.jobs:
            job.passed.set()


@dataclass
class Served:
    """A server that listens."""

    app: FastAPI
    server: uvicorn.Server
    address: str

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        """A client that has connected."""
        options = {"subprotocols": ["mien.v1"], "close_timeout": 1, "max_queue": None, **options}
        async with websockets.connect(f"ws://{self.address}/v1/stream", **options) as socket:
            yield Client(socket)

    def value(self, name: str, **labels: str) -> float:
        """Of a metric."""
        return self.app.state.metrics.registry.get_sample_value(name, labels) or 0.0


@dataclass
class Client:
    """Checks every message of the server against the documented ones."""

    socket: ClientConnection

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            text = await self.socket.recv()
        message = json.loads(text)
        # Nothing is there that the model of the message does not know.
        parsed = SERVER_MESSAGE.validate_python(message)
        assert parsed.model_dump(mode="json", exclude_unset=True) == message
        return message

    async def send(self, message: bytes | str | dict[str, Any]) -> None:
        raw = json.dumps(message) if isinstance(message, dict) else message
        await self.socket.send(raw)

    async def send_raw(self, fragments: Iterable[bytes]) -> None:
        """One message in many parts, as far as the server takes them."""
        with suppress(websockets.ConnectionClosed):
            await self.socket.send(fragments)

    async def created(self, **options: Any) -> dict[str, Any]:
        """The first message; with options the answer to them."""
        message = await self.receive()
        assert message["type"] == "session.created"
        if options:
            await self.send({"type": "session.configure", **options})
            message = await self.receive()
            assert message["type"] == "session.configured"
        return message

    async def frames(self, count: int) -> list[dict[str, Any]]:
        """So many replies."""
        return [await self.receive() for _ in range(count)]

    async def close_code(self) -> tuple[int, str]:
        """What the server closes with; messages before it are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in messages(self.socket):
                pass
        return self.socket.close_code or 1006, self.socket.close_reason or ""


async def messages(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    """Until it is closed, whatever the code."""
    with suppress(websockets.ConnectionClosed):
        while True:
            yield await socket.recv()


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    """A server with these settings, once it is ready; stopped afterwards."""
    configured = Settings(**{"port": 0, "drain_timeout_s": 5, **settings})
    app = create_app(configured)
    server = make_server(app, configured)
    running = asyncio.create_task(server.serve())
    await until(lambda: running.done() or (server.started and not app.state.analyzer.unready))
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield Served(app, server, f"{host}:{port}")
    finally:
        server.should_exit = True
        await running
