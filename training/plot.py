"""A run's history and an evaluation as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def plot_history(epochs: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Write a PNG: the training loss, and accuracy on the tune parts by epoch."""
    numbers = [epoch["epoch"] for epoch in epochs]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(numbers, [epoch["loss"] for epoch in epochs], label="training loss")
    for name in epochs[-1]["tune"]:
        values = [epoch["tune"][name] for epoch in epochs]
        loss.plot(numbers, [value["nll"] for value in values], "--", label=f"{name} NLL, tune")
        accuracy.plot(numbers, [value["accuracy"] for value in values], label=name)
    loss.set(xlabel="epoch", title=title)
    accuracy.set(xlabel="epoch", title="accuracy on the tune part, averaged weights")
    loss.legend()
    accuracy.legend()
    figure.savefig(path, dpi=100)


def plot_evaluation(record: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: for each head and set its confusion, as shares of each label, and reliability.

    Args:
        record: what `training.evaluate.evaluate` gives.
        path: of the PNG.
    """
    results = record["results"]
    figure = Figure(figsize=(6.4, 2.9 * len(results)), layout="constrained", dpi=90)
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(len(results), 2, squeeze=False)
    for (confusion, reliability), result in zip(grid, results, strict=True):
        title = f"{result['head']}, {result['data']} ({result['samples']} images)"
        _plot_confusion(confusion, result, title)
        _plot_reliability(reliability, result)
    canvas.draw()
    # 64 colours are enough, and a quarter of the bytes. Pillow comes with Matplotlib.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.quantize(64).save(path, optimize=True)


def _plot_confusion(axes: Any, result: Mapping[str, Any], title: str) -> None:
    names = list(result["classes"])
    counts = np.array(result["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=color, fontsize=6)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_title(title, fontsize=9)


def _plot_reliability(axes: Any, result: Mapping[str, Any]) -> None:
    rows = result["reliability"]
    confidence = [row["confidence"] for row in rows]
    sizes = [4 + 200 * row["samples"] / result["samples"] for row in rows]
    axes.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
    axes.plot(confidence, [row["accuracy"] for row in rows], linewidth=1)
    axes.scatter(confidence, [row["accuracy"] for row in rows], sizes)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"reliability, ECE {result['ece']:.3f}", fontsize=9)
