"""The detector's commands of `python -m training`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.core.ports import Detector

Scenes = Annotated[
    Path,
    typer.Argument(help="X.zip with X.jsonl, wider_face_*_bbx_gt.txt, or a folder of YOLO labels"),
]


def train_detector(
    data: Scenes,
    recipe: Annotated[str, typer.Option(help="below training/detection/recipes, or a file")] = (
        "detector"
    ),
    out: Annotated[Path, typer.Option(help="where run folders go")] = Path("runs"),
    seed: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    epochs: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    threads: Annotated[int, typer.Option(help="of one operation")] = 1,
) -> None:
    """Train a detector, or take its run up again after its last finished epoch."""
    from training.accelerate import set_threads
    from training.detection.recipe import load_recipe
    from training.detection.scenes import load, parts

    plan = load_recipe(recipe)
    if epochs is not None:
        lasting = plan.training.model_copy(update={"epochs": epochs})
        plan = plan.model_copy(update={"training": lasting})
    scenes = parts(load(data))
    set_threads(threads)
    from training.detection.train import DetectorRun

    DetectorRun(plan, scenes, out / plan.name, seed).train()


def open_peers(yunet: Path | None, *, haar: bool) -> dict[str, Detector]:
    """What a detector of ours is measured against, by name.

    Raises:
        ModelError: the file is not of YuNet's format, or this OpenCV has no cascades.
    """
    from service.runtime.haar import HaarDetector
    from service.runtime.session import SessionOptions
    from service.runtime.yunet import YunetDetector

    peers: dict[str, Detector] = {}
    if yunet:
        peers["yunet"] = YunetDetector(yunet, options=SessionOptions(provider="cpu"))
    if haar:
        peers["haar"] = HaarDetector()
    return peers


def evaluate_detector(
    folder: Path, data: Path, peers: Mapping[str, Detector], sides: Sequence[int], limit: int
) -> None:
    """Measure `models/NAME` at each longer side, and its peers; 0 scenes for all, and a record."""
    from service.runtime.detector import MienDetector
    from service.runtime.session import SessionOptions
    from training.detection.evaluate import evaluate, evenly, table, write
    from training.detection.scenes import load, parts

    options = SessionOptions(provider="cpu", threads=1)
    ours = MienDetector(folder, options=options)
    detectors: dict[str, Detector] = {ours.card.name: ours}
    for side in sides:
        at_side = MienDetector(folder, max_side=side, options=options)
        detectors[f"{ours.card.name}, {at_side.max_side} px"] = at_side
    scenes = parts(load(data))["validation"]
    record = evaluate({**detectors, **peers}, evenly(scenes, limit) if limit else scenes)
    typer.echo("\n".join(table(record)))
    if not limit:
        write(record, ours.card, folder)


COMMANDS = (train_detector,)
