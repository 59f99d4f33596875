"""`python -m export convert NAME`, `convert --from FILE`, `verify NAME [--data SET=PATH]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from export import converting

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Models = Annotated[Path, typer.Option(help="where model folders are")]
Data = Annotated[list[str], typer.Option(help="SET=PATH, once for each set")]


@app.callback()
def main() -> None:
    """Convert trained models to ONNX, and verify what came out."""


@app.command()
def verify(name: str, data: Data = [], models: Models = Path("models")) -> None:  # noqa: B006
    """Compare ONNX with Keras; then write card.json and README.md."""
    from export.readme import write_readme
    from export.verify import verify as check
    from training.datasets import load_parts
    from training.recipe import load_recipe

    pairs = [item.partition("=") for item in data]
    validation = {key: load_parts(key, Path(path))["validation"] for key, _, path in pairs}
    recipe = load_recipe(name)
    card = check(recipe, models / name, validation)
    write_readme(card, recipe, models / name)
    typer.echo(
        f"{card.id}: sha256 {card.sha256[:12]}..., differs from Keras by at most "
        f"{card.parity.max_abs_error:.1e} over {card.parity.samples} crops"
    )


app.command()(converting.convert)

if __name__ == "__main__":
    app()
