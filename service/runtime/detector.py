"""image -> faces: the detectors to choose from; each is a `service.core.ports.Detector`."""

from service.runtime.haar import HaarDetector
from service.runtime.yunet import YunetDetector

__all__ = ["HaarDetector", "YunetDetector"]
