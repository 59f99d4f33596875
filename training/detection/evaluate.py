"""Detectors against each other on the validation scenes, in one run: figures and times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from service.core.ports import Detector
from training.detection.measure import Judged, figures
from training.detection.scenes import Scene

LEAST_SCORE = 0.02
"""Finds of a lower score are not looked at."""
TIMED = 60
"""Scenes that times are taken of, besides the large picture."""
LARGE = (640, 480)


def evaluate(detectors: Mapping[str, Detector], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Measure detectors on scenes, each with the same pixels in turn.

    Returns:
        For each detector `all` (every labelled face counts) and `drawn` (those that only a detector
        found are neither wanted nor false), as `measure.figures`, and `ms`: median time on one
        thread, by the thread's own clock, of a scene and of a picture of 640 x 480.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        judged = {name: judge(detector, scenes) for name, detector in detectors.items()}
        ms = _times(detectors, evenly(scenes, TIMED))
    finally:
        cv2.setNumThreads(threads)
    return {
        "scenes": len(scenes),
        "detectors": {
            name: {
                "id": detector.id,
                "all": figures([both[0] for both in judged[name]]),
                "drawn": figures([both[1] for both in judged[name]]),
                "ms": ms[name],
            }
            for name, detector in detectors.items()
        },
    }


def table(record: Mapping[str, Any]) -> list[str]:
    """The record as lines of a Markdown table."""
    detectors = record["detectors"]
    sizes = list(next(iter(detectors.values()))["all"])
    lines = [
        f"{record['scenes']} scenes; AP at IoU 0.5 / recall at one false face in 100 images",
        "",
        "| detector | " + " | ".join(sizes) + " | all, drawn | ms a scene | ms at 640 x 480 |",
        "|---" * (len(sizes) + 4) + "|",
    ]
    for name, row in detectors.items():
        shown = [*row["all"].values(), row["drawn"]["all"]]
        cells = [f"{one['ap']:.3f} / {one['recall']:.3f}" for one in shown]
        times = [f"{row['ms'][kind]:.2f}" for kind in ("scene", "large")]
        lines.append("| " + " | ".join([name, *cells, *times]) + " |")
    return lines


def evenly(scenes: Sequence[Scene], count: int) -> Sequence[Scene]:
    """So many of them from the whole part, whose sets follow one another."""
    return scenes[:: max(len(scenes) // count, 1)][:count]


def judge(detector: Detector, scenes: Sequence[Scene]) -> list[tuple[Judged, Judged]]:
    """What a detector finds in each scene, as for `all` and as for `drawn` of `evaluate`."""
    result = []
    for scene in scenes:
        faces = detector.detect(scene.pixels(), threshold=LEAST_SCORE, min_face_px=0)
        placed = [(f.box.x, f.box.y, f.box.width, f.box.height) for f in faces]
        boxes = np.array(placed, np.float32).reshape(-1, 4)
        scores = np.array([f.score for f in faces], np.float32)
        strict = scene.ignored | scene.doubtful
        result.append(
            (
                Judged(scene.boxes, scene.ignored, boxes, scores),
                Judged(scene.boxes, strict, boxes, scores),
            )
        )
    return result


def _times(
    detectors: Mapping[str, Detector], scenes: Sequence[Scene]
) -> dict[str, dict[str, float]]:
    pictures = {
        "scene": [scene.pixels() for scene in scenes],
        "large": [
            np.asarray(cv2.resize(scene.pixels(), LARGE), np.uint8)
            for scene in scenes[: TIMED // 3]
        ],
    }
    taken: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in pictures} for name in detectors
    }
    for kind, group in pictures.items():
        for pixels in group:
            # In turns: whatever else the machine does hits them alike. Each first once untimed: the
            # one before it, Haar above all, leaves the caches full of something else.
            for name, detector in detectors.items():
                detector.detect(pixels, threshold=None, min_face_px=0)
                started = time.thread_time()
                detector.detect(pixels, threshold=None, min_face_px=0)
                taken[name][kind].append(time.thread_time() - started)
    return {
        name: {kind: round(statistics.median(s) * 1000, 2) for kind, s in kinds.items() if s}
        for name, kinds in taken.items()
    }
