"""`python -m training train RECIPE`, `publish RECIPE`, `evaluate NAME --data SET=PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training import measuring

if TYPE_CHECKING:
    from training.recipe import Recipe
    from training.train import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Fer2013 = Annotated[Path | None, typer.Option(help="fer2013.csv or its folder")]
Faces = Annotated[Path | None, typer.Option(help="folder or zip")]
Out = Annotated[Path, typer.Option(help="where run folders go")]
Models = Annotated[Path, typer.Option(help="where model folders are")]
Seed = Annotated[int | None, typer.Option(help="instead of the recipe's")]
Epochs = Annotated[int | None, typer.Option(help="instead of the recipe's")]
Threads = Annotated[int, typer.Option(help="of one operation")]


@app.callback()
def main() -> None:
    """Train models by recipe, publish them to `models/`, and measure them."""


@app.command()
def train(
    recipe: str,
    fer2013: Fer2013 = None,
    utkface: Faces = None,
    all_age_faces: Faces = None,
    out: Out = Path("runs"),
    models: Models = Path("models"),
    seed: Seed = None,
    epochs: Epochs = None,
    threads: Threads = 1,
) -> None:
    """Train a recipe, or take its run up again after its last finished epoch."""
    paths = {"fer2013": fer2013, "utkface": utkface, "all_age_faces": all_age_faces}
    _open_run(recipe, paths, out, seed, epochs, threads, models).train()


@app.command()
def publish(
    recipe: str,
    fer2013: Fer2013 = None,
    utkface: Faces = None,
    all_age_faces: Faces = None,
    out: Out = Path("runs"),
    models: Models = Path("models"),
    seed: Seed = None,
    threads: Threads = 1,
) -> None:
    """Calibrate a run's weights as they are at its last checkpoint, and write `model.keras`."""
    paths = {"fer2013": fer2013, "utkface": utkface, "all_age_faces": all_age_faces}
    run = _open_run(recipe, paths, out, seed, None, threads)
    from training.publish import publish as write

    if not run.epochs:
        raise typer.BadParameter(f"{out / recipe} holds no checkpoint: train it first")
    typer.echo(f"{write(run, models)}: the weights after epoch {len(run.epochs)}")


def _open_run(
    recipe: str,
    paths: dict[str, Path | None],
    out: Path,
    seed: int | None,
    epochs: int | None,
    threads: int,
    teachers: Path | None = None,
) -> Run:
    from training.datasets import load_parts
    from training.recipe import load_recipe

    plan = load_recipe(recipe)
    plan = plan if epochs is None else _lasting(plan, epochs)
    for name in plan.training.per_batch:
        if paths[name] is None:
            raise typer.BadParameter(f"{recipe} learns from --{name.replace('_', '-')}")

    # TensorFlow is imported only where it is needed, and after its threads are set.
    from training.accelerate import set_threads

    set_threads(threads)
    from training.train import Run

    wanted = {
        name: path for name, path in paths.items() if path and name in plan.training.per_batch
    }
    datasets = {name: load_parts(name, path) for name, path in wanted.items()}
    if teachers and plan.distillation:
        from training.distill import distil

        distil(datasets, plan.distillation, teachers)
    return Run(plan, datasets, out / plan.name, seed)


def _lasting(recipe: Recipe, epochs: int) -> Recipe:
    training = recipe.training.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"training": training})


for command in measuring.COMMANDS:
    app.command()(command)

if __name__ == "__main__":
    app()
