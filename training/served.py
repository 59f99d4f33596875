"""From photo to result: the service's answers against the same faces cut from the best box."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from service.build import default_options, open_analyzer
from service.card import load_detector_card
from service.core.metrics import Metrics
from service.runtime.registry import Model
from service.runtime.session import SessionOptions
from service.runtime.yunet import YunetDetector
from service.settings import Settings
from service.types import Box, Timings
from service.vision.crops import crop_face
from training.datasets.fairface import Photo
from training.framing import try_framings
from training.photos import BATCH, PHOTOS_FILE, Answers, Found, accuracy, answer, central, find

STAGES = ("decode", "detect", "infer", "total")
Ms = dict[str, float]
CPU = SessionOptions(provider="cpu", max_batch_size=BATCH)


@dataclass(frozen=True, slots=True)
class Served:
    """What the service found and said in the place of a labelled face."""

    box: Box
    answers: Answers


def measure_photos(folder: Path, photos: Sequence[Photo], yunet: Path) -> dict[str, Any]:
    """Measure a model on photos as a client would send them; written to `folder/photos.json`.

    Args:
        folder: `models/<name>`, with a card that has a gender head.
        photos: with a labelled face each.
        yunet: YuNet-format file: its box is the best one, and it serves as a detector too.

    Raises:
        ModelError: a file that cannot be served.
    """
    model, detector = Model(folder, CPU), YunetDetector(yunet, options=CPU)
    found = find(photos, detector)
    best = answer(model, [crop_face(f.pixels, f.face.box, model.card.input) for f in found])
    services: dict[str, Settings] = {
        "haar": _settings(folder, detector="haar"),
        "yunet": _settings(folder, detector="yunet", yunet_path=yunet),
    }
    ours = folder.with_name(Settings().detector_dir.name)
    ours_sha256 = load_detector_card(ours).sha256 if ours.is_dir() else None
    if ours_sha256:
        services["mien"] = _settings(folder, detector="mien", detector_dir=ours)
    record = {
        "model": model.card.name,
        "sha256": model.card.sha256,
        "detector_sha256": ours_sha256,
        "data": "fairface",
        "photos": len(photos),
        "best_box": {
            "detector": detector.id,
            "found": len(found),
            "heads": accuracy([f.photo for f in found], best),
        },
        "services": {
            name: _against(found, *asyncio.run(_serve(settings, found)), best)
            for name, settings in services.items()
        },
        "framings": try_framings(model, found),
    }
    (folder / PHOTOS_FILE).write_text(json.dumps(record, indent=1) + "\n")
    return record


def _settings(folder: Path, **options: Any) -> Settings:
    name = folder.name
    return Settings(
        models_dir=folder.parent, models=(name,), default_models=(name,), provider="cpu", **options
    )


async def _serve(settings: Settings, found: Sequence[Found]) -> tuple[list[Served | None], Ms]:
    """What the service finds and says in each labelled face's place, and median times by stage."""
    analyzer = open_analyzer(settings, Metrics(CollectorRegistry()))
    await analyzer.start()
    served: list[Served | None] = []
    timings: list[Timings] = []
    try:
        for f in found:
            result = await analyzer.analyze(f.photo.data, default_options(settings))
            timings.append(result.timings)
            face = central([a.face for a in result.faces], result.width, result.height)
            said = [a.predictions for a in result.faces if a.face is face]
            answers = {head: p.label for head, p in said[0].items()} if said else {}
            served.append(Served(face.box, answers) if face else None)
    finally:
        await analyzer.close(drain_s=0)
    seconds = {stage: statistics.median(getattr(t, stage) for t in timings) for stage in STAGES}
    return served, {stage: round(value * 1000, 2) for stage, value in seconds.items()}


def _against(
    found: Sequence[Found], served: Sequence[Served | None], ms: Ms, best: Sequence[Answers]
) -> dict[str, Any]:
    """The service's answers beside those on the best box, where it found the face."""
    rows = [row for row, one in enumerate(served) if one]
    kept = [one for one in served if one]
    photos, boxed = [found[row].photo for row in rows], [best[row] for row in rows]
    said = [one.answers for one in kept]
    service, box = accuracy(photos, said), accuracy(photos, boxed)
    return {
        "found": len(rows),
        "ms": ms,
        "boxes": _scatter([one.box for one in kept], [found[row].face.box for row in rows]),
        "heads": {
            head: {
                **figures,
                "best_box_accuracy": box[head]["accuracy"],
                "other_answers": sum(a[head] != b[head] for a, b in zip(said, boxed, strict=True)),
            }
            for head, figures in service.items()
        },
    }


def _scatter(boxes: Sequence[Box], best: Sequence[Box]) -> dict[str, dict[str, float]]:
    """How boxes lie about the best ones: side, and middle, in sides of the best box."""
    pairs = list(zip(boxes, best, strict=True))
    if not pairs:
        return {}
    values = {
        "side": [one.side / other.side for one, other in pairs],
        "x": [(one.center[0] - other.center[0]) / other.side for one, other in pairs],
        "y": [(one.center[1] - other.center[1]) / other.side for one, other in pairs],
    }
    return {
        name: {
            "median": round(float(np.median(row)), 4),
            "deviation": round(float(np.std(row)), 4),
        }
        for name, row in values.items()
    }
