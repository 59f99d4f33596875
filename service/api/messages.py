"""The messages of `/v1/stream`, in and out; `docs/asyncapi.json` is made of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from service.api.problems import BadRequest
from service.api.schemas import AnalyzeOut, AnalyzeQuery, FaceOut, Json
from service.core.frames import DropPolicy
from service.errors import InvalidOption, MienError, TooLarge
from service.types import Head

MAX_TEXT_BYTES = 16_384


class BadMessage(MienError):
    """A message that is JSON, but none of the protocol's."""


class SessionAuth(BaseModel):
    """The key, for clients that cannot set headers (browsers); before all else."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["session.auth"]
    key: str = Field(min_length=1, max_length=4096)


class SessionConfigure(AnalyzeQuery):
    """Options of the session, as those of analyze; before the first frame."""

    type: Literal["session.configure"]
    track: bool = Field(True, description="Give each face a `track_id`, and smooth its answers.")
    smoothing: float = Field(
        0.6, ge=0, le=60, description="Time constant in seconds; 0 for each frame's own answer."
    )
    drop_policy: DropPolicy = Field(
        "latest",
        description="latest: a newer frame drops the one that waits; block: none is dropped, the "
        "server does not read on.",
    )
    max_in_flight: int = Field(
        2,
        ge=1,
        le=256,
        description="Frames held, waiting or in work; `latest` takes at least 2.",
    )
    state: bool = Field(
        False, description="Give a `state` with every result, to go on from in another session."
    )
    resume: str | None = Field(
        None, max_length=MAX_TEXT_BYTES, description="The `state` to go on from; needs `track`."
    )


class SessionClose(BaseModel):
    """Every frame sent before this is still answered."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["session.close"]


class LimitsOut(BaseModel):
    """What the server holds the session to."""

    max_in_flight: int
    max_frame_bytes: int
    max_pixels: int
    max_side: int
    max_faces: int
    frame_timeout_s: float
    idle_timeout_s: float


class SessionCreated(BaseModel):
    """The first message of the server."""

    type: Literal["session.created"] = "session.created"
    session_id: str
    limits: LimitsOut
    models: dict[str, str] = Field(description="`name@version` of the detector and each head.")


class SessionConfigured(BaseModel):
    """What holds now: a limit may be lower than was asked for."""

    type: Literal["session.configured"] = "session.configured"
    attributes: list[Head]
    models: dict[str, str]
    max_faces: int
    min_face_px: float
    detection_threshold: float | None
    landmarks: bool
    detect: bool
    track: bool
    smoothing: float
    drop_policy: DropPolicy
    max_in_flight: int
    state: bool
    resumed_tracks: int = Field(description="Tracks of `resume` that go on.")


class StreamFaceOut(FaceOut):
    """One face, on its track; the id is left out without `track`."""

    track_id: int | None = Field(
        None, ge=1, description="The same face has the same id in every frame."
    )


class FrameReply(BaseModel):
    """What every reply to a frame has."""

    type: str
    frame: int = Field(ge=0, description="Frames count from 0 in order of arrival.")


class FrameResult(AnalyzeOut, FrameReply):
    """What was found in a frame; as the answer of analyze."""

    model_config = ConfigDict(json_schema_extra={})

    type: Literal["frame.result"] = "frame.result"
    faces: Sequence[StreamFaceOut]
    state: str | None = Field(
        None,
        description="The tracks after this frame, signed, where `state` was asked for: a session "
        "at another replica goes on from it by `resume`.",
    )


class FrameDropped(FrameReply):
    """A frame that was not analysed, since a newer one came."""

    type: Literal["frame.dropped"] = "frame.dropped"
    reason: Literal["newer_frame"] = "newer_frame"


class FrameError(FrameReply):
    """A frame that could not be analysed; the session goes on."""

    type: Literal["frame.error"] = "frame.error"
    code: str = Field(description="As the `code` of a problem of the REST API.")
    detail: str


class LatencyOut(BaseModel):
    """From a frame's arrival to its reply, of the latest 1000 results; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class SessionClosed(BaseModel):
    """The last message of the server, after `session.close`."""

    type: Literal["session.closed"] = "session.closed"
    received: int
    processed: int
    dropped: int
    failed: int
    latency_ms: LatencyOut


ClientMessage = SessionAuth | SessionConfigure | SessionClose
ServerMessage = (
    SessionCreated | SessionConfigured | FrameResult | FrameDropped | FrameError | SessionClosed
)
_CLIENT: dict[str, type[SessionAuth] | type[SessionConfigure] | type[SessionClose]] = {
    "session.auth": SessionAuth,
    "session.configure": SessionConfigure,
    "session.close": SessionClose,
}


def on_tracks(faces: Sequence[Json], tracks: Sequence[int] | None) -> list[Json]:
    """Give each face, in the form of `StreamFaceOut`, its id; without `tracks` it has none."""
    if tracks is None:
        return list(faces)
    return [{**face, "track_id": track} for face, track in zip(faces, tracks, strict=True)]


def parse(text: str) -> ClientMessage:
    """Read a message of the client.

    Raises:
        TooLarge: over `MAX_TEXT_BYTES`.
        BadRequest: no JSON.
        BadMessage: JSON that is no message of this protocol.
        InvalidOption: a field that is unknown or out of its bounds.
    """
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise TooLarge("bytes", size, MAX_TEXT_BYTES, of="the message")
    try:
        value = from_json(text)
    except ValueError as error:
        raise BadRequest("the message is no JSON") from error
    kind = value.get("type") if isinstance(value, dict) else None
    model = _CLIENT.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise BadMessage(f"type must be one of {', '.join(_CLIENT)}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidOption(f"{where}: {first['msg']}") from error
