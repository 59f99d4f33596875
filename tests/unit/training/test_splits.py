from __future__ import annotations

import numpy as np
import pytest

from tests.unit.training.makers import face
from training.datasets import DatasetError
from training.datasets.duplicates import group_near
from training.datasets.splits import fingerprint, fold_numbers, split


def test_groups_stay_together_and_every_row_is_somewhere() -> None:
    groups = np.repeat(np.arange(400), 3)
    rows = split("some", groups)
    together = np.concatenate(list(rows.values()))
    assert np.array_equal(np.sort(together), np.arange(1200))
    sides = [set(groups[numbers]) for numbers in rows.values()]
    assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])
    assert 60 < len(rows["validation"]) < 200


def test_split_depends_on_seed_and_name_alone() -> None:
    groups = np.arange(500)
    first = split("some", groups)["validation"]
    assert np.array_equal(first, split("some", groups)["validation"])
    assert not np.array_equal(first, split("some", groups, seed=1)["validation"])
    assert not np.array_equal(first, split("other", groups)["validation"])


def test_folds_keep_groups_together_and_are_of_one_size() -> None:
    groups = np.repeat(np.arange(50), 3)
    folds = fold_numbers("some", groups, 5)
    assert np.bincount(folds).tolist() == [30] * 5
    assert all(len(set(groups[folds == fold])) == 10 for fold in range(5))
    assert np.array_equal(folds, fold_numbers("some", groups, 5))
    assert not np.array_equal(folds, fold_numbers("some", groups, 5, seed=1))


@pytest.mark.parametrize("count", [1, 4])
def test_folds_that_cannot_be(count: int) -> None:
    with pytest.raises(DatasetError, match=f"3 groups cannot be divided into {count}"):
        fold_numbers("some", np.array([0, 0, 1, 2]), count)


def test_fingerprint_changes_with_a_pixel() -> None:
    images = [face(1), face(2)]
    before = fingerprint(images)
    images[1][0, 0] ^= 1
    assert before["samples"] == 2
    assert fingerprint(images) != before


def test_near_copies_share_a_group() -> None:
    lighter = np.clip(face(1).astype(np.int16) // 2 + 60, 0, 255).astype(np.uint8)
    assert group_near([face(1), face(2), lighter, face(3)]).tolist() == [0, 1, 0, 3]


def test_known_pairs_join_groups() -> None:
    assert group_near([face(1), face(2), face(3)], same=[(1, 2), (0, 2)]).tolist() == [0, 0, 0]
