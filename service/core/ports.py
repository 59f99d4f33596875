"""What the core needs from below: small Protocols, so that it knows neither ONNX nor OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.types import Face, Head, Pixels

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


class Gradients(Protocol):
    """Crops -> saliency maps by the gradient of a class; thread-safe and synchronous."""

    def maps(
        self,
        crops: Sequence[NDArray[np.uint8]],
        classes: Sequence[tuple[Head, int]],
        *,
        guided: bool,
    ) -> NDArray[np.float32]:
        """Explain each crop.

        Args:
            crops: uint8 (S, S, C) each, as the model takes them.
            classes: head and place among its labels, for each crop.
            guided: by guided back-propagation; else by the plain gradient.

        Returns:
            float32 (N, S, S), at least 0.
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
