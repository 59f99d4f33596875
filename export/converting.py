"""`python -m export convert`: a model of a recipe, or a file that was made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from export.foreign import flags

if TYPE_CHECKING:
    from service.card import ModelCard

Name = Annotated[str | None, typer.Argument(help="of the recipe, or of the folder with --from")]
Models = Annotated[Path, typer.Option(help="where model folders are")]
Data = Annotated[list[str], typer.Option(help="with --from: SET=PATH to calibrate and measure on")]
From = Annotated[
    Path | None,
    typer.Option("--from", help=".keras, HDF5 or JSON file, or SavedModel folder, made elsewhere"),
]
Weights = Annotated[Path | None, typer.Option(help="HDF5, where --from is JSON")]
Card = Annotated[Path | None, typer.Option(help="TOML: labels, preprocessing, source, licence")]


def convert(
    name: Name = None,
    models: Models = Path("models"),
    from_: From = None,
    weights: Weights = None,
    card: Card = None,
    labels: flags.Labels = [],  # noqa: B006
    color: flags.Color = None,
    scaling: flags.Scaling = None,
    mean: flags.Mean = None,
    std: flags.Std = None,
    scale: flags.Scale = None,
    shift_y: flags.ShiftY = None,
    output: flags.Output = None,
    source: flags.Source = None,
    licence: flags.Licence = None,
    note: flags.Notes = [],  # noqa: B006
    data: Data = [],  # noqa: B006
) -> None:
    """Write models/NAME/model.onnx from model.keras; with --from, a whole folder from any model."""
    if from_ is None:
        if name is None:
            raise typer.BadParameter("name a recipe, or a file with --from")
        _convert_own(name, models)
        return
    fields = flags.as_fields(labels, scaling, (mean, std), (scale, shift_y))
    said = {"name": name, "output": output, "source": source, "licence": licence, "notes": note}
    fields["input"]["color"] = color
    made = _adopt(from_, weights, card, fields | said, models, data)
    typer.echo(
        f"{models / made.name}: {made.id}, {made.parameters:,} parameters, differs from the model "
        f"that came by at most {made.parity.max_abs_error:.1e} over {made.parity.samples} crops"
    )
    if made.explain_sha256 is None:
        typer.echo(
            f"it has no gradient to explain it by: `python -m export explain {name}` says why"
        )
    for metric in made.metrics:
        if metric.name == "accuracy":
            typer.echo(f"{metric.head}: {metric.value:.1%} on {metric.data}, {metric.split}")
    for head, out in made.heads.items() if data else ():
        typer.echo(f"{head}: temperature {out.temperature}, uncertain below {out.uncertain_below}")


def _convert_own(name: str, models: Path) -> None:
    from export.convert import convert as write
    from training.recipe import load_recipe

    path = write(load_recipe(name), models / name)
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def _adopt(
    path: Path,
    weights: Path | None,
    card: Path | None,
    fields: dict[str, object],
    models: Path,
    data: list[str],
) -> ModelCard:
    from export.convert import UnsupportedOp
    from export.foreign.errors import ConversionError
    from export.foreign.folder import adopt, open_source
    from export.foreign.wish import read_wish
    from export.verify import ParityError
    from training.datasets import load_validation, named_paths

    named_paths(data)  # a set that is not there is told of before a network is loaded
    try:
        wish = read_wish(card, fields)
        model = open_source(path, weights)
        return adopt(model, wish, models, load_validation(data))
    except (ConversionError, UnsupportedOp, ParityError) as error:
        typer.echo(f"{path} cannot be converted: {error}", err=True)
        raise typer.Exit(1) from error
