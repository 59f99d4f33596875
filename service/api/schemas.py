"""The JSON of the contract, in and out: the only place where it exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import pydantic_core
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.examples import ANALYZE
from service.card import DetectorCard, ModelCard
from service.core.pipeline import Analyzer, Options
from service.types import AnalyzedFace, Box, Face, Head, Prediction, Result

Json: TypeAlias = dict[str, Any]
"""Plain values in the form of one of the models below."""


def split(value: Any) -> Any:
    """`a,b` or `a&...=b` -> [a, b]; an empty value is an empty list."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list):
        return value
    return [item.strip() for part in parts for item in str(part).split(",") if item.strip()]


class AnalyzeQuery(BaseModel):
    """Query options of analyze; what is left out falls to the server's settings."""

    model_config = ConfigDict(extra="forbid")

    models: Annotated[
        list[Annotated[str, Field(max_length=64)]],
        BeforeValidator(split),
        Field(
            max_length=32,
            description="Model names, comma-separated: a head is served by the first of them that "
            "has it, else by its default.",
            examples=["mini_xception_emotion"],
        ),
    ] = []
    attributes: Annotated[
        list[Head] | None,
        BeforeValidator(split),
        Field(
            max_length=32,
            description="Subset of `emotion,gender,age`, comma-separated: others are neither run "
            "nor returned; empty for detection only, left out for all that are served.",
            examples=["emotion,age"],
        ),
    ] = None
    max_faces: int | None = Field(
        None, ge=1, le=1000, description="Most faces returned, largest first."
    )
    min_face_px: float | None = Field(
        None, ge=1, le=16_384, description="Smallest face returned, in pixels of the full image."
    )
    detection_threshold: float | None = Field(
        None, ge=0, le=1, description="Lowest detection score returned."
    )
    landmarks: bool = Field(
        True, description="Return the five landmarks, null where the detector finds none."
    )
    detect: bool = Field(
        True, description="false: the whole image is one face crop, and no detector runs."
    )

    def merged(self, defaults: Options) -> Options:
        """These options over the server's; a limit may be lowered, not raised."""
        return Options(
            models=tuple(self.models),
            attributes=defaults.attributes
            if self.attributes is None
            else frozenset(self.attributes),
            max_faces=min(self.max_faces or defaults.max_faces, defaults.max_faces),
            min_face_px=defaults.min_face_px if self.min_face_px is None else self.min_face_px,
            detection_threshold=defaults.detection_threshold
            if self.detection_threshold is None
            else self.detection_threshold,
            detect=self.detect,
        )


class ImageJson(BaseModel):
    """The body of a JSON request."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(description="The encoded image in base64.")


class ImageOut(BaseModel):
    """The upright image that coordinates refer to."""

    width: int
    height: int
    orientation: int = Field(ge=1, le=8, description="EXIF orientation that was undone.")


class BoxOut(BaseModel):
    """Pixels of the upright image."""

    x: float
    y: float
    width: float
    height: float


class LandmarksOut(BaseModel):
    """[x, y] each, as seen in the image: the right eye is on the left."""

    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    nose: tuple[float, float]
    mouth_right: tuple[float, float]
    mouth_left: tuple[float, float]


class PredictionOut(BaseModel):
    """One head's answer; probabilities are complete and sum to 1."""

    label: str
    probability: float
    uncertain: bool
    probabilities: dict[str, float]


class QualityOut(BaseModel):
    """How much picture there is to judge the face by."""

    size_px: int
    sharpness: float


class FaceOut(BaseModel):
    """One face."""

    box: BoxOut
    detection_score: float
    landmarks: LandmarksOut | None = None
    emotion: PredictionOut | None = None
    gender: PredictionOut | None = None
    age: PredictionOut | None = None
    quality: QualityOut


class TimingsOut(BaseModel):
    """Milliseconds."""

    decode: float
    detect: float
    queue: float
    infer: float
    total: float


class AnalyzeOut(BaseModel):
    """What `/v1/analyze` gives for one image."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANALYZE]})

    request_id: str
    image: ImageOut
    faces: Sequence[FaceOut]
    models: dict[str, str]
    timings_ms: TimingsOut


class ProblemOut(BaseModel):
    """RFC 9457, with the contract's `code` and `request_id`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str


class BatchItemOut(BaseModel):
    """One image of a batch: its result or its error."""

    result: AnalyzeOut | None = None
    error: ProblemOut | None = None


class BatchOut(BaseModel):
    """What `/v1/analyze/batch` gives, in the order of the images."""

    request_id: str
    results: list[BatchItemOut]


class ModelOut(ModelCard):
    """A card, with where the model runs and which heads it serves by default."""

    provider: str
    default: list[Head] = Field(description="Heads that this model serves by default.")


class DetectorOut(BaseModel):
    """What finds the faces."""

    id: str = Field(description="`name@version`, as results name it.")
    provider: str
    card: DetectorCard | None = Field(description="null for a detector that has none.")


class ModelsOut(BaseModel):
    """Every served model, and the detector."""

    models: list[ModelOut]
    detector: DetectorOut


def to_json(result: Result, *, request_id: str, landmarks: bool) -> Json:
    """Put a result into the form of `AnalyzeOut`; heads that were not wanted are left out.

    As plain values: that pydantic checks what the service itself has computed takes 0.1 ms.
    """
    return {
        "request_id": request_id,
        "image": {
            "width": result.width,
            "height": result.height,
            "orientation": result.orientation,
        },
        "faces": [_face(face, landmarks=landmarks) for face in result.faces],
        "models": dict(result.models),
        "timings_ms": {
            stage: round(getattr(result.timings, stage) * 1000, 3)
            for stage in TimingsOut.model_fields
        },
    }


def encode(out: BaseModel | Json) -> bytes:
    """JSON text in UTF-8."""
    return pydantic_core.to_json(out)


def to_models_json(analyzer: Analyzer) -> ModelsOut:
    """Put all that is served into the contract's form."""
    detector = analyzer.detector
    return ModelsOut(
        models=[to_model_json(analyzer, name) for name in analyzer.models],
        detector=DetectorOut(id=detector.id, provider=detector.provider, card=detector.card),
    )


def to_model_json(analyzer: Analyzer, name: str) -> ModelOut:
    """Put one served model into the contract's form."""
    served = analyzer.models[name]
    default = [head for head, card in analyzer.default_heads.items() if card.name == name]
    return ModelOut(**dict(served.card), provider=served.provider, default=default)


def _face(analyzed: AnalyzedFace, *, landmarks: bool) -> Json:
    face, quality = analyzed.face, analyzed.quality
    points: Json = {"landmarks": _landmarks(face)} if landmarks else {}
    return {
        "box": to_box(face.box),
        "detection_score": face.score,
        **points,
        **{head: _prediction(prediction) for head, prediction in analyzed.predictions.items()},
        "quality": {"size_px": quality.size_px, "sharpness": round(quality.sharpness, 4)},
    }


def to_box(box: Box) -> Json:
    """Put a box into the form of `BoxOut`: hundredths of a pixel."""
    return {
        "x": round(box.x, 2),
        "y": round(box.y, 2),
        "width": round(box.width, 2),
        "height": round(box.height, 2),
    }


def _landmarks(face: Face) -> Json | None:
    if face.landmarks is None:
        return None
    points = [[round(x, 2), round(y, 2)] for x, y in face.landmarks.tolist()]
    return dict(zip(LandmarksOut.model_fields, points, strict=True))


def _prediction(prediction: Prediction) -> Json:
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "uncertain": prediction.uncertain,
        "probabilities": dict(prediction.probabilities),
    }
