"""The command in this process, and small photos and clips for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from typer.testing import CliRunner, Result

from service.cli import app

PHOTO = (Path(__file__).parents[2] / "media" / "astronaut.jpg").read_bytes()
# The face alone and small, so that it is found in no time.
_FACE = cv2.imdecode(np.frombuffer(PHOTO, np.uint8), cv2.IMREAD_COLOR)[20:220, 120:320]
_PIXELS = cv2.resize(_FACE, (100, 100), interpolation=cv2.INTER_AREA)
SMALL = cv2.imencode(".jpg", _PIXELS)[1].tobytes()


def mien(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def photo(folder: Path, name: str, data: bytes = SMALL) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def clip(path: Path, frames: int = 6, *, fps: float = 10) -> Path:
    """A face that moves to the right, a pixel a frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    height, width = _PIXELS.shape[:2]
    size = (width + 20, height)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size)
    assert writer.isOpened()
    for number in range(frames):
        left = number % 20
        writer.write(cv2.copyMakeBorder(_PIXELS, 0, 0, left, 20 - left, cv2.BORDER_REPLICATE))
    writer.release()
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
