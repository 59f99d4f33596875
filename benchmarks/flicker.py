"""How often labels change on clips of one person, with and without smoothing.

`python -m benchmarks.flicker ../shared/data/media` : about 12 frames a second of each clip, at most
640 pixels wide or high, through the analyzer and two trackers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from service.build import default_options, open_analyzer
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer, Options
from service.core.tracking import Tracker, TrackOptions
from service.settings import Settings
from service.types import AnalyzedFace

CLIPS = ("face_noface.mov", "single_face.mp4", "talking_head.mp4")
HEADS = ("emotion", "gender", "age")
RATE, SMOOTHINGS_S = 12.0, (0.0, 0.6)


async def main(folder: Path) -> None:
    """Measure and print."""
    settings = Settings()
    analyzer = open_analyzer(settings, Metrics(CollectorRegistry()))
    await analyzer.start()
    columns = [f"{head}, {smoothing:g} s" for head in HEADS for smoothing in SMOOTHINGS_S]
    table = Table("clip", "s", "frames", "tracks", *columns, title="Changes of label a minute")
    for name in CLIPS:
        table.add_row(name, *await _clip(analyzer, default_options(settings), folder / name))
    await analyzer.close(drain_s=1)
    Console(width=120).print(table)


async def _clip(analyzer: Analyzer, options: Options, path: Path) -> list[str]:
    heads = analyzer.heads_for(options)
    specs = {head: card.heads[head] for head, card in heads.items()}
    trackers = [Tracker(specs, TrackOptions(smoothing_s=value)) for value in SMOOTHINGS_S]
    seen: list[list[AnalyzedFace]] = [[] for _ in trackers]
    tracks, times = set[int](), list[float]()
    for time, data in _frames(path):
        result = await analyzer.analyze(data, options)
        times.append(time)
        for tracker, faces in zip(trackers, seen, strict=True):
            for track, face in tracker.update(result.faces, time):
                tracks.add(track)
                faces.append(face)
    minutes = times[-1] / 60
    rates = [f"{_changes(faces, head) / minutes:.1f}" for head in HEADS for faces in seen]
    return [f"{times[-1]:.1f}", str(len(times)), str(len(tracks)), *rates]


def _changes(faces: list[AnalyzedFace], head: str) -> int:
    labels = [face.predictions[head].label for face in faces]
    return sum(before != after for before, after in pairwise(labels))


def _frames(path: Path) -> Iterator[tuple[float, bytes]]:
    capture = cv2.VideoCapture(str(path))
    fps, index = capture.get(cv2.CAP_PROP_FPS), 0
    while (read := capture.read())[0]:
        if index % max(round(fps / RATE), 1) == 0:
            scale = min(1.0, 640 / max(read[1].shape[:2]))
            small = cv2.resize(read[1], None, fx=scale, fy=scale)
            yield index / fps, cv2.imencode(".jpg", small)[1].tobytes()
        index += 1
    capture.release()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
