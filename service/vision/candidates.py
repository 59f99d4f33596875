"""What a network takes for faces: several boxes for each, until the best of them are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.types import Box, Face
from service.vision.geometry import Letterbox, nms

MOST = 3000
"""So many of the best are looked at. 300 faces have about 2,400; with a threshold of 0 every cell
is one, 6,300 of a picture of 640 x 480, and the time of suppression grows with their square."""

_INSIDE = 0.7
"""Of a box's area: that much of an eye or a mouth, taken for a face, lies within the face."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidates:
    """N boxes with points and scores, in pixels of a frame or of an image.

    Attributes:
        boxes: float32 (N, 4) of x, y, width, height.
        points: float32 (N, 5, 2), as in `service.types.Face`.
        scores: float32 (N,), 0..1.
    """

    boxes: Floats
    points: Floats
    scores: Floats

    def restored(self, boxed: Letterbox) -> Candidates:
        """Those of a frame in pixels of its image."""
        boxes, points = boxed.restore_boxes(self.boxes), boxed.restore_points(self.points)
        return Candidates(boxes, points, self.scores)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Candidates:
        """Some of them, in the order of `rows`."""
        return Candidates(self.boxes[rows], self.points[rows], self.scores[rows])

    def but_parts_of(self, whole: Candidates, sure: float) -> Candidates:
        """Those that do not lie inside the surest box of `whole`, and those with a score of `sure`.

        A face may stand before another, in a hand or on a shirt; a part is never surely one.
        """
        if not len(whole.scores):
            return self
        best = whole.scores.argmax()
        corner, size = whole.boxes[best, :2], whole.boxes[best, 2:]
        near = np.maximum(self.boxes[:, :2], corner)
        far = np.minimum(self.boxes[:, :2] + self.boxes[:, 2:], corner + size)
        shared = np.maximum(far - near, 0).prod(axis=1)
        inside = shared > _INSIDE * self.boxes[:, 2:].prod(axis=1)
        return self.take(~inside | (self.scores >= min(sure, whole.scores[best])))

    def faces(self, max_iou: float) -> list[Face]:
        """The best box of each face, best first; two of one face overlap by more than `max_iou`."""
        best = self
        if len(self.scores) > MOST:
            best = self.take(np.argpartition(-self.scores, MOST)[:MOST])
        best = best.take(nms(best.boxes, best.scores, max_iou))
        rows = zip(best.boxes.tolist(), best.points, best.scores.tolist(), strict=True)
        return [Face(Box(*box), score, points) for box, points, score in rows]


def joined(parts: Sequence[Candidates]) -> Candidates:
    """All of them, part after part."""
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
