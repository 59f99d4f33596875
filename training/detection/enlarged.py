"""A peer that is shown small images as ours is: else pixels are compared, not networks."""

from __future__ import annotations

from collections.abc import Mapping

from service.core.ports import Detector
from service.runtime.detector import DEFAULT_ENLARGE
from service.types import Face, Pixels
from service.vision.geometry import letterbox


class Enlarged:
    """Another detector, to which smaller images are enlarged by the rule of `MienDetector`."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    @property
    def id(self) -> str:
        """Of the detector."""
        return self._detector.id

    @property
    def max_side(self) -> int:
        """Of the detector, up to which images are enlarged."""
        return self._detector.max_side

    def detect(self, pixels: Pixels, *, threshold: float | None, min_face_px: float) -> list[Face]:
        """Find faces; see `service.core.ports.Detector`."""
        boxed = letterbox(pixels, (self.max_side, self.max_side), enlarge=DEFAULT_ENLARGE)
        found = self._detector.detect(boxed.pixels, threshold=threshold, min_face_px=0)
        faces = [face.scaled(max(pixels.shape[:2]) / max(boxed.pixels.shape[:2])) for face in found]
        return [face for face in faces if face.box.side >= min_face_px]


def with_enlarged(peers: Mapping[str, Detector]) -> dict[str, Detector]:
    """The peers, and YuNet a second time: shown what ours is shown."""
    result: dict[str, Detector] = {}
    for name, peer in peers.items():
        result[name] = peer
        if name == "yunet":
            result[f"{name}, enlarged"] = Enlarged(peer)
    return result
