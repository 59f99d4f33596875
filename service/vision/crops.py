"""image + face -> model crop: the one place that decides framing, for training and for serving."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from service.card import Framing, InputSpec
from service.types import Box, Pixels

WHOLE = Framing(scale=1.0, shift_y=0.0)
SHARPNESS = InputSpec(size=64, color="gray", framing=WHOLE)
"""The crop that `sharpness` looks at."""


def square_of(box: Box, framing: Framing) -> Box:
    """The square that a framing puts around a tight box; it may reach beyond the image."""
    side = max(box.side * framing.scale, 1.0)
    center_x, center_y = box.center
    center_y += box.side * framing.shift_y
    return Box(center_x - side / 2, center_y - side / 2, side, side)


def crop_face(
    pixels: Pixels, box: Box, spec: InputSpec, *, rotation_deg: float = 0.0
) -> NDArray[np.uint8]:
    """Cut the square that `spec.framing` puts around a tight box, at the model's size and colour.

    What lies beyond the image is filled by repeating its edge: the face stays in its place in the
    crop, as in training, instead of being shifted to fit.

    Args:
        pixels: uint8 (H, W, 3) BGR or (H, W) grey.
        box: the tight face box in pixels of `pixels`.
        spec: size, colour and framing from the model's card.
        rotation_deg: turns the square counter-clockwise about its centre; for training.

    Returns:
        uint8 (size, size, channels); RGB order for colour models.
    """
    square = square_of(box, spec.framing)
    return _warp(pixels, square.x, square.y, square.width, square.height, spec, rotation_deg)


def crop_whole(pixels: Pixels, spec: InputSpec) -> NDArray[np.uint8]:
    """Take the whole image as the crop (`detect=false`), squeezed to the model's square.

    Args:
        pixels: uint8 (H, W, 3) BGR or (H, W) grey.
        spec: size and colour from the model's card.

    Returns:
        uint8 (size, size, channels).
    """
    height, width = pixels.shape[:2]
    return _warp(pixels, 0.0, 0.0, float(width), float(height), spec)


def sharpness(pixels: Pixels, box: Box) -> float:
    """How much fine detail a face has: variance of its Laplacian at 64x64, squashed to 0..1.

    0.5 lies at a variance of 100, a customary limit between blurred and sharp (Pech-Pacheco et
    al. 2000 for the measure).
    """
    crop = crop_face(pixels, box, SHARPNESS)[..., 0]
    _, deviation = cv2.meanStdDev(cv2.Laplacian(crop, cv2.CV_32F))
    variance = float(deviation[0, 0]) ** 2
    return variance / (variance + 100.0)


def _warp(
    pixels: Pixels,
    left: float,
    top: float,
    width: float,
    height: float,
    spec: InputSpec,
    rotation_deg: float = 0.0,
) -> NDArray[np.uint8]:
    size = spec.size
    if max(width, height) / size > 2:
        # A warp samples four pixels per output pixel: shrink by area first, or it aliases.
        pixels, left, top, width, height = _shrink(pixels, left, top, width, height, size)
    matrix = np.array(
        [
            [width / size, 0.0, left + width / size / 2 - 0.5],
            [0.0, height / size, top + height / size / 2 - 0.5],
        ]
    )
    if rotation_deg:
        matrix = _turned(matrix, size, rotation_deg)
    crop = cv2.warpAffine(
        pixels,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _recolor(np.asarray(crop, np.uint8), spec.color)


def _turned(matrix: NDArray[np.float64], size: int, degrees: float) -> NDArray[np.float64]:
    middle = (size - 1) / 2
    turn = np.vstack([cv2.getRotationMatrix2D((middle, middle), degrees, 1.0), [0.0, 0.0, 1.0]])
    return np.asarray(matrix @ turn, np.float64)


def _shrink(
    pixels: Pixels, left: float, top: float, width: float, height: float, size: int
) -> tuple[Pixels, float, float, float, float]:
    image_height, image_width = pixels.shape[:2]
    # Each side by its own step: a whole image that is wide may have no rows to spare.
    step_x, step_y = max(int(width / size), 1), max(int(height / size), 1)
    # Only the part that the crop can see, and a cell of the reduction around it.
    x0 = min(max(int(np.floor(left)) - step_x, 0), image_width - 1)
    y0 = min(max(int(np.floor(top)) - step_y, 0), image_height - 1)
    x1 = max(min(int(np.ceil(left + width)) + step_x, image_width), x0 + 1)
    y1 = max(min(int(np.ceil(top + height)) + step_y, image_height), y0 + 1)
    target = (max((x1 - x0) // step_x, 1), max((y1 - y0) // step_y, 1))
    part = np.asarray(
        cv2.resize(pixels[y0:y1, x0:x1], target, interpolation=cv2.INTER_AREA), np.uint8
    )
    fx, fy = target[0] / (x1 - x0), target[1] / (y1 - y0)
    return part, (left - x0) * fx, (top - y0) * fy, width * fx, height * fy


def _recolor(crop: NDArray[np.uint8], color: Literal["gray", "rgb"]) -> NDArray[np.uint8]:
    if color == "gray":
        gray = crop if crop.ndim == 2 else cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
        return np.asarray(gray, np.uint8)[..., np.newaxis]
    code = cv2.COLOR_GRAY2RGB if crop.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(crop, code), np.uint8)
