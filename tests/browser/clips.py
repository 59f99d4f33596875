"""Clips for the browser: what its camera shows, and a video file whose face is known to move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

PHOTO = Path(__file__).parents[1] / "media" / "astronaut.jpg"
FACE = (184, 61, 80, 107)
"""x, y, width and height of the face in the photo, as one detector sees it; others differ a bit."""
RATE = 15
SIDE = 320


def on_the_face(box: Sequence[float], left: int = 0, top: int = 0) -> bool:
    """Whether a box is the face's, in a window of the photo that begins at `left`, `top`."""
    x, y, width, height = box
    across = min(x + width, FACE[0] - left + FACE[2]) - max(x, FACE[0] - left)
    down = min(y + height, FACE[1] - top + FACE[3]) - max(y, FACE[1] - top)
    shared = max(0, across) * max(0, down)
    return shared / (width * height + FACE[2] * FACE[3] - shared) > 0.6


def offset(second: float) -> tuple[int, int]:
    """What the left upper corner of `write_video`'s frame is in the photo."""
    return 40 + int(second * RATE), 20


def write_video(path: Path, seconds: float = 10) -> Path:
    """The photo, with a square window that moves to the right."""
    pixels = cv2.imread(str(PHOTO))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), RATE, (SIDE, SIDE))
    for index in range(int(seconds * RATE)):
        x, y = offset((index + 0.5) / RATE)
        writer.write(np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE]))
    writer.release()
    return path


def write_camera(path: Path, source: Path | None) -> Path:
    """Motion JPEG, which Chromium shows over and over as its camera.

    Args:
        path: to write to.
        source: a video; None for a window that moves over the photo.
    """
    frames = _moving() if source is None else _read(source)
    encoded = (cv2.imencode(".jpg", pixels)[1].tobytes() for pixels in frames)
    path.write_bytes(b"".join(encoded))
    return path


def _moving() -> list[np.ndarray]:
    pixels = cv2.imread(str(PHOTO))
    turns = np.linspace(0, 2 * np.pi, 150, endpoint=False)
    return [pixels[20:260, x : x + 320] for x in (100 + 80 * np.sin(turns)).astype(int)]


def _read(source: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(source))
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.resize(read[1], (640, 360)))
    capture.release()
    return frames
