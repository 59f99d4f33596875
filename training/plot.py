"""A run's history as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


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
