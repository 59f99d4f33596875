from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.types import AnalyzedFace, Box, Face, Prediction, Quality
from service.vision.annotate import annotate

HAPPY = Prediction("happy", 0.9, False, {"happy": 0.9, "sad": 0.1})


def face(box: Box, landmarks: np.ndarray | None = None) -> AnalyzedFace:
    return AnalyzedFace(Face(box, 1.0, landmarks), {"emotion": HAPPY}, Quality(10, 0.5))


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def test_the_box_is_drawn_and_the_face_left_free():
    blank = np.zeros((200, 200, 3), np.uint8)
    drawn = changed(blank, annotate(blank, [face(Box(50, 40, 60, 80))]))
    assert drawn[40, 50:110].all()
    assert drawn[40:120, 50].all()
    assert not drawn[45:115, 55:105].any()
    assert drawn[122:130, 52:60].any()
    assert not blank.any()


@pytest.mark.parametrize(
    "box", [Box(-30, -30, 60, 60), Box(180, 190, 50, 50), Box(0, 0, 200, 200), Box(9e3, 9e3, 9, 9)]
)
def test_faces_at_and_beyond_the_edge(box):
    blank = np.zeros((200, 200, 3), np.uint8)
    assert annotate(blank, [face(box)]).shape == blank.shape


def test_landmarks_are_dots():
    blank = np.zeros((200, 200, 3), np.uint8)
    points = np.array([[60, 60], [90, 60], [75, 75], [65, 90], [85, 90]], np.float32)
    drawn = changed(blank, annotate(blank, [face(Box(50, 40, 60, 80), points)]))
    assert all(drawn[int(y), int(x)] for x, y in points)


def test_a_label_leaves_neighbours_and_their_labels_free():
    blank = np.zeros((300, 200, 3), np.uint8)
    upper, lower = face(Box(50, 80, 60, 80)), face(Box(50, 165, 60, 80))
    alone = changed(blank, annotate(blank, [lower]))
    both = changed(blank, annotate(blank, [upper, lower]))
    assert np.array_equal(both[165:], alone[165:])
    assert both[70:78, 52:60].any()  # above its face, since the other is below


def test_no_label_covers_another():
    blank = np.zeros((300, 300, 3), np.uint8)
    crowd = [face(Box(100 + x, 100 + y, 60, 60)) for x in (0, 30) for y in (0, 20)]
    ground = (annotate(blank, crowd) == (80, 200, 60)).all(axis=2)
    single = (annotate(blank, crowd[:1]) == (80, 200, 60)).all(axis=2)
    label = single[161:].sum()
    filled = cv2.morphologyEx(ground.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    assert filled.sum() > 0.7 * 4 * label


def test_a_label_is_as_wide_as_its_face():
    blank = np.zeros((400, 600, 3), np.uint8)
    for width in (90, 115):
        drawn = changed(blank, annotate(blank, [face(Box(100, 40, width, 200))]))
        columns = np.flatnonzero(drawn[242:].any(axis=0))
        assert columns[0] == 100
        assert width - 8 <= columns[-1] - columns[0] <= width + 4


def test_the_track_is_written_first():
    blank = np.zeros((200, 200, 3), np.uint8)
    box = Box(50, 40, 60, 80)
    plain, tracked = annotate(blank, [face(box)]), annotate(blank, [face(box)], [7])
    rows = [np.flatnonzero(changed(blank, drawn)[:, 52]).max() for drawn in (plain, tracked)]
    assert rows[1] > rows[0]
