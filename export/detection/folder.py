"""`models/<name>/` of a detector: files, threshold, card with figures and times, README."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.detection.graph import convert, parity
from export.detection.readme import write_readme
from export.variants.timing import processor
from export.verify import ParityError
from service.card import (
    CARD_FILE,
    DetectionMetric,
    DetectionTime,
    DetectorCard,
    Parity,
)
from service.core.ports import Detector
from service.runtime.detector import MienDetector
from service.runtime.session import SessionOptions
from service.vision.geometry import letterbox
from training.datasets.splits import Part
from training.detection.evaluate import LARGE, evaluate, judge, table, write
from training.detection.measure import best_threshold
from training.detection.recipe import DetectorRecipe
from training.detection.scenes import Scene
from training.publish import KERAS_FILE, load_keras

MAX_ERROR = 1e-3
"""Of any number of any cell: in strides, a thirtieth of a pixel at the most."""
_NOISE = ((1, 32, 32, 3), (2, 96, 160, 3), (1, 480, 640, 3))
_SCENES = 16
CPU = SessionOptions(provider="cpu", threads=1)


def publish(
    recipe: DetectorRecipe,
    keras_file: Path,
    models: Path,
    scenes: Mapping[Part, Sequence[Scene]],
    peers: Mapping[str, Detector],
) -> DetectorCard:
    """Write `models/<name>` from a run's `model.keras`.

    Args:
        recipe: that the run was of.
        keras_file: what it wrote.
        models: folder of model folders.
        scenes: the tune part chooses the threshold, the validation part is measured.
        peers: detectors to measure beside it, by name.

    Raises:
        ParityError: ONNX and Keras differ by more than `MAX_ERROR`.
        ValueError: it finds no face of the tune part.
    """
    folder = models / recipe.name
    path = convert(recipe, keras_file, folder)
    if keras_file.resolve() != (folder / KERAS_FILE).resolve():
        shutil.copyfile(keras_file, folder / KERAS_FILE)
    card = _plain_card(recipe, keras_file, path, _images(scenes["tune"]))
    _write(card, folder)
    tuned = judge(MienDetector(folder, options=CPU), scenes["tune"])
    card = card.model_copy(update={"threshold": best_threshold([both[0] for both in tuned])})
    _write(card, folder)
    ours = {
        recipe.name: MienDetector(folder, options=CPU),
        f"{recipe.name}, nothing enlarged": MienDetector(folder, enlarge=1, options=CPU),
    }
    record = evaluate({**ours, **peers}, scenes["validation"])
    write(record, card, folder)
    card = card.model_copy(update=_figures(record["detectors"][recipe.name]))
    _write(card, folder)
    write_readme(card, recipe, table(record), folder)
    return card


def _plain_card(
    recipe: DetectorRecipe, keras_file: Path, path: Path, images: Sequence[NDArray[np.uint8]]
) -> DetectorCard:
    """The card before anything is measured but the parity."""
    worst = parity(keras_file, path, images)
    if worst > MAX_ERROR:
        raise ParityError(f"{recipe.name}: cells differ by {worst:.2e}, allowed {MAX_ERROR:.0e}")
    return DetectorCard(
        task="detection",
        name=recipe.name,
        version=recipe.version,
        summary=recipe.summary,
        source=recipe.source,
        parameters=load_keras(keras_file).count_params(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence=recipe.licence,
        data=recipe.data,
        parity=Parity(max_abs_error=worst, samples=sum(map(len, images))),
        limits=recipe.limits,
        threshold=0.5,
        metrics=(),
        times=(),
    )


def _write(card: DetectorCard, folder: Path) -> None:
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n")


def _images(scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
    """Noise of several sizes, and scenes as the detector sees them, uint8 (N, H, W, 3) each."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, shape, np.uint8) for shape in _NOISE]
    boxed = [letterbox(s.pixels(), (320, 320), (320, 320)).pixels for s in scenes[:_SCENES]]
    return [*noise, np.stack(boxed)]


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    metrics = tuple(
        DetectionMetric(
            name=name,
            value=figures[name],
            size_px=size,
            data="detection.zip",
            split="validation",
            samples=figures["faces"],
        )
        for size, figures in row["all"].items()
        for name in ("ap", "recall")
        if figures["faces"]
    )
    width, height = LARGE
    ms = row["ms"]["large"]
    time = DetectionTime(ms=ms, width=width, height=height, threads=1, processor=processor())
    return {"metrics": metrics, "times": (time,)}
