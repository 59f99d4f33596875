"""From photo to result: the service's answers against the same faces cut from the best box."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from service.build import default_options, open_analyzer
from service.core.metrics import Metrics
from service.runtime.registry import Model
from service.runtime.session import SessionOptions
from service.runtime.yunet import YunetDetector
from service.settings import Settings
from service.vision.crops import crop_face
from training.datasets.fairface import Photo
from training.framing import try_framings
from training.photos import BATCH, Answers, Found, accuracy, answer, central, find

PHOTOS_FILE = "photos.json"
CPU = SessionOptions(provider="cpu", max_batch_size=BATCH)


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
    services = {
        "haar": _settings(folder, detector="haar"),
        "yunet": _settings(folder, detector="yunet", yunet_path=yunet),
    }
    record = {
        "model": model.card.name,
        "sha256": model.card.sha256,
        "data": "fairface",
        "photos": len(photos),
        "best_box": {
            "detector": detector.id,
            "found": len(found),
            "heads": accuracy([f.photo for f in found], best),
        },
        "services": {
            name: _against(found, asyncio.run(_serve(settings, found)), best)
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


async def _serve(settings: Settings, found: Sequence[Found]) -> list[Answers | None]:
    """What the service says of each labelled face, None where it finds none in its place."""
    analyzer = open_analyzer(settings, Metrics(CollectorRegistry()))
    await analyzer.start()
    result: list[Answers | None] = []
    try:
        for f in found:
            answered = await analyzer.analyze(f.photo.data, default_options(settings))
            face = central([a.face for a in answered.faces], answered.width, answered.height)
            said = [a.predictions for a in answered.faces if a.face is face]
            result.append({h: p.label for h, p in said[0].items()} if said else None)
    finally:
        await analyzer.close(drain_s=0)
    return result


def _against(
    found: Sequence[Found], served: Sequence[Answers | None], best: Sequence[Answers]
) -> dict[str, Any]:
    """The service's answers beside those on the best box, where it found the face."""
    rows = [row for row, answers in enumerate(served) if answers is not None]
    photos = [found[row].photo for row in rows]
    said = [answers for answers in served if answers is not None]
    boxed = [best[row] for row in rows]
    service, box = accuracy(photos, said), accuracy(photos, boxed)
    return {
        "found": len(rows),
        "heads": {
            head: {
                **figures,
                "best_box_accuracy": box[head]["accuracy"],
                "other_answers": sum(a[head] != b[head] for a, b in zip(said, boxed, strict=True)),
            }
            for head, figures in service.items()
        },
    }
