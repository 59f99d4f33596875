"""Measures the file that is served, `model.onnx`, on the parts that training never saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from training import metrics
from training.batches import whole_crops
from training.datasets import Samples
from training.recipe import Recipe

EVALUATION_FILE = "evaluation.json"
TABLE_FILE = "evaluation.md"
SPLITS = {"fer2013": "public test", "utkface": "validation", "all_age_faces": "validation"}


def evaluate(
    folder: Path,
    recipe: Recipe,
    validation: Mapping[str, Samples],
    uncertain_below: Mapping[str, float],
) -> dict[str, Any]:
    """Figures of every head on every set that labels it, written as JSON and Markdown.

    Args:
        folder: `models/<name>`.
        recipe: the model's recipe.
        validation: dataset -> its validation part.
        uncertain_below: head -> threshold.
    """
    path = folder / "model.onnx"
    session = open_session(path)
    results = []
    for name, samples in validation.items():
        outputs = run(session, whole_crops(samples, recipe.input))
        for head in [head for head in recipe.labels if head in samples.labels]:
            figures = metrics.report(
                outputs[head],
                samples.labels[head],
                recipe.labels[head],
                uncertain_below.get(head, 0.0),
            )
            results.append({"data": name, "split": SPLITS[name], "head": head, **figures})
    record = {
        "model": recipe.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "results": results,
    }
    (folder / EVALUATION_FILE).write_text(json.dumps(record, indent=1) + "\n")
    (folder / TABLE_FILE).write_text(markdown(record))
    return record


def open_session(path: Path, threads: int = 1) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(
    session: ort.InferenceSession, crops: NDArray[np.uint8], batch: int = 64
) -> dict[str, NDArray[np.float32]]:
    """Outputs by head, float32 (N, K), of crops uint8 (N, S, S, C)."""
    heads = [output.name for output in session.get_outputs()]
    name = session.get_inputs()[0].name
    parts: list[Sequence[Any]] = [
        session.run(heads, {name: crops[start : start + batch]})
        for start in range(0, len(crops), batch)
    ]
    return {head: np.concatenate([part[i] for part in parts]) for i, head in enumerate(heads)}


def markdown(record: Mapping[str, Any]) -> str:
    """The evaluation as Markdown: a summary, then classes and confusion of each head and set."""
    lines = [
        f"# Evaluation of {record['model']}",
        "",
        f"`model.onnx` sha256 `{record['sha256']}`",
        "",
        *summary(record),
    ]
    for result in record["results"]:
        lines += ["", f"## {result['head']} on {result['data']} ({result['split']})", ""]
        lines += ["| class | precision | recall | F1 | support |", "|---|---|---|---|---|"]
        lines += [_class_row(name, figures) for name, figures in result["classes"].items()]
        names = list(result["classes"])
        lines += ["", "Rows are labels, columns are answers.", ""]
        lines += ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {name} | " + " | ".join(map(str, row)) + " |"
            for name, row in zip(names, result["confusion"], strict=True)
        ]
    return "\n".join(lines) + "\n"


def _class_row(name: str, figures: Mapping[str, Any]) -> str:
    values = (f"{figures[key]:.3f}" for key in ("precision", "recall", "f1"))
    return f"| {name} | " + " | ".join(values) + f" | {figures['support']} |"


def summary(record: Mapping[str, Any]) -> list[str]:
    """Markdown lines of one table, one row for each head and set."""
    rows = [
        "| head | data, split | images | accuracy | macro F1 | ECE | uncertain | right else |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in record["results"]:
        rest = "-" if r["certain_accuracy"] is None else f"{r['certain_accuracy']:.1%}"
        rows.append(
            f"| {r['head']} | {r['data']}, {r['split']} | {r['samples']} | {r['accuracy']:.1%} "
            f"| {r['macro_f1']:.3f} | {r['ece']:.3f} | {r['uncertain_share']:.1%} | {rest} |"
        )
    return rows
