from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.vision.geometry import Letterbox, iou, letterbox, nms, with_margin, working_size

SIDES = st.integers(1, 300)


def box_arrays(max_count=12):
    numbers = st.floats(-50, 50, width=32)
    corner = st.integers(0, max_count).flatmap(
        lambda count: arrays(np.float32, (count, 4), elements=numbers)
    )
    return corner.map(lambda b: np.hstack((b[:, :2], np.abs(b[:, 2:]))))


scored = box_arrays().flatmap(
    lambda boxes: st.tuples(
        st.just(boxes), arrays(np.float32, len(boxes), elements=st.floats(0, 1, width=32))
    )
)


def overlap(a, b):
    """IoU of two boxes, written out."""
    width = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    union = a[2] * a[3] + b[2] * b[3] - width * height
    return width * height / union if union > 0 else 0.0


def brute_force_nms(boxes, scores, max_iou):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(iou(boxes[[index]], boxes[[other]])[0, 0] <= max_iou for other in kept):
            kept.append(index)
    return kept


@given(SIDES, SIDES, st.integers(1, 200), st.integers(1, 200), st.integers(0, 40))
def test_letterbox_round_trip(width, height, bound_width, bound_height, margin):
    pixels = np.zeros((height, width, 3), np.uint8)
    boxed = with_margin(letterbox(pixels, (bound_width, bound_height)), margin)
    inner = working_size(pixels, (bound_width, bound_height))
    assert boxed.pixels.shape == (inner[1] + 2 * margin, inner[0] + 2 * margin, 3)
    assert inner[0] <= min(width, bound_width)
    assert inner[1] <= min(height, bound_height)
    # The corners of the shrunk image are the corners of the image.
    corners = np.array([[0, 0], inner], np.float32) + margin
    expected = [[0, 0], [width, height]]
    np.testing.assert_allclose(boxed.restore_points(corners), expected, rtol=1e-5, atol=1e-3)
    whole = np.array([[margin, margin, *inner]], np.float32)
    np.testing.assert_allclose(
        boxed.restore_boxes(whole), [[0, 0, width, height]], rtol=1e-5, atol=1e-3
    )


def test_letterbox_enlarges_within_its_bounds_where_it_is_told_to():
    pixels = np.full((30, 50, 3), 200, np.uint8)
    twice = letterbox(pixels, (640, 640), enlarge=2)
    assert twice.pixels.shape == (60, 100, 3)
    assert twice.scale == (2, 2)
    assert letterbox(pixels, (75, 640), enlarge=2).pixels.shape == (45, 75, 3)
    assert letterbox(pixels, (25, 640), enlarge=2).pixels.shape == (15, 25, 3)


def test_letterbox_enlarges_nothing_by_itself_and_fills_with_black():
    pixels = np.full((30, 50, 3), 200, np.uint8)
    boxed = letterbox(pixels, (640, 640), (64, 32))
    assert boxed.scale == (1.0, 1.0)
    assert boxed.pixels.shape == (32, 64, 3)
    assert (boxed.pixels[:30, :50] == 200).all()
    assert boxed.pixels[30:].sum() == boxed.pixels[:, 50:].sum() == 0


def test_letterbox_takes_grey_and_does_not_copy_what_fits():
    pixels = np.zeros((30, 50), np.uint8)
    assert letterbox(pixels, (50, 30)).pixels is pixels
    assert letterbox(pixels, (25, 25)).pixels.shape == (15, 25)


def test_a_line_keeps_at_least_one_pixel():
    boxed = letterbox(np.zeros((1, 4000, 3), np.uint8), (640, 640))
    assert boxed.pixels.shape == (1, 640, 3)
    assert boxed.scale == (0.16, 1.0)


def test_points_of_any_leading_shape_are_restored():
    boxed = Letterbox(np.zeros((1, 1), np.uint8), (0.5, 0.25), (10, 20))
    points = np.full((2, 5, 2), 30, np.float32)
    np.testing.assert_allclose(boxed.restore_points(points), np.full((2, 5, 2), 40))


SLIVER = np.array([[16, 0, 4e-4, 16]], np.float32)


@example(SLIVER, SLIVER)
@given(box_arrays(), box_arrays())
def test_iou_is_symmetric_and_bounded(a, b):
    overlaps = iou(a, b)
    assert overlaps.shape == (len(a), len(b))
    np.testing.assert_array_equal(overlaps, iou(b, a).T)
    assert ((overlaps >= 0) & (overlaps <= 1 + 1e-4)).all()


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=8))
def test_iou_is_the_written_out_formula(rows):
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    expected = [[overlap(a, b) for b in rows] for a in rows]
    np.testing.assert_allclose(
        iou(boxes, boxes), np.reshape(expected, (len(rows), len(rows))), rtol=1e-5
    )


@given(scored, st.floats(0, 1))
def test_nms_is_the_brute_force_one(case, max_iou):
    boxes, scores = case
    assert nms(boxes, scores, max_iou).tolist() == brute_force_nms(boxes, scores, max_iou)


@given(scored, st.floats(0, 1))
def test_nms_is_idempotent_and_sorted(case, max_iou):
    boxes, scores = case
    kept = nms(boxes, scores, max_iou)
    assert (np.diff(scores[kept]) <= 0).all()
    assert nms(boxes[kept], scores[kept], max_iou).tolist() == list(range(len(kept)))


@pytest.mark.parametrize(("max_iou", "kept"), [(0.3, [1, 2]), (0.9, [1, 0, 2])])
def test_nms_keeps_the_best_of_those_that_overlap(max_iou, kept):
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [30, 30, 5, 5]], np.float32)
    assert nms(boxes, np.array([0.8, 0.9, 0.1], np.float32), max_iou).tolist() == kept


def test_nms_takes_many_candidates_without_their_matrix():
    count = 20_000  # the whole matrix would take 1.6 GB
    boxes = np.tile(np.array([[5, 5, 9, 9]], np.float32), (count, 1))
    scores = np.linspace(0, 1, count, dtype=np.float32)
    assert nms(boxes, scores, 0.3).tolist() == [count - 1]
