"""A tiny detector's recipe, and scenes for it."""

from __future__ import annotations

import json
import tomllib
import zipfile
from itertools import count
from pathlib import Path

import cv2

from tests.unit.training.makers import face
from training.datasets import Part
from training.detection.recipe import DetectorRecipe
from training.detection.scenes import Scene, parts, scene

TOML = """
name = "tiny"
version = "1.0.0"
summary = "A tiny one."
source = "test"
licence = "none"
limits = ["for tests"]
data = []
side = 64
tune_side = 64
network_options = { stem = [8, 8], widths = [16, 16, 16], blocks = [0, 0, 0] }
[training]
epochs = 1
per_batch = { detection = 4 }
warmup_epochs = 0.0
fall_share = 0.5
"""
FIELDS = tomllib.loads(TOML)
TINY = FIELDS["network_options"]


def tiny_recipe(epochs: int = 2) -> DetectorRecipe:
    training = {**FIELDS["training"], "epochs": epochs}
    return DetectorRecipe.model_validate({**FIELDS, "training": training})


def tiny_scenes(number: int) -> list[Scene]:
    """Three of four have a face of 28 pixels."""
    made = []
    for seed in range(number):
        pixels = cv2.cvtColor(face(seed, 64), cv2.COLOR_GRAY2BGR)
        cv2.circle(pixels, (32, 32), 14, (40, 120, 240), -1)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        made.append(scene(f"{seed}.png", data, [[18, 18, 28, 28]] if seed % 4 else []))
    return made


def tiny_parts() -> dict[Part, list[Scene]]:
    every = tiny_scenes(14)
    return {"train": every[:8], "tune": every[8:11], "validation": every[11:]}


def write_parts(path: Path, split: dict[Part, list[Scene]]) -> Path:
    """`path`, a zip, with its `.jsonl`; groups are chosen so that each scene gets to its part."""
    lines = []
    with zipfile.ZipFile(path, "w") as archive:
        for part, scenes in split.items():
            for one in scenes:
                archive.writestr(one.name, one.data)
                faces = [{"xywh": box, "source": "hand"} for box in one.boxes.tolist()]
                lines.append({"file": one.name, "group": _group(part), "faces": faces})
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


def _group(part: Part) -> str:
    return next(
        name for name in map(str, count()) if parts([scene("", b"", [], group=name)], [])[part]
    )
