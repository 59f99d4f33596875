"""Who analyses: the `Analyzer` in this process, or a running service through `mien.client`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import numpy as np
from prometheus_client import CollectorRegistry

from service.api.schemas import AnalyzeOut, FaceOut
from service.build import default_options, open_analyzer, stream_frames
from service.card import HeadSpec
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer
from service.errors import MienError, Overloaded
from service.settings import Settings
from service.types import (
    HEADS,
    AnalyzedFace,
    Box,
    Face,
    Head,
    Prediction,
    Quality,
    Result,
    Timings,
)

_AT_ONCE_REMOTE = 8
"""Enough to keep the batchers of a server busy, and few for one of its clients."""


class Gone(MienError):
    """Nothing more can be analysed."""


class RemoteError(MienError):
    """What the service says of one image."""


class Engine(Protocol):
    """Analyses images."""

    @property
    def heads(self) -> Mapping[Head, HeadSpec]:
        """What is answered of each face."""
        ...

    @property
    def at_once(self) -> int:
        """How many images keep it busy."""
        ...

    async def analyze(self, data: bytes) -> Result:
        """Analyse an encoded image.

        Raises:
            MienError: this one cannot be analysed; `Gone` if none can be.
        """
        ...


class LocalEngine:
    """The same door as the service's."""

    def __init__(self, analyzer: Analyzer, settings: Settings) -> None:
        self._analyzer = analyzer
        self._options = default_options(settings)
        cards = analyzer.heads_for(self._options)
        self.heads = {head: card.heads[head] for head, card in cards.items()}
        self.at_once = stream_frames(settings)

    async def analyze(self, data: bytes) -> Result:
        """Analyse an encoded image; where the queues are full, once there is room."""
        while True:
            try:
                return await self._analyzer.analyze(data, self._options)
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)


@asynccontextmanager
async def local_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Models of this process, warm.

    Raises:
        ModelError: a model cannot be served.
    """
    analyzer = open_analyzer(settings, Metrics(CollectorRegistry()))
    try:
        await analyzer.start()
        yield LocalEngine(analyzer, settings)
    finally:
        await analyzer.close(drain_s=settings.drain_timeout_s)


class RemoteEngine:
    """A running service; its answers are rounded, as the contract says."""

    at_once = _AT_ONCE_REMOTE

    def __init__(self, client: Any, heads: Mapping[Head, HeadSpec]) -> None:
        self._client = client
        self.heads = heads

    async def analyze(self, data: bytes) -> Result:
        """Analyse an encoded image."""
        from mien import client

        try:
            answer = await self._client.analyze(data)
        except (client.ConnectionFailed, client.Unauthorized) as error:
            raise Gone(str(error)) from error
        except client.ClientError as error:
            raise RemoteError(str(error)) from error
        return to_result(AnalyzeOut.model_validate(answer))


@asynccontextmanager
async def remote_engine(url: str, api_key: str | None) -> AsyncIterator[Engine]:
    """A service that answers.

    Raises:
        Gone: it does not, or the client is not installed.
    """
    try:
        # Imported here: without `--server` none of it is needed.
        from mien import client
    except ModuleNotFoundError as error:
        raise Gone(f"--server needs {error.name}: pip install 'mien[client]'") from error
    # Nobody waits for a single image here, so that a server may be busy, or start anew.
    patient = client.Retry(attempts=5, longest_wait_s=120)
    once = client.Retry(attempts=1)
    try:
        async with client.AsyncClient(url, api_key, retry=once) as asking:
            heads = _heads(await asking.models())
    except client.ClientError as error:
        raise Gone(str(error)) from error
    async with client.AsyncClient(url, api_key, retry=patient) as remote:
        yield RemoteEngine(remote, heads)


def to_result(out: AnalyzeOut) -> Result:
    """Read the contract's form of a result."""
    seconds = {stage: value / 1000 for stage, value in out.timings_ms.model_dump().items()}
    return Result(
        width=out.image.width,
        height=out.image.height,
        orientation=out.image.orientation,
        faces=tuple(map(_face, out.faces)),
        models=out.models,
        timings=Timings(**seconds),
    )


def _face(out: FaceOut) -> AnalyzedFace:
    points = None if out.landmarks is None else list(out.landmarks.model_dump().values())
    face = Face(
        Box(**out.box.model_dump()),
        out.detection_score,
        None if points is None else np.array(points, np.float32),
    )
    said = {head: getattr(out, head) for head in HEADS}
    predictions = {head: Prediction(**p.model_dump()) for head, p in said.items() if p is not None}
    return AnalyzedFace(face, predictions, Quality(**out.quality.model_dump()))


def _heads(cards: list[dict[str, Any]]) -> dict[Head, HeadSpec]:
    """What the service answers by default, in the order of the contract."""
    default = {head: card["heads"][head] for card in cards for head in card["default"]}
    return {head: HeadSpec.model_validate(default[head]) for head in HEADS if head in default}
