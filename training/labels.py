"""A recipe's own labels: those of the sets, or some of them in its own order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.types import AGE_BANDS, EMOTIONS, GENDERS, Head
from training.datasets import DatasetError, Samples

NAMES: Mapping[Head, tuple[str, ...]] = {"emotion": EMOTIONS, "gender": GENDERS, "age": AGE_BANDS}
"""What the numbers of a set's labels mean."""


def narrowed(samples: Samples, wanted: Mapping[Head, Sequence[str]]) -> Samples:
    """The samples in a recipe's labels; images of a label that it does not have are left out.

    Args:
        samples: as a set has them.
        wanted: head -> labels; heads that are not in it stay as they are.

    Returns:
        Labels counted, and targets ordered, as in `wanted`. What a soft target gave to labels that
        are gone is shared among the others in proportion; a target of zeros stays one.

    Raises:
        DatasetError: a label that no set has.
    """
    for head, labels in wanted.items():
        if head in samples.labels and tuple(labels) != NAMES[head]:
            samples = _of(samples, head, labels)
    return samples


def _of(samples: Samples, head: Head, labels: Sequence[str]) -> Samples:
    unknown = set(labels) - set(NAMES[head])
    if unknown:
        raise DatasetError(f"{head} has no label {', '.join(sorted(unknown))}")
    places = [NAMES[head].index(label) for label in labels]
    numbers = np.full(len(NAMES[head]), -1)
    numbers[places] = np.arange(len(places))
    kept = samples.take(np.flatnonzero(numbers[samples.labels[head]] >= 0))
    shares = kept.targets[head][:, places]  # (N, K)
    targets = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-6)
    return replace(
        kept,
        labels={**kept.labels, head: numbers[kept.labels[head]]},
        targets={**kept.targets, head: targets.astype(np.float32)},
    )
