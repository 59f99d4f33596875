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
from service.errors import CardInvalid
from service.runtime.session import OrtSession, SessionOptions
from service.types import Head
from service.vision.postprocess import to_prediction
from training import metrics, tables
from training.batches import whole_crops
from training.datasets import DatasetError, Samples
from training.datasets.splits import SPLIT_SEED, fold_numbers
from training.errors import WorkError
from training.labels import NAMES
from training.plot import plot_evaluation
from training.publish import read_heads
from training.recipe import load_recipe, recipe_path

EVALUATION_FILE = tables.EVALUATION_FILE
PAGE_FILE = "evaluation.md"
PICTURE_FILE = "evaluation.png"
SPLITS = {"fer2013": "public test", "utkface": "validation", "all_age_faces": "validation"}


class StaleExport(WorkError):
    """`model.onnx` was made of another recipe or calibration than those that are there."""


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
        NotPublished: a recipe without a calibration.
        StaleExport: see `check_export`.
    """
    if not recipe_path(folder.name).exists():
        card = load_card(folder)
        return Subject(folder, card.input, card.heads)
    recipe = load_recipe(folder.name)
    subject = Subject(folder, recipe.input, read_heads(recipe, folder))
    check_export(subject)
    return subject


def check_export(subject: Subject) -> None:
    """Hold a recipe and its calibration against what `model.onnx` was made of.

    The card tells that, as long as it is of this file; one that was converted since has none yet.
    Thresholds are not in the graph: the evaluation holds the one that it was made with.

    Raises:
        StaleExport: input, labels or a temperature differ.
    """
    folder = subject.folder
    try:
        card = load_card(folder)
    except CardInvalid:
        return
    if card.sha256 != _sha256(folder / MODEL_FILE):
        return
    if card.input != subject.input or _inside(card.heads) != _inside(subject.heads):
        raise StaleExport(
            f"{folder / MODEL_FILE} was made of another recipe or calibration: "
            f"run `python -m export convert {folder.name}` first"
        )


def evaluate(subject: Subject, validation: Mapping[str, Samples], folds: int = 0) -> dict[str, Any]:
    """Figures of every head on every set that labels it, written as JSON, Markdown and PNG.

    Args:
        subject: the model.
        validation: dataset -> its validation part.
        folds: also give mean and deviation over so many folds of each part; 0 for none. It is
            the one model on all of them: not cross-validation, which trains one for each fold.

    Raises:
        DatasetError: a part with fewer groups than folds, or with no label that the model knows;
            or no set labels a head of the model.
    """
    path = subject.folder / MODEL_FILE
    session = open_session(path)
    labelled = {n: s for n, s in validation.items() if s.labels.keys() & subject.heads}
    if not labelled:
        sets, heads = ", ".join(validation), ", ".join(subject.heads)
        raise DatasetError(f"{sets} labels none of the heads of {subject.folder.name}: {heads}")
    if folds:
        for samples in labelled.values():  # before the network runs over any of them
            fold_numbers(samples.name, samples.groups, folds)
    results = []
    for name, samples in labelled.items():
        outputs = run(session, whole_crops(samples, subject.input))
        for head in [head for head in subject.heads if head in samples.labels]:
            figures = measure(samples, head, outputs[head], subject.heads[head], folds)
            results.append({"data": name, "split": SPLITS[name], "head": head, **figures})
    record = {
        "model": subject.folder.name,
        "sha256": _sha256(path),
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

    Raises:
        DatasetError: no image has a label that the model knows, or there are too few for the folds.
    """
    places = [spec.labels.index(n) if n in spec.labels else -1 for n in NAMES[head]]
    labels = np.array(places, np.int64)[samples.labels[head]]
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise DatasetError(f"{samples.name} has no image whose {head} the model knows")
    rows, labels = samples.take(known), labels[known]
    probabilities = postprocessed(outputs[known], spec)
    figures = {
        "left_out": len(samples) - len(known),
        "uncertain_below": spec.uncertain_below,
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


def _inside(heads: Mapping[Head, HeadSpec]) -> dict[Head, tuple[tuple[str, ...], float]]:
    # Of each head what the graph itself holds.
    return {head: (spec.labels, spec.temperature) for head, spec in heads.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
