"""Faces by OpenCV's Haar cascade: no model file of ours, frontal faces only, no landmarks."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import ModelError
from service.types import Box, Face, Pixels
from service.vision.geometry import Letterbox, letterbox, nms, with_margin

CASCADE = "haarcascade_frontalface_alt2.xml"
DEFAULT_THRESHOLD = 0.7
_SCALE_FACTOR = 1.1
_MAX_IOU = 0.3
# Windows of a face differ by up to a fifth in size (OpenCV groups them at eps 0.2). Without those
# below the smallest face asked for, its box would come out larger and with fewer votes.
_SLACK = 0.75

# The tight (YuNet) box in units of the cascade's square: width, height, centre below the square's
# centre. Medians over 1,454 faces found in detection.zip; the same from 20 to 250 px.
_TIGHT = np.array([0.81, 1.08], np.float32)
_DROP = 0.011
_TIGHT_SIDE = float(np.sqrt(_TIGHT.prod()))

# A window holds some cheek and hair: a face that fills the image has none unless there is a margin.
# Of 399 faces cut at their tight box 18 % are found without a margin, 93 % with this one; black
# does better than repeated edges (78 %), and mirrored ones show faces twice.
_MARGIN = 0.15
_FILLING = 0.8

# P(face | n windows agree), a logistic in log n fitted on 1,815 groups of detection.zip.
_HALF, _STEEPNESS = 3.37, 2.41


class HaarDetector:
    """The cascade of Lienhart's `frontalface_alt2` on a locally equalised grey image.

    Measured on detection.zip: where five windows agree, alt2 is right in 0.96 and
    `frontalface_default` in 0.82 at the same recall (684 scenes); CLAHE gives an average precision
    of 0.51, a global `equalizeHist` 0.50 (1,551 scenes). mini_xception.txt, section III, says why
    to equalise at all.

    The score is the share of such finds that are faces: the cascade tells only how many windows
    agree on a place, and the curve from that number was fitted on labelled scenes.
    """

    id = "haar@1.0.0"
    provider = "cpu"

    def __init__(self, *, max_side: int = 480) -> None:
        """Load the cascade that comes with OpenCV.

        Args:
            max_side: longer side of the picture that is searched, in pixels; time grows with its
                square.

        Raises:
            ModelError: this OpenCV has no cascades (5 and later have none in the main wheel).
        """
        self.max_side = max_side
        self._path = _cascade_path()
        # detectMultiScale keeps the image pyramid of its call in the classifier (cascadedetect.cpp,
        # FeatureEvaluator::setImage), and CLAHE its tables: two threads in one garble both.
        self._own = threading.local()
        self._tools()

    def detect(self, pixels: Pixels, *, threshold: float | None, min_face_px: float) -> list[Face]:
        """Find frontal faces; see `service.core.ports.Detector`."""
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
        boxed = letterbox(gray, (self.max_side, self.max_side))
        cascade, equalizer = self._tools()
        short = min(boxed.pixels.shape)
        if short < min(cascade.getOriginalWindowSize()):
            return []
        boxed = Letterbox(np.asarray(equalizer.apply(boxed.pixels), np.uint8), boxed.scale)
        smallest = min_face_px * min(boxed.scale) / _TIGHT_SIDE
        faces = _search(cascade, boxed, smallest, threshold)
        if not faces:
            # Large windows only, 2 ms: a margin around every image costs a third more time.
            margin = round(_MARGIN * max(boxed.pixels.shape))
            smallest = max(smallest, _FILLING * short)
            faces = _search(cascade, with_margin(boxed, margin), smallest, threshold)
        return [face for face in faces if face.box.side >= min_face_px]

    def _tools(self) -> tuple[cv2.CascadeClassifier, cv2.CLAHE]:
        if not hasattr(self._own, "tools"):
            cascade = cv2.CascadeClassifier(str(self._path))
            if cascade.empty():
                raise ModelError(f"the cascade {self._path} cannot be loaded")
            self._own.tools = cascade, cv2.createCLAHE(1.0, (8, 8))
        tools: tuple[cv2.CascadeClassifier, cv2.CLAHE] = self._own.tools
        return tools


def _cascade_path() -> Path:
    data = getattr(cv2, "data", None)
    if data is None or not hasattr(cv2, "CascadeClassifier"):
        raise ModelError(
            f"OpenCV {cv2.__version__} has no cascade classifier; "
            "install opencv-python-headless<5, or choose another detector"
        )
    return Path(data.haarcascades) / CASCADE


def _search(
    cascade: cv2.CascadeClassifier, boxed: Letterbox, smallest: float, threshold: float
) -> list[Face]:
    side = int(smallest * _SLACK)
    found, windows = cascade.detectMultiScale2(
        boxed.pixels, scaleFactor=_SCALE_FACTOR, minNeighbors=1, minSize=(side, side)
    )
    if not len(found):
        return []
    scores = _score(np.asarray(windows, np.float32).reshape(-1))  # (N,)
    boxes = boxed.restore_boxes(_tight(np.asarray(found, np.float32)))  # (N, 4)
    likely = scores >= threshold
    boxes, scores = boxes[likely], scores[likely]
    return [
        Face(Box(*boxes[index].tolist()), float(scores[index]))
        for index in nms(boxes, scores, _MAX_IOU)
    ]


def _score(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + (_HALF / windows) ** _STEEPNESS), np.float32)


def _tight(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    side = squares[:, 2:3]
    center = squares[:, :2] + side * np.array([0.5, 0.5 + _DROP], np.float32)
    return np.hstack((center - side * _TIGHT / 2, side * _TIGHT))
