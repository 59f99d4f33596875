"""The commands that measure what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training import detecting

Models = Annotated[Path, typer.Option(help="where model folders are")]
ModelFolders = Annotated[
    list[Path], typer.Option("--models", help="folder of model folders; may come twice")
]
Folds = Annotated[
    int, typer.Option(min=0, help="also mean and deviation over so many folds; nothing is trained")
]


def evaluate(
    name: str,
    scenes: Annotated[
        Path | None, typer.Argument(help="of a detector: as for train-detector")
    ] = None,
    data: Annotated[list[str], typer.Option(help="SET=PATH, once for each set")] = [],  # noqa: B006
    models: Models = Path("models"),
    folds: Folds = 0,
    yunet: Annotated[
        Path | None, typer.Option(help="YuNet-format ONNX file, beside a detector")
    ] = None,
    haar: Annotated[bool, typer.Option(help="OpenCV's cascade, beside a detector")] = True,
    max_side: Annotated[
        list[int],
        typer.Option(min=64, max=4096, help="a detector at this longer side too; may come twice"),
    ] = [],  # noqa: B006
    tiles: Annotated[
        list[int],
        typer.Option(min=1, max=8, help="a detector with so many tiles too; may come twice"),
    ] = [],  # noqa: B006
    mosaic: Annotated[
        int, typer.Option(min=1, help="scenes in a row and rows of each picture of 1280 pixels")
    ] = 1,
    limit: Annotated[int, typer.Option(min=0, help="so many of the scenes; 0 for all")] = 0,
) -> None:
    """Measure `models/NAME/model.onnx` on validation parts; writes evaluation.json, .md, .png.

    A detector is measured on SCENES, in one run with YuNet and Haar: AP and recall by face size,
    and time. That is printed only: its record is what `python -m export detector` measured.
    """
    if scenes is not None:
        peers = detecting.open_peers(yunet, haar=haar)
        trial = detecting.Trial(scenes, peers, max_side, tiles, limit, mosaic)
        detecting.evaluate_detector(models / name, trial)
        return
    if not data:
        raise typer.BadParameter("a model needs --data SET=PATH, a detector its SCENES")
    if folds == 1:
        raise typer.BadParameter("--folds 1 has no deviation: name 2 or more, or 0 for none")
    from training import tables
    from training.datasets import load_validation
    from training.evaluate import evaluate as measure
    from training.evaluate import open_subject

    record = measure(open_subject(models / name), load_validation(data), folds)
    typer.echo("\n".join(tables.summary(record)))


def photos(
    fairface: Annotated[Path, typer.Option(help="folder or zip of FairFace photos")],
    yunet: Annotated[Path, typer.Option(help="YuNet-format ONNX file: its boxes are the best")],
    names: Annotated[
        list[str] | None, typer.Argument(help="all with a gender head, but variants")
    ] = None,
    models: Models = Path("models"),
) -> None:
    """Measure models from photo to result, and by framing; writes `models/NAME/photos.json`."""
    from service.card import find_models, load_card
    from training.datasets.fairface import load_photos
    from training.served import measure_photos

    cards = [load_card(models / name) for name in find_models(models)]
    loaded = load_photos(fairface)
    whole = [c.name for c in cards if "gender" in c.heads and c.variant_of is None]
    for name in names or whole:
        record = measure_photos(models / name, loaded, yunet)
        for detector, service in record["services"].items():
            typer.echo(f"{name}, {detector}: {service['found']} of {len(loaded)} faces")
            for head, figures in service["heads"].items():
                box = figures["best_box_accuracy"]
                typer.echo(f"  {head} {figures['accuracy']:.1%}, from the best box {box:.1%}")


def alignment(
    names: Annotated[list[str], typer.Argument(help="models for faces")],
    yunet: Annotated[Path, typer.Option(help="YuNet-format ONNX file")],
    fairface: Annotated[Path | None, typer.Option(help="folder or zip of FairFace photos")] = None,
    data: Annotated[list[str], typer.Option(help="SET=PATH, once for each set")] = [],  # noqa: B006
    detector: Annotated[str, typer.Option(help="of ours, if it is there")] = "detector",
    models: Models = Path("models"),
    limit: Annotated[int, typer.Option(min=0, help="images of each set; 0 for all")] = 1000,
) -> None:
    """Try models on faces put in place by landmarks, YuNet's and ours; prints tables."""
    from service.runtime.detector import MienDetector
    from service.runtime.registry import Model
    from service.runtime.session import SessionOptions
    from training.alignment import lines, try_alignment
    from training.datasets import load_validation
    from training.datasets.fairface import load_photos
    from training.photos import find, find_in

    options = SessionOptions(provider="cpu")
    finders = detecting.open_peers(yunet, haar=False)
    if (models / detector).is_dir():
        finders[detector] = MienDetector(models / detector, options=options)
    opened = [Model(models / name, options) for name in names]
    photos, sets = load_photos(fairface) if fairface else [], load_validation(data)
    for finder in finders.values():
        found = {name: list(find_in(samples, finder, limit)) for name, samples in sets.items()}
        if photos:
            found["fairface"] = find(photos, finder)
        for name, faces in found.items():
            rows = [row for model in opened for row in try_alignment(model, faces)] if faces else []
            typer.echo("\n".join(["", f"{name}, landmarks of {finder.id}", "", *lines(rows)]))


def results(
    out: Annotated[Path, typer.Option(help="the page")] = Path("docs/results.md"),
    models: ModelFolders = [Path("models"), Path("ablations")],  # noqa: B006
    speed: Annotated[Path, typer.Option(help="JSON of benchmarks.models")] = Path(
        "benchmarks/models.json"
    ),
) -> None:
    """Write docs/results.md from what was recorded; measures nothing."""
    from training.results.page import page
    from training.results.records import read_records
    from training.results.statements import read_statements

    out.write_text(page(read_records(models, speed), read_statements()))
    typer.echo(f"{out}")


def calibration(models: ModelFolders = [Path("models"), Path("ablations")]) -> None:  # noqa: B006
    """List the heads with a calibration error above 3 %, and the models without one.

    Fails if there is any.
    """
    from training.results.records import read_records

    records = read_records(models, Path("none"))
    faults = [*records.above(), *(f"{name}: not measured" for name in records.unmeasured())]
    typer.echo("\n".join(faults) or "every head is calibrated")
    raise typer.Exit(bool(faults))


COMMANDS = (evaluate, photos, alignment, results, calibration)
