"""Knowledge distillation: a student learns a mixture of the labels and its teachers' answers.

After Hinton et al. 2015 (arXiv:1503.02531), with the teachers' calibrated probabilities in place
of a raised temperature: they were trained on soft votes and are soft already.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.types import Head
from service.vision.crops import crop_face
from training.batches import whole_crops
from training.datasets import Part, Samples
from training.publish import KERAS_FILE, load_keras, published_file
from training.recipe import Distillation, Recipe, load_recipe
from training.train import predict


def distil(
    datasets: Mapping[str, dict[Part, Samples]],
    heads: Collection[Head],
    plan: Distillation,
    models: Path,
    answers_dir: Path,
) -> None:
    """Move the targets of the training parts `plan.share` of the way to the teachers' mean answer.

    A set that does not label a head has the answers alone as targets, times `plan.unlabelled`, by
    which the loss weighs them. Rows without a label in a set that labels the head (no face, say)
    keep their target of zeros. A set that labels none of the heads is not measured by the student
    either, whole images and all: its faces are framed as the student is served them.

    Args:
        datasets: name -> parts; their training parts are replaced.
        heads: of the student.
        plan: teachers and shares.
        models: folder of the published teachers.
        answers_dir: where their answers are kept, for the next student or the next start.
    """
    teachers = [_Teacher(name, models, answers_dir) for name in plan.teachers]
    for parts in datasets.values():
        samples = parts["train"]
        answers: dict[Head, list[NDArray[np.float32]]] = {}
        for teacher in teachers:
            for head, values in _answers(samples, heads, teacher, plan).items():
                answers.setdefault(head, []).append(values)
        targets = dict(samples.targets)
        for head, given in answers.items():
            if head in samples.targets:
                targets[head] = _mixed(targets[head], given, plan.share)
            else:
                targets[head] = np.mean(given, axis=0) * np.float32(plan.unlabelled)
        own = samples.framing if samples.targets.keys() & heads else None
        parts["train"] = replace(samples, targets=targets, framing=own)


class _Teacher:
    """A published model; a VGG takes minutes for a set, so what it answered is kept in a file."""

    def __init__(self, name: str, models: Path, answers_dir: Path) -> None:
        self.recipe: Recipe = load_recipe(name)
        self._path = models / name / KERAS_FILE
        self._answers_dir = answers_dir

    @cached_property
    def _model(self) -> Any:
        return load_keras(self._path)

    def answers(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Its probabilities by head, float32 (N, K), for crops uint8 (N, S, S, C)."""
        key = hashlib.sha256(published_file(self._path).read_bytes())
        key.update(crops.data)
        path = self._answers_dir / f"{self.recipe.name}-{key.hexdigest()[:32]}.npz"
        if path.exists():
            with np.load(path) as saved:
                return dict(saved)
        outputs = predict(self._model, crops)
        self._answers_dir.mkdir(parents=True, exist_ok=True)
        # Runs side by side may share the folder: a file is there whole or not at all.
        temporary = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(temporary, **outputs)
        os.replace(temporary, path)
        return outputs


def _answers(
    samples: Samples, heads: Collection[Head], teacher: _Teacher, plan: Distillation
) -> dict[Head, NDArray[np.float32]]:
    """Of the heads that the set labels; of all where what it does not label is learnt too."""
    known = teacher.recipe.labels.keys() & heads
    labelled = samples.targets.keys() & known
    result = {}
    if labelled:
        outputs = teacher.answers(whole_crops(samples, teacher.recipe.input))
        result = {head: outputs[head] for head in labelled}
    if plan.unlabelled and (others := known - labelled):
        # Here the teacher knows no set like this one: it is shown the faces as it is served them.
        pairs = zip(samples.images, samples.boxes, strict=True)
        crops = np.stack([crop_face(image, box, teacher.recipe.input) for image, box in pairs])
        outputs = teacher.answers(crops)
        result |= {head: outputs[head] for head in others}
    return result


def _mixed(
    known: NDArray[np.float32], answers: list[NDArray[np.float32]], share: float
) -> NDArray[np.float32]:
    mixed = (1 - share) * known + share * np.mean(answers, axis=0)
    labelled = known.sum(axis=1, keepdims=True) > 0
    return np.where(labelled, mixed, 0).astype(np.float32)
