"""The JSON of the contract, as a client sees it; a head that was not asked for is left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

Photo = bytes | str | os.PathLike[str]
"""An encoded image, or the path of one."""
Head = Literal["emotion", "gender", "age"]
Point = tuple[float, float]
"""x, y in pixels of the upright image; in JSON a list."""

# What is asked for --------------------------------------------------------------------------------


class AnalyzeOptions(TypedDict, total=False):
    """What is left out falls to the server's settings; docs/api.md has the bounds."""

    models: Sequence[str]
    attributes: Sequence[Head]
    max_faces: int
    min_face_px: float
    detection_threshold: float
    landmarks: bool
    detect: bool


class ExplainOptions(AnalyzeOptions, total=False):
    """As analyze, and how it is explained."""

    method: Literal["guided", "gradient", "occlusion"]
    labels: Sequence[str]
    overlay: bool


class StreamOptions(AnalyzeOptions, total=False):
    """As analyze, and how frames are treated."""

    track: bool
    smoothing: float
    drop_policy: Literal["latest", "block"]
    max_in_flight: int
    state: bool
    resume: str


# Answers ------------------------------------------------------------------------------------------


class Image(TypedDict):
    """The upright image that coordinates refer to."""

    width: int
    height: int
    orientation: int


class Box(TypedDict):
    """Pixels of the upright image."""

    x: float
    y: float
    width: float
    height: float


class Landmarks(TypedDict):
    """As seen in the image: the right eye is on the left."""

    right_eye: Point
    left_eye: Point
    nose: Point
    mouth_right: Point
    mouth_left: Point


class Prediction(TypedDict):
    """One head's answer."""

    label: str
    probability: float
    uncertain: bool
    probabilities: dict[str, float]


class Quality(TypedDict):
    """How much picture there is to judge the face by."""

    size_px: int
    sharpness: float


class Face(TypedDict):
    """One face."""

    box: Box
    detection_score: float
    landmarks: NotRequired[Landmarks | None]
    emotion: NotRequired[Prediction]
    gender: NotRequired[Prediction]
    age: NotRequired[Prediction]
    quality: Quality
    track_id: NotRequired[int]


class Timings(TypedDict):
    """Milliseconds."""

    decode: float
    detect: float
    queue: float
    infer: float
    total: float


class Analysis(TypedDict):
    """One analysed image, faces largest first."""

    request_id: str
    image: Image
    faces: list[Face]
    models: dict[str, str]
    timings_ms: Timings


class ProblemBody(TypedDict):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str


class BatchItem(TypedDict, total=False):
    """One image of a batch: either of the two."""

    result: Analysis
    error: ProblemBody


class Explanation(TypedDict):
    """What counted for one label of one face; `png` is base64."""

    label: str
    area: Box
    png: str


class ExplainedFace(Face):
    """One face, with an explanation for each head."""

    explanations: dict[Head, Explanation]


class Explained(TypedDict):
    """As `Analysis`, with explanations."""

    request_id: str
    image: Image
    faces: list[ExplainedFace]
    models: dict[str, str]
    timings_ms: Timings
    method: str


Card = dict[str, Any]
"""A model's card, with `provider` and `default` heads; docs/models.md describes it."""

# Streams ------------------------------------------------------------------------------------------


class Session(TypedDict):
    """The first message of the server."""

    session_id: str
    limits: dict[str, float]
    models: dict[str, str]


class FrameResult(Analysis):
    """What was found in a frame."""

    type: Literal["frame.result"]
    frame: int
    state: NotRequired[str]


class FrameDropped(TypedDict):
    """A frame that was not analysed, since a newer one came."""

    type: Literal["frame.dropped"]
    frame: int
    reason: str


class FrameError(TypedDict):
    """A frame that could not be analysed; the session goes on."""

    type: Literal["frame.error"]
    frame: int
    code: str
    detail: str


Reply = FrameResult | FrameDropped | FrameError


class Latency(TypedDict):
    """Milliseconds from a frame's arrival to its reply; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None


class Totals(TypedDict):
    """What a session has come to."""

    received: int
    processed: int
    dropped: int
    failed: int
    latency_ms: Latency
