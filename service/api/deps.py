"""What the endpoints need of a request: who asks, until when, and the bytes that came."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.gate import Gate
from service.api.problems import BadRequest, ClientGone
from service.api.schemas import ImageJson
from service.errors import InvalidOption, TooLarge, UnsupportedMedia
from service.settings import Settings

IMAGE_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/tiff",
    "image/gif",
    "image/avif",
)
_MULTIPART, _JSON = "multipart/form-data", "application/json"
_TIMEOUT_MS = re.compile(r"\d{1,9}")
# Around an image: multipart boundaries and headers, or JSON's braces and white space.
_ENVELOPE_BYTES = 16_384
# Base64 has none of these. A body that is full of them (20 MB of `[{},{},...`) made a tree of 1 GB
# in the parser before it was found wrong.
_STRUCTURE, _MAX_STRUCTURE = (b"[", b"{", b","), 64


async def admit(
    request: Request,
    _bearer: Annotated[object, Security(HTTPBearer(auto_error=False))],
    _key: Annotated[object, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> AsyncIterator[None]:
    """Dependency of every endpoint under `/v1`; it is asked before the body is read.

    The two schemes stand here for OpenAPI; `Gate` reads the headers itself.
    """
    with admitted(request) as request.state.hold:
        yield


def admitted(request: Request) -> AbstractContextManager[Callable[[int], None]]:
    """Let a request in: its key, its rate, and a place and room for its body while it lasts.

    Raises:
        MienError: as `Gate.admit` and, when it is entered, `Gate.room`.
    """
    gate: Gate = request.app.state.gate
    gate.admit(request)
    return gate.room()


def deadline(request: Request) -> float:
    """`loop.time()` until which the client waits: its `Request-Timeout-Ms`, at most the setting.

    Raises:
        InvalidOption: the header is no positive whole number.
    """
    longest: float = request.app.state.settings.request_timeout_s
    given = request.headers.get("request-timeout-ms")
    if given is not None and not (_TIMEOUT_MS.fullmatch(given) and int(given) > 0):
        raise InvalidOption("Request-Timeout-Ms must be a whole number of milliseconds over 0")
    seconds = longest if given is None else min(int(given) / 1000, longest)
    return asyncio.get_running_loop().time() + seconds


async def read_image(request: Request) -> bytes:
    """The one image of a request, in whichever of the three forms it came.

    Raises:
        BadRequest: the body does not have the form that its content type says.
        TooLarge: more bytes than the limit; nothing beyond it was kept.
        UnsupportedMedia: a content type that is not taken.
    """
    limit = request.app.state.settings.max_bytes
    kind = content_type(request)
    if kind in IMAGE_TYPES:
        return await _read(request, limit, of="the image")
    if kind == _JSON:
        # Base64 is four characters for three bytes.
        body = await _read(request, limit * 4 // 3 + _ENVELOPE_BYTES, of="the body")
        return _decode_json(body, limit)
    if kind == _MULTIPART:
        images = await _read_parts(request, "image", 1, limit + _ENVELOPE_BYTES)
        return _bounded(images[0], limit)
    fault = f"content type {kind!r} is not taken" if kind else "there is no content type"
    raise UnsupportedMedia(
        f"{fault}; send one of {', '.join(IMAGE_TYPES)}, {_MULTIPART} with the field `image`, "
        f"or {_JSON} with base64 under `image`"
    )


async def read_images(request: Request) -> list[bytes]:
    """The images of a batch request; each is held against its own limit later.

    Raises:
        BadRequest: the body is no multipart form with fields `images`, or has too many of them.
        TooLarge: the body as a whole is over its limit.
        UnsupportedMedia: a content type that is not taken.
    """
    if content_type(request) != _MULTIPART:
        raise UnsupportedMedia(f"a batch is {_MULTIPART} with several fields `images`")
    settings: Settings = request.app.state.settings
    return await _read_parts(request, "images", settings.max_batch_images, settings.max_batch_bytes)


def content_type(request: Request) -> str:
    """The media type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _limited(request: Request, limit: int, *, of: str) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge("bytes", int(declared), limit, of=of)
    received, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the client closed its connection before the end of its body")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        received += len(chunk)
        if received > limit:
            raise TooLarge("bytes", received, limit, of=of)
        request.state.hold(len(chunk))
        yield chunk


async def _read(request: Request, limit: int, *, of: str) -> bytes:
    return b"".join([chunk async for chunk in _limited(request, limit, of=of)])


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise TooLarge("bytes", len(data), limit)
    return data


def _decode_json(body: bytes, limit: int) -> bytes:
    if sum(map(body.count, _STRUCTURE)) > _MAX_STRUCTURE:
        raise BadRequest("the body must be one object with base64 under `image`")
    try:
        encoded = ImageJson.model_validate_json(body).image
        return _bounded(base64.b64decode(encoded, validate=True), limit)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise BadRequest(f"{where}: {first['msg']}") from error
    except (binascii.Error, ValueError) as error:
        raise BadRequest("image: not valid base64") from error


async def _read_parts(request: Request, field: str, count: int, limit: int) -> list[bytes]:
    parser = MultiPartParser(
        request.headers, _limited(request, limit, of="the body"), max_files=count, max_fields=0
    )
    # Images stay in memory: a spooled file would leave a face on the disk.
    parser.spool_max_size = limit
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(
            f"the form must hold file parts (with a filename) named {field!r}, at most {count}: "
            f"{error.message}"
        ) from error
    try:
        parts = form.multi_items()
        if not parts or any(name != field for name, _ in parts):
            raise BadRequest(f"the form must hold {field!r} and nothing else")
        return [await part.read() for _, part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()
