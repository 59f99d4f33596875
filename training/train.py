"""One run: network, batches, a checkpoint after every epoch, and a history as JSON and plot."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from training import calibrate, checkpoint, networks, stopping
from training.accelerate import use_fused_batch_norm
from training.batches import Batches, steps_per_epoch, whole_crops
from training.datasets import Part, Samples
from training.datasets.splits import fingerprint
from training.errors import WorkError
from training.labels import narrowed
from training.loss import MaskedCrossentropy
from training.plot import plot_history
from training.recipe import Recipe, Training
from training.schedule import Schedule, WeightAverage

HISTORY = "history.json"
_console = Console(highlight=False)


class Run:
    """A training run in a folder; the same call again takes it up where its checkpoint lies.

    Args:
        recipe: the model's recipe.
        datasets: name -> parts of every dataset that the recipe names.
        folder: where checkpoint, history and plot go.
        seed: overrides the recipe's.
        start: a published file of the same network whose weights a new run begins with.
    """

    def __init__(
        self,
        recipe: Recipe,
        datasets: Mapping[str, Mapping[Part, Samples]],
        folder: Path,
        seed: int | None = None,
        start: Path | None = None,
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self.seed = recipe.training.seed if seed is None else seed
        self._train = {n: narrowed(parts["train"], recipe.labels) for n, parts in datasets.items()}
        self.tune = {n: narrowed(parts["tune"], recipe.labels) for n, parts in datasets.items()}
        self.validation = {
            n: narrowed(parts["validation"], recipe.labels) for n, parts in datasets.items()
        }
        self.splits = fingerprints(datasets)
        folder.mkdir(parents=True, exist_ok=True)
        self.model = _compiled(recipe, self.seed)
        self.average = WeightAverage(recipe.training.average)
        self.epochs: list[dict[str, Any]] = []
        self._best: list[NDArray[np.float32]] = []
        self._resume()
        if start is not None and not self.epochs:
            self._begin_with(start)

    def train(self) -> Any:
        """Train what is left of the epochs; a float32 Keras model of the averaged logits."""
        plan = self.recipe.training
        while len(self.epochs) < plan.epochs and not stopping.is_over(self.epochs, plan.patience):
            self.epochs.append(self._epoch(len(self.epochs)))
            if plan.patience and stopping.best_epoch(self.epochs) == len(self.epochs):
                self._best = [value.copy() for value in self.average.weights or ()]
            self._save()
            _console.print(_line(self.epochs[-1], plan.epochs))
        return self.averaged()

    @property
    def kept_epoch(self) -> int:
        """The number of the epoch whose averaged weights are kept; 0 before the first."""
        return stopping.best_epoch(self.epochs) if self._best else len(self.epochs)

    @property
    def facts(self) -> dict[str, Any]:
        """What made the weights that are kept."""
        return {"seed": self.seed, "epochs": self.kept_epoch, "splits": self.splits}

    def averaged(self) -> Any:
        """The averaged weights that are kept, in a float32 network."""
        model = _plain(self.recipe)
        model.set_weights(self._best or self.average.weights or self.model.get_weights())
        return model

    def _epoch(self, epoch: int) -> dict[str, Any]:
        steps = steps_per_epoch(self.recipe, self._train)
        batches = Batches(self.recipe, self._train, epoch, self.seed)
        schedule = Schedule(epoch * steps, steps, self.recipe.training)
        started = time.perf_counter()
        history = self.model.fit(
            batches, shuffle=False, verbose=0, callbacks=[schedule, self.average]
        )
        seconds = time.perf_counter() - started
        images = steps * sum(self.recipe.training.per_batch.values())
        return {
            "epoch": epoch + 1,
            "loss": history.history["loss"][0],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 1),
            "images_per_s": round(images / seconds),
            "tune": self._measure(),
        }

    def _measure(self) -> dict[str, Any]:
        # With the averaged weights, on the part that training does not see.
        held = self.model.get_weights()
        self.model.set_weights(self.average.weights)
        result: dict[str, Any] = {}
        for name, samples in self.tune.items():
            logits = predict(self.model, whole_crops(samples, self.recipe.input))
            for head, labels in samples.labels.items():
                if head in logits and len(labels):
                    result[f"{name}/{head}"] = {
                        "accuracy": float(np.mean(logits[head].argmax(axis=1) == labels)),
                        "nll": calibrate.nll(logits[head], labels, 1.0),
                    }
        self.model.set_weights(held)
        return result

    def _save(self) -> None:
        checkpoint.write(self.folder, self.model, self.average, self.epochs, self._best)
        history = {
            "recipe": self.recipe.name,
            "seed": self.seed,
            "splits": self.splits,
            "epochs": self.epochs,
        }
        (self.folder / HISTORY).write_text(json.dumps(history, indent=1) + "\n")
        plot_history(self.epochs, self.folder / "history.png", self.recipe.name)

    def _resume(self) -> None:
        self.epochs, best = checkpoint.read(self.folder, self.model, self.average)
        if not self.epochs:
            return
        if self.recipe.training.patience:
            self._best = best
        _console.print(f"resuming {self.recipe.name} after epoch {len(self.epochs)}")

    def _begin_with(self, start: Path) -> None:
        # Mirror image, temperature and softmax around the network have no weights.
        weights = keras.saving.load_model(start, compile=False).get_weights()
        shapes = [value.shape for value in weights]
        if shapes != [value.shape for value in self.model.get_weights()]:
            raise WorkError(f"{start} is not of {self.recipe.name}'s network")
        self.model.set_weights(weights)
        _console.print(f"{self.recipe.name} begins with the weights of {start}")


def fingerprints(datasets: Mapping[str, Mapping[Part, Samples]]) -> dict[str, dict[str, Any]]:
    """Dataset -> part -> its size and sha256."""
    return {
        name: {part: fingerprint(samples.images) for part, samples in parts.items()}
        for name, parts in datasets.items()
    }


def predict(model: Any, crops: NDArray[np.uint8], batch: int = 256) -> dict[str, Any]:
    """Outputs of a Keras model by head, float32 (N, K)."""
    parts = [
        model.predict_on_batch(crops[start : start + batch])
        for start in range(0, len(crops), batch)
    ]
    return {head: np.concatenate([np.asarray(part[head]) for part in parts]) for head in parts[0]}


def _compiled(recipe: Recipe, seed: int) -> Any:
    use_fused_batch_norm()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(recipe.training.precision)
    try:
        model = networks.build(recipe)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = make_optimizer(recipe.training, model)
    model.compile(optimizer, loss={head: MaskedCrossentropy() for head in recipe.labels})
    return model


def make_optimizer(plan: Training, model: Any) -> Any:
    """The optimizer that a schedule names, with its moments for a model's weights."""
    if plan.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=plan.momentum, weight_decay=plan.weight_decay)
    else:
        optimizer = keras.optimizers.AdamW(weight_decay=plan.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    optimizer.build(model.trainable_variables)
    return optimizer


def _plain(recipe: Recipe) -> Any:
    keras.config.set_dtype_policy("float32")
    model = networks.build(recipe)
    for layer in model.layers:
        # What only training needs would have to be importable wherever the file is opened.
        if hasattr(layer, "kernel_regularizer"):
            layer.kernel_regularizer = None
    return model


def _line(epoch: Mapping[str, Any], epochs: int) -> str:
    tune = "  ".join(
        f"{name} {values['accuracy']:.4f} ({values['nll']:.3f})"
        for name, values in epoch["tune"].items()
    )
    return (
        f"{epoch['epoch']:3d}/{epochs}  loss {epoch['loss']:.4f}  rate {epoch['learning_rate']:.2e}"
        f"  {epoch['seconds']:.0f} s  {epoch['images_per_s']} images/s  {tune}"
    )
