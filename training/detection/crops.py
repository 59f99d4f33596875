"""Faces of the attribute sets, as small scenes that are pasted into photos without faces."""

from __future__ import annotations

from collections.abc import Iterator

import cv2

from service.core.ports import Detector
from training.datasets import Samples
from training.detection.scenes import Scene, scene
from training.photos import find_in


def crops(samples: Samples, detector: Detector) -> Iterator[Scene]:
    """A scene for each image whose central face the detector finds, with its box and points.

    Args:
        samples: of a set whose images show one face each.
        detector: says where it is: the sets do not.
    """
    for row, found in enumerate(find_in(samples, detector, 0)):
        box = found.face.box
        data = cv2.imencode(".jpg", found.pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        yield scene(
            f"{samples.name}/{row}.jpg",
            data,
            [[box.x, box.y, box.width, box.height]],
            points=found.face.landmarks,
        )
