"""`python -m export quantize`: variants of a model, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[Path, typer.Option(help="where model folders are")]
Data = Annotated[list[str], typer.Option(help="SET=PATH to calibrate and measure with")]


def quantize(name: str, data: Data, models: Models = Path("models")) -> None:
    """Make int8 and fp16 of models/NAME, measure them, and keep one that is as good and faster.

    The table is written to models/NAME/quantization.md either way.
    """
    from export.variants.folder import quantize as make
    from export.variants.record import page
    from training.datasets import load_sets

    typer.echo(page(make(models / name, load_sets(data))))
