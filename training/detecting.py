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
    paths = {"utkface": utkface, "all_age_faces": all_age_faces}
    crops = _crops({n: path for n, path in paths.items() if path}, yunet) if plan.crops else []
    scenes = parts(load(data))
    set_threads(threads)
    from training.detection.train import DetectorRun

    DetectorRun(plan, scenes, out / plan.name, seed, crops).train()


def _crops(paths: Mapping[str, Path], yunet: Path | None) -> list[Scene]:
    """The training faces of attribute sets, where YuNet finds them."""
    from training.datasets import load_parts
    from training.detection.crops import crops

    if not paths or yunet is None:
        raise typer.BadParameter(
            "the recipe pastes faces in: --utkface or --all-age-faces, --yunet"
        )
    (detector,) = open_peers(yunet, haar=False).values()
    return [
        one for n, path in paths.items() for one in crops(load_parts(n, path)["train"], detector)
    ]


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

    @property
    def recorded(self) -> bool:
        """Whether it is the whole part as it is, whose figures the model's folder holds."""
        return not self.limit and self.mosaic == 1


def evaluate_detector(folder: Path, trial: Trial) -> None:
    """Measure `models/NAME` and its peers; the record is written where it is of the whole part."""
    from service.runtime.detector import MienDetector
    from service.runtime.session import SessionOptions
    from training.detection.evaluate import evaluate, evenly, table, write
    from training.detection.scenes import load, mosaics, parts

    options = SessionOptions(provider="cpu", threads=1)
    ours = MienDetector(folder, options=options)
    name = ours.card.name
    plain = MienDetector(folder, enlarge=1, options=options)
    detectors: dict[str, Detector] = {name: ours, f"{name}, nothing enlarged": plain}
    for side in trial.max_sides:
        detectors[f"{name}, {side} px"] = MienDetector(folder, max_side=side, options=options)
    for tiles in trial.tiles:
        detectors[f"{name}, {tiles} tiles"] = MienDetector(folder, tiles=tiles, options=options)
    scenes = parts(load(trial.scenes))["validation"]
    if trial.mosaic > 1:
        scenes = mosaics(scenes, trial.mosaic)
    if trial.limit:
        scenes = list(evenly(scenes, trial.limit))
    record = evaluate({**detectors, **trial.peers}, scenes)
    typer.echo("\n".join(table(record)))
    if trial.recorded:
        write(record, ours.card, folder)


COMMANDS = (train_detector,)
