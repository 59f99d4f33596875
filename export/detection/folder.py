"""`models/<name>/` of a detector: files, threshold, card with figures and times, README."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
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
from training.detection.enlarged import with_enlarged
from training.detection.evaluate import LARGE, evaluate, judge, table
from training.detection.measure import best_threshold
from training.detection.recipe import DetectorRecipe
from training.detection.scenes import Scene, fingerprints
from training.publish import KERAS_FILE, load_keras
from training.tables import EVALUATION_FILE

MAX_ERROR = 1e-3
"""Of any number of any cell: in strides, a thirtieth of a pixel at the most."""
_NOISE = ((1, 32, 32, 3), (2, 96, 160, 3), (1, 480, 640, 3))
_SCENES = 16
CPU = SessionOptions(provider="cpu", threads=1)


def publish(
    recipe: DetectorRecipe,
    keras_file: Path,
    models: Path,
    data: str,
    scenes: Mapping[Part, Sequence[Scene]],
    peers: Mapping[str, Detector],
) -> DetectorCard:
    """Write `models/<name>` from a run's `model.keras`: all of it, or nothing.

    Args:
        recipe: that the run was of.
        keras_file: what it wrote.
        models: folder of model folders.
        data: name of the set.
        scenes: its parts; tune chooses the threshold, validation is measured.
        peers: detectors to measure beside it, by name.

    Raises:
        NotPublished: there is no Keras file.
        ParityError: ONNX and Keras differ by more than `MAX_ERROR`.
        NothingFound: it finds no face of the tune part.
    """
    models.mkdir(parents=True, exist_ok=True)
    # Beside the others, but deeper than the service looks: what is served stays until all is there.
    with tempfile.TemporaryDirectory(dir=models, prefix=".") as place:
        made = Path(place) / recipe.name
        card = _fill(made, recipe, keras_file, data, scenes, peers)
        folder = models / recipe.name
        folder.mkdir(exist_ok=True)
        for file in made.iterdir():
            file.replace(folder / file.name)
    return card


def _fill(
    folder: Path,
    recipe: DetectorRecipe,
    keras_file: Path,
    data: str,
    scenes: Mapping[Part, Sequence[Scene]],
    peers: Mapping[str, Detector],
) -> DetectorCard:
    path = convert(recipe, keras_file, folder)
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
    record = evaluate({**ours, **with_enlarged(peers)}, scenes["validation"])
    card = card.model_copy(update=_figures(record["detectors"][recipe.name], data))
    _write(card, folder)
    _write_record(record, card, data, scenes, folder)
    write_readme(card, recipe, data, table(record), folder)
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


def _write_record(
    record: Mapping[str, Any],
    card: DetectorCard,
    data: str,
    scenes: Mapping[Part, Sequence[Scene]],
    folder: Path,
) -> None:
    """Write `folder/evaluation.json`: the record, and of which file and scenes it is."""
    of = {"model": card.name, "sha256": card.sha256, "data": data}
    whole = {**of, "splits": fingerprints(scenes.items()), **record}
    (folder / EVALUATION_FILE).write_text(json.dumps(whole, indent=1) + "\n")


def _images(scenes: Sequence[Scene]) -> list[NDArray[np.uint8]]:
    """Noise of several sizes, and scenes as the detector sees them, uint8 (N, H, W, 3) each."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, shape, np.uint8) for shape in _NOISE]
    boxed = [letterbox(s.pixels(), (320, 320), (320, 320)).pixels for s in scenes[:_SCENES]]
    return [*noise, np.stack(boxed)]


def _figures(row: Mapping[str, Any], data: str) -> dict[str, Any]:
    metrics = tuple(
        DetectionMetric(
            name=name,
            value=figures[name],
            size_px=size,
            data=data,
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
