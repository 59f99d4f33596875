"""The clients: one that waits, and one for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Self, Unpack, cast

import httpx

from mien.client import calls, stream
from mien.client.calls import Call
from mien.client.errors import ClientError, Unavailable
from mien.client.retry import Retry
from mien.client.types import (
    Analysis,
    AnalyzeOptions,
    BatchItem,
    Card,
    Explained,
    ExplainOptions,
    Photo,
    StreamOptions,
)

_ANALYZE, _BATCH, _EXPLAIN = "/v1/analyze", "/v1/analyze/batch", "/v1/explain"
_MODELS, _READY = Call("GET", "/v1/models"), Call("GET", "/readyz")
_ONCE = Retry(attempts=1)


class Client:
    """Calls a service and waits for its answers; for use from any thread.

    Every call raises a `ClientError`, and `OSError` for a photo that cannot be read.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect when the first call is made.

        Args:
            url: of the service, as `http://127.0.0.1:8000`.
            api_key: where the service asks for one.
            timeout_s: longest wait for a connection, and for the server to go on; the server is
                told, and drops work that cannot be done by then.
            retry: what is tried again, and when; None for `Retry()`.
            transport: of httpx, for another than the network.
        """
        self._url, self._api_key, self._timeout_s = url, api_key, timeout_s
        self._retry = retry or Retry()
        self._http = httpx.Client(
            base_url=url,
            headers=calls.headers(api_key, timeout_s),
            timeout=timeout_s,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def analyze(self, photo: Photo, **options: Unpack[AnalyzeOptions]) -> Analysis:
        """Find every face in one image."""
        return cast(Analysis, self._call(calls.one(_ANALYZE, calls.read(photo), options)))

    def analyze_batch(
        self, photos: Iterable[Photo], **options: Unpack[AnalyzeOptions]
    ) -> list[BatchItem]:
        """A result or an error for each image, in order; a bad one costs the others nothing."""
        call = calls.several(_BATCH, [calls.read(photo) for photo in photos], options)
        return cast(list[BatchItem], self._call(call)["results"])

    def explain(self, photo: Photo, **options: Unpack[ExplainOptions]) -> Explained:
        """As `analyze`, with a picture for each face and head of what its answer rests on."""
        return cast(Explained, self._call(calls.one(_EXPLAIN, calls.read(photo), options)))

    def models(self) -> list[Card]:
        """The cards of all served models."""
        return cast(list[Card], self._call(_MODELS)["models"])

    def ready(self) -> bool:
        """Whether the service takes work; asked once."""
        try:
            self._call(_READY, _ONCE)
        except Unavailable:
            return False
        return True

    def stream(self, **options: Unpack[StreamOptions]) -> AbstractContextManager[stream.Stream]:
        """Open a stream of frames for a `with` block; opening is not tried again."""
        return stream.connect(self._url, self._api_key, self._timeout_s, options)

    def _call(self, call: Call, retry: Retry | None = None) -> Any:
        attempt = 1
        while True:
            try:
                return calls.answer(self._send(call))
            except ClientError as error:
                wait_s = (retry or self._retry).wait_s(attempt, error)
                if wait_s is None:
                    raise
            time.sleep(wait_s)
            attempt += 1

    def _send(self, call: Call) -> httpx.Response:
        try:
            return self._http.request(
                call.method,
                call.path,
                params=call.params,
                headers=call.headers,
                content=call.content,
                files=call.files,
            )
        except httpx.TransportError as error:
            raise calls.failure(error) from error


class AsyncClient:
    """As `Client`, for one event loop of asyncio."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Take what `Client` takes."""
        self._url, self._api_key, self._timeout_s = url, api_key, timeout_s
        self._retry = retry or Retry()
        self._http = httpx.AsyncClient(
            base_url=url,
            headers=calls.headers(api_key, timeout_s),
            timeout=timeout_s,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def analyze(self, photo: Photo, **options: Unpack[AnalyzeOptions]) -> Analysis:
        """Find every face in one image."""
        return cast(Analysis, await self._call(calls.one(_ANALYZE, await _read(photo), options)))

    async def analyze_batch(
        self, photos: Iterable[Photo], **options: Unpack[AnalyzeOptions]
    ) -> list[BatchItem]:
        """A result or an error for each image, in order; a bad one costs the others nothing."""
        call = calls.several(_BATCH, [await _read(photo) for photo in photos], options)
        return cast(list[BatchItem], (await self._call(call))["results"])

    async def explain(self, photo: Photo, **options: Unpack[ExplainOptions]) -> Explained:
        """As `analyze`, with a picture for each face and head of what its answer rests on."""
        return cast(Explained, await self._call(calls.one(_EXPLAIN, await _read(photo), options)))

    async def models(self) -> list[Card]:
        """The cards of all served models."""
        return cast(list[Card], (await self._call(_MODELS))["models"])

    async def ready(self) -> bool:
        """Whether the service takes work; asked once."""
        try:
            await self._call(_READY, _ONCE)
        except Unavailable:
            return False
        return True

    def stream(
        self, **options: Unpack[StreamOptions]
    ) -> AbstractAsyncContextManager[stream.AsyncStream]:
        """Open a stream of frames for an `async with` block; opening is not tried again."""
        return stream.connect_async(self._url, self._api_key, self._timeout_s, options)

    async def _call(self, call: Call, retry: Retry | None = None) -> Any:
        attempt = 1
        while True:
            try:
                return calls.answer(await self._send(call))
            except ClientError as error:
                wait_s = (retry or self._retry).wait_s(attempt, error)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)
            attempt += 1

    async def _send(self, call: Call) -> httpx.Response:
        try:
            return await self._http.request(
                call.method,
                call.path,
                params=call.params,
                headers=call.headers,
                content=call.content,
                files=call.files,
            )
        except httpx.TransportError as error:
            raise calls.failure(error) from error


async def _read(photo: Photo) -> bytes:
    return photo if isinstance(photo, bytes) else await asyncio.to_thread(calls.read, photo)
