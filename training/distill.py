"""Knowledge distillation: a student learns a mixture of the labels and its teachers' answers.

After Hinton et al. 2015 (arXiv:1503.02531), with the teachers' calibrated probabilities in place
of a raised temperature: they were trained on soft votes and are soft already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.types import Head
from service.vision.crops import crop_face
from training.batches import whole_crops
from training.datasets import Part, Samples
from training.publish import KERAS_FILE, load_keras
from training.recipe import Distillation, Recipe, load_recipe
from training.train import predict


def distil(
    datasets: Mapping[str, dict[Part, Samples]],
    heads: Collection[Head],
    plan: Distillation,
    models: Path,
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
    """
    teachers = [
        (load_recipe(name), load_keras(models / name / KERAS_FILE)) for name in plan.teachers
    ]
    for parts in datasets.values():
        samples = parts["train"]
        answers: dict[Head, list[NDArray[np.float32]]] = {}
        for recipe, teacher in teachers:
            for head, values in _answers(samples, heads, recipe, teacher, plan).items():
                answers.setdefault(head, []).append(values)
        targets = dict(samples.targets)
        for head, given in answers.items():
            if head in samples.targets:
                targets[head] = _mixed(targets[head], given, plan.share)
            else:
                targets[head] = np.mean(given, axis=0) * np.float32(plan.unlabelled)
        own = samples.framing if samples.targets.keys() & heads else None
        parts["train"] = replace(samples, targets=targets, framing=own)


def _answers(
    samples: Samples, heads: Collection[Head], recipe: Recipe, teacher: Any, plan: Distillation
) -> dict[Head, NDArray[np.float32]]:
    """Of the heads that the set labels; of all where what it does not label is learnt too."""
    known = recipe.labels.keys() & heads
    labelled = samples.targets.keys() & known
    result = {}
    if labelled:
        outputs = predict(teacher, whole_crops(samples, recipe.input))
        result = {head: outputs[head] for head in labelled}
    if plan.unlabelled and (others := known - labelled):
        # Here the teacher knows no set like this one: it is shown the faces as it is served them.
        pairs = zip(samples.images, samples.boxes, strict=True)
        crops = np.stack([crop_face(image, box, recipe.input) for image, box in pairs])
        outputs = predict(teacher, crops)
        result |= {head: outputs[head] for head in others}
    return result


def _mixed(
    known: NDArray[np.float32], answers: list[NDArray[np.float32]], share: float
) -> NDArray[np.float32]:
    mixed = (1 - share) * known + share * np.mean(answers, axis=0)
    labelled = known.sum(axis=1, keepdims=True) > 0
    return np.where(labelled, mixed, 0).astype(np.float32)
