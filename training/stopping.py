"""Early stopping: which epoch is the best so far, and whether it is worth going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def tune_loss(epoch: Mapping[str, Any]) -> float:
    """Cross-entropy on the tune parts, summed over sets and heads.

    Args:
        epoch: an entry of a run's history.
    """
    return float(sum(figures["nll"] for figures in epoch["tune"].values()))


def best_epoch(epochs: Sequence[Mapping[str, Any]]) -> int:
    """The number of the first epoch of least loss, counted from 1; 0 where there is none."""
    losses = [tune_loss(epoch) for epoch in epochs]
    return losses.index(min(losses)) + 1 if losses else 0


def is_over(epochs: Sequence[Mapping[str, Any]], patience: int | None) -> bool:
    """Whether `patience` epochs have gone by since the best one; None is endless."""
    return patience is not None and len(epochs) - best_epoch(epochs) >= patience
