"""A detector's run: as `training.train.Run`, with pictures and cells for crops and labels."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from rich.console import Console

from service.vision.cells import decode
from service.vision.geometry import letterbox, nms
from training import checkpoint
from training.accelerate import use_fused_batch_norm
from training.datasets.splits import PARTS, Part
from training.detection.batches import SceneBatches
from training.detection.loss import DetectorLoss
from training.detection.measure import Judged, figures
from training.detection.recipe import DetectorRecipe
from training.detection.scenes import Scene, fingerprints
from training.errors import WorkError
from training.networks import detector
from training.schedule import Schedule, WeightAverage
from training.train import HISTORY, make_optimizer

KERAS_FILE = "model.keras"
LEAST_SCORE, MAX_IOU = 0.02, 0.45
_BATCH = 16
_console = Console(highlight=False)


class AnotherRun(WorkError):
    """A folder whose run cannot be continued with what is given; says what differs."""


class DetectorRun:
    """A training run in a folder; the same call again takes it up where its checkpoint lies.

    Args:
        recipe: of the detector.
        scenes: its parts.
        crops: of faces, where the recipe has some in a batch.
        folder: where checkpoint, history and `model.keras` go.
        seed: overrides the recipe's.

    Raises:
        AnotherRun: the folder's run has other scenes or another seed.
    """

    def __init__(
        self,
        recipe: DetectorRecipe,
        scenes: Mapping[Part, Sequence[Scene]],
        folder: Path,
        seed: int | None = None,
        crops: Sequence[Scene] = (),
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self.seed = recipe.training.seed if seed is None else seed
        self._train, self._tune, self._crops = scenes["train"], scenes["tune"], crops
        self.splits = fingerprints([*scenes.items(), ("crops", crops)])
        self._refuse_another()
        folder.mkdir(parents=True, exist_ok=True)
        # One core has one run: OpenCV's threads would wait for each other.
        cv2.setNumThreads(1)
        self.model = _compiled(recipe, self.seed)
        self.average = WeightAverage(recipe.training.average)
        self.epochs, _ = checkpoint.read(folder, self.model, self.average)
        if self.epochs:
            _console.print(f"resuming {recipe.name} after epoch {len(self.epochs)}")

    def train(self) -> Any:
        """Train what is left of the epochs; a float32 Keras model, also `folder/model.keras`."""
        planned = self.recipe.training.epochs
        while len(self.epochs) < planned:
            self.epochs.append(self._epoch(len(self.epochs)))
            self._save()
            _console.print(_line(self.epochs[-1], planned))
        model = self.averaged()
        model.save(self.folder / KERAS_FILE)
        return model

    def averaged(self) -> Any:
        """The averaged weights in a float32 network."""
        keras.config.set_dtype_policy("float32")
        model = detector.build(**self.recipe.network_options)
        model.set_weights(self.average.weights or self.model.get_weights())
        return model

    def _epoch(self, epoch: int) -> dict[str, Any]:
        batches = SceneBatches(self.recipe, self._train, self._crops, epoch, self.seed)
        steps = len(batches)
        schedule = Schedule(epoch * steps, steps, self.recipe.training)
        started = time.perf_counter()
        history = self.model.fit(
            batches, shuffle=False, verbose=0, callbacks=[schedule, self.average]
        )
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch + 1,
            "loss": history.history["loss"][0],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 1),
            "images_per_s": round(steps * (self.recipe.scenes + self.recipe.crops) / seconds),
            "tune": self._measure(),
        }

    def _measure(self) -> dict[str, Any]:
        # With the averaged weights, on the part that training does not see.
        held = self.model.get_weights()
        self.model.set_weights(self.average.weights)
        side = self.recipe.tune_side
        judged: list[Judged] = []
        for start in range(0, len(self._tune), _BATCH):
            scenes = self._tune[start : start + _BATCH]
            boxed = [letterbox(s.pixels(), (side, side), (side, side)) for s in scenes]
            cells = self.model.predict_on_batch(np.stack([b.pixels for b in boxed]))
            for scene, frame, found in zip(scenes, boxed, np.asarray(cells), strict=True):
                boxes, _, scores = decode(found, side, side, LEAST_SCORE)
                kept = nms(boxes, scores, MAX_IOU)
                placed = frame.restore_boxes(boxes[kept])
                judged.append(Judged(scene.boxes, scene.ignored, placed, scores[kept]))
        self.model.set_weights(held)
        return figures(judged)

    def _refuse_another(self) -> None:
        # With other scenes, what is measured might have been learnt before. Epochs, recipe and
        # crops may change: a run is continued by them.
        path = self.folder / HISTORY
        if not (path.exists() and (self.folder / checkpoint.CHECKPOINT).exists()):
            return
        before = json.loads(path.read_text())
        if before["seed"] != self.seed:
            raise AnotherRun(
                f"{path} is of seed {before['seed']}, not {self.seed}: name another --out"
            )
        for part in PARTS:
            if before["splits"][part] != self.splits[part]:
                raise AnotherRun(f"{path} is of another {part} part: name another --out")

    def _save(self) -> None:
        checkpoint.write(self.folder, self.model, self.average, self.epochs)
        history = {
            "recipe": self.recipe.name,
            "seed": self.seed,
            "splits": self.splits,
            "epochs": self.epochs,
        }
        temporary = self.folder / "history.tmp.json"
        temporary.write_text(json.dumps(history, indent=1) + "\n")
        temporary.replace(self.folder / HISTORY)


def _compiled(recipe: DetectorRecipe, seed: int) -> Any:
    use_fused_batch_norm()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(recipe.training.precision)
    try:
        model = detector.build(**recipe.network_options)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = make_optimizer(recipe.training, model)
    model.compile(optimizer, loss=DetectorLoss())
    return model


def _line(epoch: Mapping[str, Any], epochs: int) -> str:
    tune = "  ".join(f"{size} {values['ap']:.3f}" for size, values in epoch["tune"].items())
    return (
        f"{epoch['epoch']:3d}/{epochs}  loss {epoch['loss']:.4f}  rate {epoch['learning_rate']:.2e}"
        f"  {epoch['seconds']:.0f} s  {epoch['images_per_s']} images/s  AP {tune}"
    )
