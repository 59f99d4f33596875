"""What an explanation costs, and how much it depends on the class, for every committed model.

`python -m benchmarks.explain`: the CPU time of one thread for one map of each method, and the mean
correlation of the maps of two classes of a head, on the photo that the documents show.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.models import MODELS
from benchmarks.request import PHOTO
from service.core.explain import Explainer, ExplainItem
from service.runtime.detector import MienDetector
from service.runtime.registry import Model, load_models
from service.runtime.session import SessionOptions
from service.settings import Settings
from service.types import Head, Method
from service.vision.crops import crop_face

ROUNDS = 15
METHODS: tuple[Method, ...] = ("guided", "gradient", "occlusion")
CPU = SessionOptions("cpu", threads=1)
Crop = NDArray[np.uint8]


def main() -> None:
    """Measure and print."""
    pixels = np.asarray(cv2.imread(str(PHOTO)), np.uint8)
    detector = MienDetector(Settings().detector_dir, options=CPU)
    (face,) = detector.detect(pixels, threshold=None, min_face_px=0)
    columns = (*(f"ms, {method}" for method in METHODS), "classes, guided", "classes, gradient")
    table = Table("model", "head", *columns, title=f"One map, one thread, p50 of {ROUNDS}")
    for name, model in load_models(MODELS, (), CPU).items():
        crop = crop_face(pixels, face.box, model.card.input)
        for head, spec in model.card.heads.items():
            ms = [_median_ms(model, crop, head, method) for method in METHODS]
            alike = [_alike(model, crop, head, len(spec.labels), guided=g) for g in (True, False)]
            table.add_row(name, head, *(f"{x:.1f}" for x in ms), *(f"{x:.2f}" for x in alike))
    Console().print(table)


def _median_ms(model: Model, crop: Crop, head: Head, method: Method) -> float:
    explainer = Explainer(model, model.gradients, max_batch_size=32)
    item = ExplainItem(crop, head, 0, method, view=None)
    taken = []
    for _ in range(ROUNDS + 1):
        started = time.thread_time()
        explainer.run([item])
        taken.append(time.thread_time() - started)
    return statistics.median(taken[1:]) * 1000  # The first loads the graph.


def _alike(model: Model, crop: Crop, head: Head, labels: int, *, guided: bool) -> float:
    """Mean correlation of the maps of two classes; 1 where the class does not matter."""
    assert model.gradients is not None
    classes: Sequence[tuple[Head, int]] = [(head, place) for place in range(labels)]
    maps = model.gradients.maps([crop] * labels, classes, guided=guided).reshape(labels, -1)
    related = np.asarray(np.corrcoef(maps))
    return statistics.mean(float(related[a, b]) for a, b in combinations(range(labels), 2))


if __name__ == "__main__":
    main()
