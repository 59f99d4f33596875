"""ONNX against Keras; then the card is written, and the model's README."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.explain import explain_sha256
from service.card import CARD_FILE, MODEL_FILE, InputSpec, Metric, ModelCard, Parity
from training.batches import whole_crops
from training.datasets import Samples
from training.errors import WorkError
from training.evaluate import EVALUATION_FILE, Subject, check_export, open_session, run
from training.labels import narrowed
from training.publish import KERAS_FILE, load_keras, read_heads
from training.recipe import Recipe
from training.train import predict

BATCHES = (1, 2, 32)
MAX_ERROR = 1e-4


class ParityError(WorkError):
    """The ONNX file does not compute what the Keras model computes."""


class StaleEvaluation(WorkError):
    """The figures beside the model were measured on another file."""


def verify(recipe: Recipe, folder: Path, validation: Mapping[str, Samples]) -> ModelCard:
    """Compare the two files, on evaluation data too where it is given, and write the card.

    `explain.onnx` is written with it.

    Args:
        recipe: the model's recipe.
        folder: `models/<name>`.
        validation: dataset -> samples; may be empty.

    Raises:
        NotPublished: there is no `model.keras`, or no calibration.
        StaleExport: recipe or calibration were changed since model.onnx was made.
        ParityError: outputs differ by more than 1e-4, or a task's accuracy differs.
        StaleEvaluation: evaluation.json belongs to another file.
    """
    keras_model = load_keras(folder / KERAS_FILE)
    check_export(Subject(folder, recipe.input, read_heads(recipe, folder)))
    session = open_session(folder / MODEL_FILE)
    crops = [noise(recipe.input, count) for count in BATCHES]
    worst = max(_difference(keras_model, session, part) for part in crops)
    samples = sum(BATCHES)
    for name, whole in validation.items():
        part = narrowed(whole, recipe.labels)
        images = whole_crops(part, recipe.input)
        worst = max(worst, _compare(keras_model, session, images, part, name))
        samples += len(images)
    if worst > MAX_ERROR:
        raise ParityError(f"{recipe.name}: outputs differ by {worst:.2e}, allowed {MAX_ERROR:.0e}")
    card = _card(
        recipe, folder, keras_model.count_params(), Parity(max_abs_error=worst, samples=samples)
    )
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n")
    return card


def noise(spec: InputSpec, count: int) -> NDArray[np.uint8]:
    """Seeded crops, uint8 (count, S, S, C), that no network has seen."""
    shape = (count, spec.size, spec.size, spec.channels)
    return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


def _difference(keras_model: Any, session: Any, crops: NDArray[np.uint8]) -> float:
    expected, actual = predict(keras_model, crops), run(session, crops)
    return max(float(np.abs(expected[head] - actual[head]).max()) for head in actual)


def _compare(
    keras_model: Any, session: Any, crops: NDArray[np.uint8], samples: Samples, name: str
) -> float:
    expected, actual = predict(keras_model, crops), run(session, crops)
    for head, labels in samples.labels.items():
        if head not in actual:
            continue
        ours, theirs = (
            float(np.mean(outputs[head].argmax(axis=1) == labels)) for outputs in (actual, expected)
        )
        if ours != theirs:
            raise ParityError(
                f"{head} on {name}: ONNX is right in {ours:.4%}, Keras in {theirs:.4%}"
            )
    return max(float(np.abs(expected[head] - actual[head]).max()) for head in actual)


def _card(recipe: Recipe, folder: Path, parameters: int, parity: Parity) -> ModelCard:
    digest = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    return ModelCard(
        name=recipe.name,
        version=recipe.version,
        summary=recipe.summary,
        source=recipe.source,
        parameters=parameters,
        input=recipe.input,
        heads=read_heads(recipe, folder),
        sha256=digest,
        explain_sha256=explain_sha256(folder),
        licence=recipe.licence,
        data=recipe.data,
        metrics=read_metrics(folder, digest),
        parity=parity,
        limits=recipe.limits,
    )


def read_metrics(folder: Path, digest: str) -> tuple[Metric, ...]:
    """The card's figures, from `evaluation.json`; none without it.

    Raises:
        StaleEvaluation: it was measured on a file with another sha256.
    """
    path = folder / EVALUATION_FILE
    if not path.exists():
        return ()
    record = json.loads(path.read_text())
    if record["sha256"] != digest:
        raise StaleEvaluation(
            f"{path} was measured on another model.onnx; run `python -m training evaluate "
            f"{record['model']} --data ...` first"
        )
    return tuple(
        Metric(
            head=result["head"],
            name=name,
            value=result[name],
            data=result["data"],
            split=result["split"],
            samples=result["samples"],
        )
        for result in record["results"]
        for name in ("accuracy", "macro_f1", "ece")
    )
