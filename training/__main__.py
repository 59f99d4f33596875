"""`python -m training train RECIPE`, `publish RECIPE`, `evaluate NAME`, `train-detector SCENES`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training import detecting, measuring
from training.commands import Commands

if TYPE_CHECKING:
    from training.datasets import Part, Samples
    from training.recipe import Recipe

ANSWERS = "answers"
"""Of teachers, beside the folders of the runs."""

app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

Fer2013 = Annotated[Path | None, typer.Option(help="fer2013.csv or its folder")]
Faces = Annotated[Path | None, typer.Option(help="folder or zip")]
Out = Annotated[Path, typer.Option(help="where run folders go")]
Models = Annotated[Path, typer.Option(help="where model folders are")]
Seed = Annotated[int | None, typer.Option(help="instead of the recipe's")]
Epochs = Annotated[int | None, typer.Option(help="instead of the recipe's")]
Start = Annotated[
    Path | None,
    typer.Option(exists=True, help="a new run begins with the weights of this `model.keras`"),
]
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
    start: Start = None,
) -> None:
    """Train a recipe, or take its run up again after its last finished epoch."""
    from training.recipe import load_recipe

    plan = load_recipe(recipe)
    if plan.network == "ensemble":
        typer.echo(f"{recipe} is the mean of {' and '.join(plan.members)}: publish it")
        return
    plan = plan if epochs is None else _lasting(plan, epochs)
    paths = {"fer2013": fer2013, "utkface": utkface, "all_age_faces": all_age_faces}
    datasets = _load(plan, paths, threads)
    if plan.distillation:
        from training.distill import distil

        distil(datasets, plan.labels.keys(), plan.distillation, models, out / ANSWERS)
    from training.train import Run

    Run(plan, datasets, out / plan.name, seed, start).train()


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
    """Calibrate a run's weights as they are at its last checkpoint, and write `model.keras`.

    An ensemble has no run: it is made of the models that are published already.
    """
    from training.recipe import load_recipe

    plan = load_recipe(recipe)
    paths = {"fer2013": fer2013, "utkface": utkface, "all_age_faces": all_age_faces}
    datasets = _load(plan, paths, threads)
    from training.ensemble import Ensemble
    from training.publish import publish as write
    from training.train import Run

    if plan.network == "ensemble":
        folder = write(Ensemble(plan, datasets, models), models)
        typer.echo(f"{folder}: the mean of {' and '.join(plan.members)}")
        return
    run = Run(plan, datasets, out / plan.name, seed)
    if not run.epochs:
        raise typer.BadParameter(f"{out / recipe} holds no checkpoint: train it first")
    typer.echo(f"{write(run, models)}: the weights after epoch {run.kept_epoch}")


def _load(
    plan: Recipe, paths: dict[str, Path | None], threads: int
) -> dict[str, dict[Part, Samples]]:
    from training.datasets import PARTS, load_parts

    wanted: dict[str, Path] = {}
    for name in plan.training.per_batch:
        path = paths[name]
        if path is None:
            raise typer.BadParameter(f"{plan.name} learns from --{name.replace('_', '-')}")
        wanted[name] = path

    loaded = {name: load_parts(name, path, PARTS) for name, path in wanted.items()}
    # TensorFlow is imported only where it is needed, and after its threads are set.
    from training.accelerate import set_threads

    set_threads(threads)
    return loaded


def _lasting(recipe: Recipe, epochs: int) -> Recipe:
    training = recipe.training.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"training": training})


for command in (*measuring.COMMANDS, *detecting.COMMANDS):
    app.command()(command)

if __name__ == "__main__":
    app()
