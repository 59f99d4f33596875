"""The detector's loss: quality focal loss of scores, DIoU of boxes, smooth L1 of points.

Li et al. 2020 (generalized focal loss, arXiv:2006.04388): a score learns how well its box lies.
Zheng et al. 2020 (arXiv:1911.08287): DIoU, which pulls boxes that do not touch as well.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

BOX_WEIGHT, POINT_WEIGHT = 2.0, 0.2
LEAST_QUALITY = 0.5
"""Target score of a face whose box does not touch it yet; (1 + LEAST) / 2 and so on up to 1."""
_BETA = 0.05
"""Error of a point, in sides of the face, from which on the loss is linear."""


class DetectorLoss(keras.losses.Loss):
    """Loss of cells (N, A, 15) against targets (N, A, 16) of `training.detection.assign`.

    Sums over the cells, divided by the number of those that have a face.
    """

    def __init__(self) -> None:
        super().__init__(name="detector", reduction="none")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """A scalar."""
        state, logits = y_true[..., 0], y_pred[..., 0]
        face = ops.cast(state > 0, "float32")
        faces = ops.maximum(ops.sum(face), 1.0)
        overlap, box_loss = overlaps(y_true[..., 1:5], y_pred[..., 1:5])
        quality = face * (LEAST_QUALITY + (1 - LEAST_QUALITY) * ops.stop_gradient(overlap))
        score_loss = quality_focal(quality, logits) * ops.cast(state >= 0, "float32")
        point_loss = points_loss(y_true, y_pred) * face * y_true[..., 15]
        total = score_loss + BOX_WEIGHT * face * box_loss + POINT_WEIGHT * point_loss
        return ops.sum(total) / faces


def quality_focal(quality: Any, logits: Any) -> Any:
    """|quality - score|^2 times their cross-entropy, for each cell."""
    entropy = ops.maximum(logits, 0.0) - logits * quality + ops.log1p(ops.exp(-ops.abs(logits)))
    return ops.square(quality - ops.sigmoid(logits)) * entropy


def overlaps(true: Any, given: Any) -> tuple[Any, Any]:
    """IoU and DIoU loss of boxes (..., 4) of middle and logarithm of size: (...) each."""
    size_a, size_b = ops.exp(true[..., 2:]), ops.exp(ops.clip(given[..., 2:], -8.0, 8.0))
    low_a, high_a = true[..., :2] - size_a / 2, true[..., :2] + size_a / 2
    low_b, high_b = given[..., :2] - size_b / 2, given[..., :2] + size_b / 2
    shared = _area(ops.minimum(high_a, high_b) - ops.maximum(low_a, low_b))
    iou = shared / (_area(size_a) + _area(size_b) - shared + 1e-7)
    around = ops.maximum(high_a, high_b) - ops.minimum(low_a, low_b)
    apart = ops.sum(ops.square(true[..., :2] - given[..., :2]), axis=-1)
    return iou, 1 - iou + apart / (ops.sum(ops.square(around), axis=-1) + 1e-7)


def points_loss(true: Any, given: Any) -> Any:
    """Smooth L1 of five points, in sides of the face, (...): for targets and cells (..., K)."""
    side = ops.exp((true[..., 3:4] + true[..., 4:5]) / 2)
    away = ops.abs(true[..., 5:15] - given[..., 5:15]) / side
    bent = ops.where(away < _BETA, ops.square(away) / (2 * _BETA), away - _BETA / 2)
    return ops.sum(bent, axis=-1)


def _area(sides: Any) -> Any:
    return ops.maximum(sides[..., 0], 0.0) * ops.maximum(sides[..., 1], 0.0)
