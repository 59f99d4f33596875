"""Knowledge distillation: a student learns a mixture of the labels and its teachers' answers.

After Hinton et al. 2015 (arXiv:1503.02531), with the teachers' calibrated probabilities in place
of a raised temperature: they were trained on soft votes and are soft already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from service.types import Head
from training.batches import whole_crops
from training.datasets import Part, Samples
from training.publish import KERAS_FILE
from training.recipe import Distillation, load_recipe
from training.train import predict


def distil(datasets: Mapping[str, dict[Part, Samples]], plan: Distillation, models: Path) -> None:
    """Move the targets of the training parts `plan.share` of the way to the teachers' mean answer.

    Rows without a label keep their target of zeros: no teacher invents one.

    Args:
        datasets: name -> parts; their training parts are replaced.
        plan: teachers and share.
        models: folder of the published teachers.
    """
    teachers = [(load_recipe(name), open_teacher(models / name)) for name in plan.teachers]
    for parts in datasets.values():
        samples = parts["train"]
        answers: dict[Head, list[NDArray[np.float32]]] = {head: [] for head in samples.targets}
        for recipe, teacher in teachers:
            outputs = predict(teacher, whole_crops(samples, recipe.input))
            for head in answers.keys() & outputs.keys():
                answers[head].append(outputs[head])
        targets = {
            head: _mixed(known, answers[head], plan.share) if answers[head] else known
            for head, known in samples.targets.items()
        }
        parts["train"] = replace(samples, targets=targets)


def open_teacher(folder: Path) -> Any:
    """The published Keras model: crops -> {head: probabilities}."""
    return keras.saving.load_model(folder / KERAS_FILE, compile=False)


def _mixed(
    known: NDArray[np.float32], answers: list[NDArray[np.float32]], share: float
) -> NDArray[np.float32]:
    mixed = (1 - share) * known + share * np.mean(answers, axis=0)
    labelled = known.sum(axis=1, keepdims=True) > 0
    return np.where(labelled, mixed, 0).astype(np.float32)
