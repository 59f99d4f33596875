"""Measures the file that is served, `model.onnx`, on the parts that training never saw.

It runs as it is served: the service's session, crops and postprocessing, nothing of Keras.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.card import MODEL_FILE, HeadSpec, InputSpec, load_card
from service.runtime.session import OrtSession, SessionOptions
from service.types import Head
from service.vision.postprocess import to_prediction
from training import metrics, tables
from training.batches import whole_crops
from training.datasets import Samples
from training.datasets.splits import SPLIT_SEED, fold_numbers
from training.labels import NAMES
from training.plot import plot_evaluation
from training.publish import CALIBRATION_FILE
from training.recipe import load_recipe

EVALUATION_FILE = tables.EVALUATION_FILE
PAGE_FILE = "evaluation.md"
PICTURE_FILE = "evaluation.png"
SPLITS = {"fer2013": "public test", "utkface": "validation", "all_age_faces": "validation"}


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is measured: its folder, what it takes and what it answers."""

    folder: Path
    input: InputSpec
    heads: Mapping[Head, HeadSpec]


def open_subject(folder: Path) -> Subject:
    """By recipe and calibration, as they are there before the card; without a recipe by the card.

    Raises:
        CardInvalid: neither a recipe nor a readable card.
    """
    try:
        recipe = load_recipe(folder.name)
    except FileNotFoundError:
        card = load_card(folder)
        return Subject(folder, card.input, card.heads)
    calibration = json.loads((folder / CALIBRATION_FILE).read_text())["heads"]
    heads = {
        head: HeadSpec(labels=labels, uncertain_below=calibration[head]["uncertain_below"])
        for head, labels in recipe.labels.items()
    }
    return Subject(folder, recipe.input, heads)


def evaluate(subject: Subject, validation: Mapping[str, Samples], folds: int = 0) -> dict[str, Any]:
    """Figures of every head on every set that labels it, written as JSON, Markdown and PNG.

    Args:
        subject: the model.
        validation: dataset -> its validation part.
        folds: also give mean and deviation over so many folds of each part; 0 for none. It is
            the one model on all of them: not cross-validation, which trains one for each fold.

    Raises:
        ValueError: a part with fewer groups than folds, or with no label that the model knows; or
            no set labels a head of the model.
    """
    path = subject.folder / MODEL_FILE
    session = open_session(path)
    results = []
    for name, samples in validation.items():
        outputs = run(session, whole_crops(samples, subject.input))
        for head in [head for head in subject.heads if head in samples.labels]:
            figures = measure(samples, head, outputs[head], subject.heads[head], folds)
            results.append({"data": name, "split": SPLITS[name], "head": head, **figures})
    if not results:
        sets, heads = ", ".join(validation), ", ".join(subject.heads)
        raise ValueError(f"{sets} labels none of the heads of {subject.folder.name}: {heads}")
    record = {
        "model": subject.folder.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "results": results,
    }
    (subject.folder / EVALUATION_FILE).write_text(json.dumps(record, indent=1) + "\n")
    (subject.folder / PAGE_FILE).write_text(tables.page(record, PICTURE_FILE))
    plot_evaluation(record, subject.folder / PICTURE_FILE)
    return record


def measure(
    samples: Samples, head: Head, outputs: NDArray[np.float32], spec: HeadSpec, folds: int = 0
) -> dict[str, Any]:
    """Figures of one head on one set.

    A model may know fewer labels than the set, or in another order: they are matched by name, and
    images of a label that it does not know are left out and counted.

    Args:
        samples: N faces that are labelled for the head.
        head: which one.
        outputs: float32 (N, K), as the graph gives them.
        spec: the head's labels and threshold.
        folds: see `evaluate`.
    """
    places = [spec.labels.index(n) if n in spec.labels else -1 for n in NAMES[head]]
    labels = np.array(places, np.int64)[samples.labels[head]]
    known = np.flatnonzero(labels >= 0)
    rows, labels = samples.take(known), labels[known]
    probabilities = postprocessed(outputs[known], spec)
    figures = {
        "left_out": len(samples) - len(known),
        **metrics.report(probabilities, labels, spec.labels, spec.uncertain_below),
        "slices": metrics.slices(probabilities, labels, spec.labels, rows.attributes),
    }
    if folds:
        numbers = fold_numbers(samples.name, rows.groups, folds)
        parts = [np.flatnonzero(numbers == fold) for fold in range(folds)]
        over = metrics.over_folds(probabilities, labels, spec.labels, parts)
        figures["folds"] = {"count": folds, "seed": SPLIT_SEED, "figures": over}
    return figures


def postprocessed(outputs: NDArray[np.float32], spec: HeadSpec) -> NDArray[np.float64]:
    """The probabilities (N, K) that the service reports for a head's outputs (N, K)."""
    predictions = [to_prediction(row, spec) for row in outputs]
    return np.array([[p.probabilities[name] for name in spec.labels] for p in predictions])


def open_session(path: Path, threads: int = 1) -> OrtSession:
    """The service's session, on the CPU."""
    return OrtSession(path, SessionOptions(provider="cpu", threads=threads))


def run(
    session: OrtSession, crops: NDArray[np.uint8], batch: int = 32
) -> dict[str, NDArray[np.float32]]:
    """Outputs by head, float32 (N, K), of crops uint8 (N, S, S, C)."""
    heads = list(session.outputs)
    (name,) = session.inputs
    parts = [
        session.run(name, crops[start : start + batch], heads)
        for start in range(0, len(crops), batch)
    ]
    return {head: np.concatenate([part[i] for part in parts]) for i, head in enumerate(heads)}
