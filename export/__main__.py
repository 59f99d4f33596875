"""`python -m export convert NAME` or `--from FILE`, `verify`, `explain` and `quantize NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from export import converting, quantizing
from training.commands import Commands

app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

Models = Annotated[Path, typer.Option(help="where model folders are")]
Data = Annotated[list[str], typer.Option(help="SET=PATH, once for each set")]


@app.callback()
def main() -> None:
    """Convert models to ONNX, verify what came out, explain it and make it smaller."""


@app.command()
def verify(name: str, data: Data = [], models: Models = Path("models")) -> None:  # noqa: B006
    """Compare ONNX with Keras; then write card.json and README.md.

    Variants of another file than the one that is verified are removed.
    """
    from export.readme import write_readme
    from export.variants.folder import remove_stale
    from export.verify import verify as check
    from training.datasets import load_validation
    from training.recipe import load_recipe

    recipe = load_recipe(name)
    card = check(recipe, models / name, load_validation(data))
    write_readme(card, recipe, models / name)
    typer.echo(
        f"{card.id}: sha256 {card.sha256[:12]}..., differs from Keras by at most "
        f"{card.parity.max_abs_error:.1e} over {card.parity.samples} crops"
    )
    for stale in remove_stale(models / name, card):
        typer.echo(f"{stale} was of another file and is removed: run `quantize {name}` again")


@app.command()
def explain(name: str, models: Models = Path("models")) -> None:
    """Write models/NAME/explain.onnx from model.onnx, and its sha256 into card.json.

    `verify` does it too, and leaves out a model with an op whose gradient is not known; this
    command names the op.
    """
    from export.explain import write_explanation
    from export.tape import UncoveredOp
    from service.card import CARD_FILE, load_card

    folder = models / name
    card = load_card(folder)
    if card.variant_of is not None:
        typer.echo(f"{name} is a variant: it is explained by {card.variant_of}", err=True)
        raise typer.Exit(1)
    try:
        digest = write_explanation(folder)
    except UncoveredOp as error:
        typer.echo(f"{name} cannot be explained by its gradient: {error}", err=True)
        raise typer.Exit(1) from error
    card = card.model_copy(update={"explain_sha256": digest})
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n")
    typer.echo(f"{card.id}: explain.onnx, sha256 {digest[:12]}...")


@app.command()
def detector(
    keras_file: Annotated[Path, typer.Argument(help="model.keras of a detector's run")],
    scenes: Annotated[Path, typer.Argument(help="as for `python -m training train-detector`")],
    recipe: Annotated[str, typer.Option(help="that the run was of")] = "detector",
    yunet: Annotated[Path | None, typer.Option(help="YuNet-format ONNX file to compare")] = None,
    haar: Annotated[bool, typer.Option(help="compare OpenCV's cascade")] = True,
    models: Models = Path("models"),
) -> None:
    """Write models/NAME of a detector: ONNX, compared with Keras; threshold, figures and card."""
    from export.detection.folder import publish
    from training.detecting import open_peers
    from training.detection.recipe import load_recipe
    from training.detection.scenes import parts
    from training.detection.sets import load

    peers = open_peers(yunet, haar=haar)
    found, name = parts(load(scenes)), scenes.absolute().name
    card = publish(load_recipe(recipe), keras_file, models, name, found, peers)
    best = ", ".join(f"{m.name} {m.value:.3f}" for m in card.metrics if m.size_px == "all")
    typer.echo(
        f"{card.id}: sha256 {card.sha256[:12]}..., differs from Keras by at most "
        f"{card.parity.max_abs_error:.1e}; threshold {card.threshold}, {best}, "
        f"{card.times[0].ms} ms"
    )


app.command()(converting.convert)
app.command()(quantizing.quantize)

if __name__ == "__main__":
    app()
