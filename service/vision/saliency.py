"""Saliency maps: patches for occlusion, and the pictures that are made of a map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from service.types import Pixels

Map = NDArray[np.float32]
"""float32 (S, S): how much each pixel of a crop counts, in the map's own unit."""

_SHARE = 4
"""A patch has a quarter of the crop's side and moves by half of its own."""
_STRONGEST = 99.0
"""Percentile of a map that is drawn at full strength: single pixels reach far above the rest."""


def occlusion_count(size: int) -> int:
    """How many `occlusions` a crop of that side has."""
    return len(_places(size))


def occlusions(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop with a square of its own mean colour laid over one place after another.

    After Zeiler and Fergus 2014 (arXiv:1311.2901), section 4.2, whose square is grey.

    Args:
        crop: uint8 (S, S, C).

    Returns:
        uint8 (P, S, S, C), row by row; P is 49 where 8 divides S.
    """
    places = _places(len(crop))
    covered = np.repeat(crop[np.newaxis], len(places), axis=0)
    mean = crop.mean(axis=(0, 1)).round().astype(np.uint8)
    for picture, place in zip(covered, places, strict=True):
        picture[place] = mean
    return covered


def occlusion_map(losses: NDArray[np.float32], size: int) -> Map:
    """How much probability each pixel holds up.

    Args:
        losses: float32 (P,), what the probability falls by under each of `occlusions`.
        size: S of the crop.

    Returns:
        float32 (S, S): the mean of the losses under the squares over a pixel, 0 where it is
        negative.
    """
    total, count = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for loss, place in zip(losses, _places(size), strict=True):
        total[place] += loss
        count[place] += 1
    return np.asarray(np.maximum(total / count, 0), np.float32)


def draw(values: Map) -> bytes:
    """A map as a grey PNG of its own size: black is 0, white the strongest."""
    return _png(np.rint(_relative(values) * 255).astype(np.uint8))


def draw_over(values: Map, picture: NDArray[np.uint8]) -> bytes:
    """A map in colour over the part of the photo that its crop was cut from, as a PNG.

    Args:
        values: the map.
        picture: uint8 (V, V, 3) RGB.
    """
    side = len(picture)
    smooth = cv2.GaussianBlur(_relative(values), (0, 0), len(values) / 64)
    heat = cv2.resize(smooth, (side, side), interpolation=cv2.INTER_CUBIC)
    heat = np.clip(heat, 0, 1)[..., np.newaxis]
    color = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., np.newaxis]
    return _png(np.rint(gray * (1 - heat) * 0.8 + color * heat).astype(np.uint8))


def _places(size: int) -> list[tuple[slice, slice]]:
    patch = max(size // _SHARE, 1)
    starts = [*range(0, size - patch, max(patch // 2, 1)), size - patch]
    return [(slice(y, y + patch), slice(x, x + patch)) for y in starts for x in starts]


def _relative(values: Map) -> Map:
    """0..1, of what is as strong as a pixel of a hundred."""
    top = float(np.percentile(values, _STRONGEST))
    top = top or float(values.max()) or 1.0
    return np.asarray(np.clip(values / np.float32(top), 0, 1), np.float32)


def _png(picture: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])
