"""Golden results: what each committed model says of the committed photo; see `__main__`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from service.api.schemas import to_json
from service.build import default_options, open_analyzer
from service.card import find_models, load_card
from service.core.metrics import Metrics
from service.core.pipeline import Options
from service.runtime.detector import MienDetector
from service.runtime.session import SessionOptions
from service.settings import Settings
from service.vision.codec import ImageLimits, decode

HERE = Path(__file__).parent
PHOTO = HERE.parent / "media" / "astronaut.jpg"
MODELS = find_models(Settings().models_dir)
DETECTOR = Settings().detector_dir


def variant(name: str) -> bool:
    """Whether a model is a variant of another, in fewer bits."""
    return load_card(Settings().models_dir / name).variant_of is not None


def path(name: str) -> Path:
    """Where the golden result of a model lies."""
    return HERE / f"{name}.json"


def load(name: str) -> dict[str, Any]:
    """The golden result of a model."""
    return json.loads(path(name).read_text())


def faces() -> list[dict[str, Any]]:
    """What the committed detector finds on the photo: box, score and landmarks of each face."""
    detector = MienDetector(DETECTOR, options=SessionOptions(provider="cpu"))
    pixels = decode(PHOTO.read_bytes(), ImageLimits()).pixels
    found = detector.detect(pixels, threshold=None, min_face_px=1)
    return [
        {
            "box": [face.box.x, face.box.y, face.box.width, face.box.height],
            "score": face.score,
            "landmarks": [] if face.landmarks is None else face.landmarks.tolist(),
        }
        for face in found
    ]


async def results() -> dict[str, dict[str, Any]]:
    """By model: the photo through detector, crop and this model, for the heads that it has."""
    settings = Settings(provider="cpu")
    analyzer = open_analyzer(settings, Metrics(CollectorRegistry()))
    await analyzer.start()
    given: dict[str, dict[str, Any]] = {}
    for name in MODELS:
        heads = frozenset(analyzer.models[name].card.heads)
        options = Options(
            models=(name,), attributes=heads, min_face_px=default_options(settings).min_face_px
        )
        result = await analyzer.analyze(PHOTO.read_bytes(), options)
        answer = to_json(result, request_id="golden", landmarks=False)
        kept = answer.keys() - {"timings_ms", "request_id"}
        given[name] = {field: value for field, value in answer.items() if field in kept}
    await analyzer.close(drain_s=1)
    return given
