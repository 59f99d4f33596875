"""The detector's commands of `python -m training`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.core.ports import Detector
    from training.detection.scenes import Scene

Faces = Annotated[Path | None, typer.Option(help="folder or zip; its faces are pasted in")]
Scenes = Annotated[
    Path,
    typer.Argument(help="X.zip with X.jsonl, wider_face_*_bbx_gt.txt, or a folder of YOLO labels"),
]


def train_detector(
    data: Scenes,
    recipe: Annotated[str, typer.Option(help="below training/detection/recipes, or a file")] = (
        "detector"
    ),
    utkface: Faces = None,
    all_age_faces: Faces = None,
    yunet: Annotated[Path | None, typer.Option(help="finds the faces of these two sets")] = None,
    out: Annotated[Path, typer.Option(help="where run folders go")] = Path("runs"),
    seed: Annotated[int | None, typer.Option(help="instead of the recipe's")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's")] = None,
    threads: Annotated[int, typer.Option(help="of one operation")] = 1,
) -> None:
    """Train a detector, or take its run up again after its last finished epoch."""
    from training.accelerate import set_threads
    from training.detection.recipe import load_recipe
    from training.detection.scenes import parts
    from training.detection.sets import load

    plan = load_recipe(recipe)
    if epochs is not None:
        lasting = plan.training.model_copy(update={"epochs": epochs})
        plan = plan.model_copy(update={"training": lasting})
    sets = {"utkface": utkface, "all_age_faces": all_age_faces}
    paths = {name: path for name, path in sets.items() if path}
    if plan.crops and not (paths and yunet):
        raise typer.BadParameter(
            "the recipe pastes faces in: --utkface or --all-age-faces, --yunet"
        )
    scenes = parts(load(data))
    crops = _crops(paths, yunet) if plan.crops and yunet else []
    set_threads(threads)
    from training.detection.train import DetectorRun

    DetectorRun(plan, scenes, out / plan.name, seed, crops).train()


def _crops(paths: Mapping[str, Path], yunet: Path) -> list[Scene]:
    """The training faces of attribute sets, where YuNet finds them."""
    from training.datasets import DatasetError, load_parts
    from training.detection.crops import crops

    (detector,) = open_peers(yunet, haar=False).values()
    found = [
        one
        for n, path in paths.items()
        for one in crops(load_parts(n, path, ["train"])["train"], detector)
    ]
    if not found:
        raise DatasetError(f"no face to paste in: {yunet} finds none in {', '.join(paths)}")
    return found


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


@dataclass(frozen=True, slots=True)
class Trial:
    """What a detector is measured on, and as what else: other longer sides, and with tiles."""

    scenes: Path
    peers: Mapping[str, Detector]
    max_sides: Sequence[int]
    tiles: Sequence[int]
    limit: int
    mosaic: int


def evaluate_detector(folder: Path, trial: Trial) -> None:
    """Measure `models/NAME` and its peers, and print it: the record is `export detector`'s."""
    from service.runtime.detector import MienDetector
    from service.runtime.session import SessionOptions
    from training.detection.enlarged import with_enlarged
    from training.detection.evaluate import evaluate, evenly, table
    from training.detection.scenes import mosaics, parts
    from training.detection.sets import load

    options = SessionOptions(provider="cpu", threads=1)
    ours = MienDetector(folder, options=options)
    name = ours.card.name
    plain = MienDetector(folder, enlarge=1, options=options)
    detectors: dict[str, Detector] = {name: ours, f"{name}, nothing enlarged": plain}
    for side in trial.max_sides:
        detectors[f"{name}, {side} px"] = MienDetector(folder, max_side=side, options=options)
    for tiles in trial.tiles:
        detectors[f"{name}, {tiles} tiles"] = MienDetector(folder, tiles=tiles, options=options)
    scenes = parts(load(trial.scenes), ["validation"])["validation"]
    if trial.mosaic > 1:
        scenes = mosaics(scenes, trial.mosaic)
    if trial.limit:
        scenes = list(evenly(scenes, trial.limit))
    typer.echo("\n".join(table(evaluate({**detectors, **with_enlarged(trial.peers)}, scenes))))


COMMANDS = (train_detector,)
