from __future__ import annotations

import numpy as np
import pytest

from service.card import Framing
from service.types import EMOTIONS, Box
from training.datasets import DatasetError, Samples
from training.labels import narrowed

SIX = EMOTIONS[:6]
ANGRY, SAD, NEUTRAL = 0, 4, 6


def samples(labels: list[int], targets: list[list[float]]) -> Samples:
    count = len(labels)
    return Samples(
        name="x",
        images=[np.full((4, 4), number, np.uint8) for number in range(count)],
        boxes=[Box(0, 0, 4, 4)] * count,
        framing=Framing(),
        labels={"emotion": np.array(labels)},
        targets={"emotion": np.array(targets, np.float32)},
        groups=np.arange(count),
        usage=np.full(count, ""),
    )


def test_faces_of_other_labels_are_left_out_and_their_share_goes_to_the_rest() -> None:
    whole = samples(
        [ANGRY, NEUTRAL, SAD],
        [[0.6, 0, 0, 0.2, 0, 0, 0.2], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]],
    )
    six = narrowed(whole, {"emotion": SIX})
    assert [int(image[0, 0]) for image in six.images] == [0, 2]
    assert six.labels["emotion"].tolist() == [ANGRY, SAD]
    # A row of zeros means no target, and stays so.
    expected = [[0.75, 0, 0, 0.25, 0, 0], [0] * 6]
    np.testing.assert_allclose(six.targets["emotion"], expected, atol=1e-6)
    assert six.targets["emotion"].dtype == np.float32


def test_labels_are_counted_in_the_recipes_order() -> None:
    whole = samples([ANGRY, SAD], [[1, 0, 0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0.9, 0, 0]])
    two = narrowed(whole, {"emotion": ("sad", "angry")})
    assert two.labels["emotion"].tolist() == [1, 0]
    np.testing.assert_allclose(two.targets["emotion"], [[0, 1], [0.9, 0.1]], atol=1e-6)


def test_all_labels_and_heads_that_the_set_lacks_change_nothing() -> None:
    whole = samples([ANGRY], [[1, 0, 0, 0, 0, 0, 0]])
    assert narrowed(whole, {"emotion": EMOTIONS, "gender": ("female", "male")}) is whole


def test_a_label_that_no_set_has() -> None:
    with pytest.raises(DatasetError, match="no label contempt"):
        narrowed(samples([0], [[1, 0, 0, 0, 0, 0, 0]]), {"emotion": ("angry", "contempt")})
