"""The detector's commands of `python -m training`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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


def evaluate_detector(
    data: Scenes,
    ours: Annotated[
        list[Path], typer.Option(help="ONNX file of `export detector`; may come twice")
    ] = [],  # noqa: B006
    yunet: Annotated[Path | None, typer.Option(help="YuNet-format ONNX file")] = None,
    haar: Annotated[bool, typer.Option(help="OpenCV's cascade as well")] = True,
    limit: Annotated[int, typer.Option(min=0, help="so many scenes of the part; 0 is all")] = 0,
    out: Annotated[Path | None, typer.Option(help="the record as JSON")] = None,
) -> None:
    """Measure detectors on the validation scenes in one run: AP, recall and time, by face size."""
    from service.runtime.haar import HaarDetector
    from service.runtime.session import SessionOptions
    from service.runtime.yunet import YunetDetector
    from training.detection.evaluate import CellDetector, evaluate, table, write
    from training.detection.scenes import load, parts

    detectors: dict[str, Detector] = {f"{path}": CellDetector(path) for path in ours}
    if yunet:
        detectors["yunet"] = YunetDetector(yunet, options=SessionOptions(provider="cpu"))
    if haar:
        detectors["haar"] = HaarDetector()
    if not detectors:
        raise typer.BadParameter("there is no detector to measure")
    scenes = parts(load(data))["validation"]
    # Evenly from the whole part, whose sets follow one another.
    scenes = scenes[:: max(len(scenes) // limit, 1)][:limit] if limit else scenes
    record = evaluate(detectors, scenes)
    typer.echo("\n".join(table(record)))
    if out:
        write(record, out)


COMMANDS = (train_detector, evaluate_detector)
