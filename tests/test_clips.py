"""Clips of one person, by the real models: one track, which ends when the face leaves."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from prometheus_client import CollectorRegistry

from service.build import default_options, open_analyzer
from service.core.metrics import Metrics
from service.core.tracking import Tracker
from service.settings import Settings


def sampled(path: Path, *, rate: float, seconds: float) -> list[tuple[float, bytes]]:
    """So many frames a second, at most 640 pixels wide or high, as JPEG with their times."""
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    for index in range(int(seconds * fps)):
        read, pixels = capture.read()
        if read and index % round(fps / rate) == 0:
            scale = min(1.0, 640 / max(pixels.shape[:2]))
            small = cv2.resize(pixels, None, fx=scale, fy=scale)
            frames.append((index / fps, cv2.imencode(".jpg", small)[1].tobytes()))
    capture.release()
    return frames


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "until_s"),
    [("face_noface.mov", 2.8), ("single_face.mp4", 4), ("talking_head.mp4", 20)],
)
async def test_one_person_is_one_track(shared: Path, name: str, until_s: float) -> None:
    settings = Settings(slots=1, max_batch_size=1)
    analyzer = open_analyzer(settings, Metrics(CollectorRegistry()))
    await analyzer.start()
    options = default_options(settings)
    heads = analyzer.heads_for(options)
    tracker = Tracker({head: card.heads[head] for head, card in heads.items()})
    seen = []
    for time, data in sampled(shared / "data" / "media" / name, rate=4, seconds=20):
        result = await analyzer.analyze(data, options)
        seen += [(track, time) for track, _ in tracker.update(result.faces, time)]
    await analyzer.close(drain_s=1)
    assert {track for track, _ in seen} == {1}
    assert len(seen) > 8
    assert max(time for _, time in seen) < until_s
