"""`python -m export convert NAME` or `--from FILE`, `verify`, `explain` and `quantize NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from export import converting, quantizing

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Models = Annotated[Path, typer.Option(help="where model folders are")]
Data = Annotated[list[str], typer.Option(help="SET=PATH, once for each set")]


@app.callback()
def main() -> None:
    """Convert models to ONNX, verify what came out, explain it and make it smaller."""


@app.command()
def verify(name: str, data: Data = [], models: Models = Path("models")) -> None:  # noqa: B006
    """Compare ONNX with Keras; then write card.json and README.md."""
    from export.readme import write_readme
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
    out: Annotated[Path, typer.Option(help="folder of model.onnx")],
    recipe: Annotated[str, typer.Option(help="that the run was of")] = "detector",
) -> None:
    """Write OUT/model.onnx of a detector and compare it with Keras on noise of several sizes."""
    import numpy as np

    from export.detector import convert, parity
    from training.detection.recipe import load_recipe

    path = convert(load_recipe(recipe), keras_file, out)
    rng = np.random.default_rng(0)
    shapes = ((1, 32, 32, 3), (2, 96, 160, 3), (1, 480, 640, 3))
    worst = parity(keras_file, path, [rng.integers(0, 256, s, np.uint8) for s in shapes])
    typer.echo(f"{path}: {path.stat().st_size} bytes, differs from Keras by at most {worst:.1e}")


app.command()(converting.convert)
app.command()(quantizing.quantize)

if __name__ == "__main__":
    app()
