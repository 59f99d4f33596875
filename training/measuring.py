"""The commands that measure what was published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.datasets import Samples

Models = Annotated[Path, typer.Option(help="where model folders are")]
Data = Annotated[list[str], typer.Option(help="SET=PATH, once for each set")]
Folds = Annotated[
    int, typer.Option(min=0, help="also mean and deviation over so many folds; nothing is trained")
]


def evaluate(name: str, data: Data, models: Models = Path("models"), folds: Folds = 0) -> None:
    """Measure `models/NAME/model.onnx` on validation parts; writes evaluation.json, .md, .png."""
    from training import tables
    from training.evaluate import evaluate as measure
    from training.evaluate import open_subject

    record = measure(open_subject(models / name), _validation(data), folds)
    typer.echo("\n".join(tables.summary(record)))


def _validation(data: list[str]) -> dict[str, Samples]:
    from training.datasets import load_parts

    pairs = [item.partition("=") for item in data]
    return {name: load_parts(name, Path(path))["validation"] for name, _, path in pairs}
