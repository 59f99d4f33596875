"""Boxes and frames as arrays: letterbox, overlap, non-maximum suppression.

Boxes are float32 (N, 4) rows of x, y, width, height in pixels, as in `service.types.Box`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.types import Pixels

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """An image at another size in a black frame, and the way back."""

    pixels: Pixels
    """uint8 (H, W, 3), or (H, W) of a grey image."""
    scale: tuple[float, float]
    """Frame pixels per image pixel along x and y; they differ by rounding to whole pixels."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Where the image's top left corner lies in the frame, (x, y)."""

    def restore_points(self, points: Floats) -> Floats:
        """Points (..., 2) of the frame in pixels of the image."""
        offset, scale = np.array(self.offset, np.float32), np.array(self.scale, np.float32)
        return (points - offset) / scale

    def restore_boxes(self, boxes: Floats) -> Floats:
        """Boxes (N, 4) of the frame in pixels of the image."""
        size = boxes[:, 2:] / np.array(self.scale, np.float32)
        return np.hstack((self.restore_points(boxes[:, :2]), size))


def working_size(pixels: Pixels, bounds: tuple[int, int], enlarge: float = 1.0) -> tuple[int, int]:
    """Width and height of `pixels` in `bounds`, width and height; `enlarge` times at the most."""
    height, width = pixels.shape[:2]
    factor = min(enlarge, bounds[0] / width, bounds[1] / height)
    return max(round(width * factor), 1), max(round(height * factor), 1)


def letterbox(
    pixels: Pixels,
    bounds: tuple[int, int],
    frame: tuple[int, int] | None = None,
    enlarge: float = 1.0,
) -> Letterbox:
    """Shrink to fit into `bounds`, or enlarge up to them, and fill up to `frame` with black.

    Args:
        pixels: uint8 (H, W, 3) or (H, W).
        bounds: largest width and height of the result.
        frame: width and height of the result, at least those of `working_size`, filled right of
            and below the image; None for no filling.
        enlarge: how many times an image may be enlarged; 1 for never.
    """
    height, width = pixels.shape[:2]
    inner = working_size(pixels, bounds, enlarge)
    if inner != (width, height):
        pixels = _resized(pixels, inner)
    scale = inner[0] / width, inner[1] / height
    if frame is not None and frame != inner:
        pixels = _bordered(pixels, right=frame[0] - inner[0], bottom=frame[1] - inner[1])
    return Letterbox(pixels, scale)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """At another (width, height); what is shrunk is averaged."""
    how = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_LINEAR
    # OpenCV halves a picture several times as fast as it averages over any other area.
    while pixels.shape[1] >= 2 * size[0] and pixels.shape[0] >= 2 * size[1]:
        half = pixels.shape[1] // 2, pixels.shape[0] // 2
        pixels = np.asarray(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA), np.uint8)
        how = cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def with_margin(boxed: Letterbox, margin: int) -> Letterbox:
    """The same frame with `margin` black pixels more on each side."""
    pixels = _bordered(boxed.pixels, left=margin, top=margin, right=margin, bottom=margin)
    return Letterbox(pixels, boxed.scale, (boxed.offset[0] + margin, boxed.offset[1] + margin))


def filled_up(boxed: Letterbox, multiple: int) -> Letterbox:
    """The same frame with black right of it and below, so that its sides are multiples."""
    height, width = boxed.pixels.shape[:2]
    right, bottom = -width % multiple, -height % multiple
    if not (right or bottom):
        return boxed
    pixels = _bordered(boxed.pixels, right=right, bottom=bottom)
    return Letterbox(pixels, boxed.scale, boxed.offset)


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of each box of `a` (N, 4) with each of `b` (M, 4): (N, M), 0..1."""
    a, b = a[:, np.newaxis], b[np.newaxis]
    near = np.maximum(a[..., :2], b[..., :2])
    far = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = np.maximum(far - near, 0)
    # Not `prod`: over an axis of two it takes several times as long.
    shared = sides[..., 0] * sides[..., 1]
    area_a, area_b = a[..., 2] * a[..., 3], b[..., 2] * b[..., 3]
    # x + width - x is not width in float32: of a sliver it can be more.
    shared = np.minimum(shared, np.minimum(area_a, area_b))
    union = area_a + area_b - shared
    return np.asarray(shared / np.where(union > 0, union, 1), np.float32)


def nms(boxes: Floats, scores: Floats, max_iou: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: of boxes that overlap more than `max_iou`, keep the best.

    Args:
        boxes: (N, 4).
        scores: (N,); of equal scores the earlier box wins.
        max_iou: overlap up to which both of two boxes are kept.

    Returns:
        Indices of the kept boxes, best first.
    """
    left = np.argsort(-scores, kind="stable")
    kept = []
    # One row of overlaps for each box kept, not the N x N matrix: faces are few, candidates many.
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[iou(boxes[best : best + 1], boxes[left])[0] <= max_iou]
    return np.array(kept, np.intp)


def _bordered(
    pixels: Pixels, *, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> Pixels:
    bordered = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return np.asarray(bordered, np.uint8)
