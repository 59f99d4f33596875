"""What the core needs from below: small Protocols, so that it knows neither ONNX nor OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from service.types import Face, Pixels

Item = TypeVar("Item", contravariant=True)
Output = TypeVar("Output", covariant=True)


class Runner(Protocol[Item, Output]):
    """Runs one batch; called on a worker thread, at most one call per slot at a time."""

    def run(self, items: Sequence[Item]) -> Sequence[Output]:
        """Give one output per item, in order.

        Raises:
            MienError: as it is meant for the caller; any other exception is a failed run.
        """
        ...


class Detector(Protocol):
    """image -> faces; thread-safe and synchronous."""

    @property
    def id(self) -> str:
        """`name@version`, as results name it."""
        ...

    @property
    def max_side(self) -> int:
        """Longer side in pixels of the working image: more than this the detector does not use."""
        ...

    def detect(self, pixels: Pixels, *, threshold: float | None, min_face_px: float) -> list[Face]:
        """Find faces.

        Args:
            pixels: uint8 (H, W, 3) BGR, any size from 1x1.
            threshold: lowest score reported, 0..1; None for the detector's own.
            min_face_px: smallest `Box.side` reported, in pixels of `pixels`.

        Returns:
            Faces in pixels of `pixels`, in any order.
        """
        ...
