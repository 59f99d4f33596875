"""Learning rate by step, and the averaged weights that a run keeps."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.recipe import Training


def learning_rate(step: int, steps_per_epoch: int, training: Training) -> float:
    """Linear warm-up, hold, cosine fall to zero over the last `fall_share` of all steps.

    Until the fall begins the rate does not depend on the number of epochs, so that a run can be
    shortened or lengthened while it holds and still is the run of its final recipe.
    """
    total = training.epochs * steps_per_epoch
    warmup = training.warmup_epochs * steps_per_epoch
    fall = training.fall_share * total
    rising = min((step + 1) / warmup, 1.0) if warmup else 1.0
    fallen = min(max((step - (total - fall)) / fall, 0.0), 1.0)
    return training.learning_rate * rising * 0.5 * (1 + math.cos(math.pi * fallen))


class Schedule(keras.callbacks.Callback):
    """Sets the learning rate before each batch."""

    def __init__(self, step: int, steps_per_epoch: int, training: Training) -> None:
        super().__init__()
        self._step, self._steps_per_epoch, self._training = step, steps_per_epoch, training

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Counts its own steps: `batch` starts anew with each epoch."""
        rate = learning_rate(self._step, self._steps_per_epoch, self._training)
        self.model.optimizer.learning_rate = rate
        self._step += 1


class WeightAverage(keras.callbacks.Callback):
    """Exponential moving average of all weights, batch statistics included.

    Attributes:
        weights: the average, in the order of `model.get_weights()`; None before the first step.
    """

    EVERY = 8

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self._momentum = momentum**self.EVERY
        self.weights: list[NDArray[np.float32]] | None = None
        self.updates = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Averaging every eighth step costs a hundredth of the step's time."""
        if batch % self.EVERY:
            return
        fresh = self.model.get_weights()
        # The first updates count for more, or the random start would linger.
        keep = min(self._momentum, (1 + self.updates) / (10 + self.updates))
        if self.weights is None:
            self.weights = [np.array(value) for value in fresh]
        for mean, value in zip(self.weights, fresh, strict=True):
            mean += (value - mean) * np.float32(1 - keep)
        self.updates += 1
