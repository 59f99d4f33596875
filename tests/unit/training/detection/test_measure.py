from __future__ import annotations

import numpy as np
import pytest

from training.detection.measure import (
    Judged,
    NothingFound,
    average_precision,
    best_threshold,
    figures,
    match,
    recall_at,
)


def judged(
    truth: list[list[float]], found: list[list[float]], ignored: list[bool] | None = None
) -> Judged:
    """`found` rows are x, y, width, height, score."""
    rows = np.array(found, np.float32).reshape(-1, 5)
    return Judged(
        np.array(truth, np.float32).reshape(-1, 4),
        np.array(ignored or [False] * len(truth), bool),
        rows[:, :4],
        rows[:, 4],
    )


def test_average_precision_by_hand() -> None:
    # Right, false, right, of four faces: precision 1 up to a recall of 1/4, 2/3 up to 2/4.
    right = np.array([True, False, True])
    assert average_precision(right, 4) == pytest.approx(1 / 4 + (2 / 3) / 4)
    assert average_precision(np.array([False, True]), 1) == 0.5
    assert average_precision(np.zeros(0, bool), 3) == 0
    assert recall_at(right, 4, false=0) == 0.25
    assert recall_at(right, 4, false=1) == 0.5


def test_a_second_find_of_a_face_is_false() -> None:
    image = judged([[0, 0, 20, 20]], [[0, 0, 20, 20, 0.5], [1, 0, 20, 20, 0.9]])
    assert match(image, 0, np.inf).tolist() == [1, 0]


def test_an_ignored_face_is_neither_wanted_nor_false() -> None:
    image = judged(
        [[0, 0, 20, 20], [50, 50, 20, 20]],
        [[50, 50, 20, 20, 0.9], [0, 0, 20, 20, 0.8]],
        ignored=[False, True],
    )
    assert match(image, 0, np.inf).tolist() == [-1, 1]
    assert figures([image])["all"] == {"faces": 1, "ap": 1.0, "recall": 1.0}


def test_sizes_are_counted_apart() -> None:
    image = judged(
        [[0, 0, 10, 10], [50, 50, 40, 40]],
        # The large face, something of 20 px that is no face, and the small face.
        [[50, 50, 40, 40, 0.9], [100, 100, 20, 20, 0.8], [0, 0, 10, 10, 0.7]],
    )
    result = figures([image])
    assert result["all"]["ap"] == pytest.approx(0.5 + 0.5 * 2 / 3, abs=1e-4)
    assert result["all"]["recall"] == 0.5
    assert result["<16"] == result["32-96"] == {"faces": 1, "ap": 1.0, "recall": 1.0}
    assert result["16-32"] == {"faces": 0, "ap": 0.0, "recall": 0.0}


def test_nothing_found_and_nothing_there() -> None:
    assert figures([judged([], [])])["all"] == {"faces": 0, "ap": 0.0, "recall": 0.0}
    assert figures([judged([[0, 0, 9, 9]], [])])["all"]["ap"] == 0
    assert figures([])["all"]["faces"] == 0


def test_the_best_threshold_lies_between_faces_and_false_finds() -> None:
    places = [[0.0, 0, 20, 20], [40, 0, 20, 20], [80, 0, 20, 20], [120, 0, 20, 20]]
    found = [[*place, score] for place, score in zip(places, [0.9, 0.7, 0.5, 0.1], strict=True)]
    assert best_threshold([judged(places[:2], found)]) == 0.6
    with pytest.raises(NothingFound, match="nothing"):
        best_threshold([judged([], found[:1])])
