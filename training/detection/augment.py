"""Training pictures: scenes turned, scaled and put together as a mosaic, in another light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.types import Pixels
from training.detection.scenes import Scene

Share = Annotated[float, Field(ge=0, le=1)]
Floats = NDArray[np.float32]
MIRRORED = (1, 0, 2, 4, 3)
"""Places of the five points after a flip: right stays right as seen in the image."""
_VISIBLE, _HINTED = 0.5, 0.05
"""Share of a box inside its tile from which a face is learnt, and below which nothing is left."""


class Augment(BaseModel):
    """How far a training picture may stray from its scene."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mosaic: Share = 0.5
    """Share of pictures of four scenes."""
    smallest_px: float = Field(default=9.0, gt=0)
    """Least side that a chosen face of a scene is scaled to; the logarithm is uniform."""
    largest: float = Field(default=1.0, gt=0)
    """Largest side, over that of the tile."""
    enlarge: float = Field(default=3.0, ge=1)
    """No scene is enlarged more."""
    reduce: Share = 0.3
    """Least shorter side of a scene, over that of its tile: more of it would be empty."""
    background: Share = 0.7
    """Pictures where another photo without faces fills what a scene leaves empty."""
    rotation_deg: float = Field(default=15.0, ge=0)
    light: float = Field(default=0.35, ge=0, lt=1)
    """Largest relative change of contrast, and of brightness over 255."""
    tint: float = Field(default=0.12, ge=0, lt=1)
    """Largest relative change of a colour."""
    gray: Share = 0.12
    blur: Share = 0.12
    coarse: Share = 0.1
    """Reduced and enlarged again."""
    jpeg: Share = 0.15
    noise: Share = 0.08
    cover: Share = 0.1
    """Pictures where a patch hides part of a face."""


@dataclass(slots=True)
class Picture:
    """A training picture and its N faces, as in `Scene`; it is changed in place.

    Attributes:
        pixels: uint8 (H, W, 3) BGR.
        boxes: float32 (N, 4).
        points: float32 (N, 5, 2).
        ignored: bool (N,).
    """

    pixels: Pixels
    boxes: Floats
    points: Floats
    ignored: NDArray[np.bool_]


def picture(
    scenes: Sequence[Scene], first: Scene, side: int, plan: Augment, rng: np.random.Generator
) -> Picture:
    """A training picture of a scene, with three others in a mosaic.

    Args:
        scenes: to choose the others from.
        first: the scene.
        side: of the square picture in pixels.
        plan: ranges and shares.
        rng: the picture's own generator.
    """
    behind = _behind(scenes, side, rng) if rng.random() < plan.background else None
    if rng.random() < plan.mosaic:
        others = [scenes[row] for row in rng.integers(0, len(scenes), 3)]
        made = _mosaic([first, *others], side, plan, rng, behind)
    else:
        made = tile(first, (side, side), plan, rng, behind)
    if len(made.boxes) and rng.random() < plan.cover:
        _cover(made, rng)
    made.pixels = relight(made.pixels, plan, rng)
    return made


def tile(
    scene: Scene,
    size: tuple[int, int],
    plan: Augment,
    rng: np.random.Generator,
    behind: Pixels | None = None,
) -> Picture:
    """A scene turned, scaled, moved and perhaps mirrored into a frame.

    Args:
        scene: is decoded here.
        size: width and height of the frame.
        plan: ranges and shares.
        rng: the picture's own generator.
        behind: uint8 (H, W, 3) of that size, to be seen where the scene does not reach.
    """
    width, height = size
    pixels = scene.pixels()
    scale, focus = _scaled(scene, pixels, min(width, height), plan, rng)
    if scale < 0.7:
        # A warp samples four pixels for one: shrink by area first, or it aliases.
        small = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
        step = np.array(small, np.float32) / (pixels.shape[1], pixels.shape[0])
        pixels = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
    else:
        step = np.ones(2, np.float32)
    place = rng.uniform(0.1, 0.9, 2) * (width, height)
    turn = rng.uniform(-plan.rotation_deg, plan.rotation_deg)
    matrix = affine(focus, place, scale, turn, mirror=rng.random() < 0.5)
    of_shrunk = matrix / np.array([*step, 1.0])
    mode = cv2.BORDER_REPLICATE if rng.random() < 0.33 else cv2.BORDER_CONSTANT
    fill = [float(rng.integers(0, 256)) if rng.random() < 0.5 else 0.0] * 3
    if behind is not None:
        mode, behind = cv2.BORDER_TRANSPARENT, behind.copy()
    warped = cv2.warpAffine(pixels, of_shrunk, size, dst=behind, borderMode=mode, borderValue=fill)
    boxes, points = moved(scene.boxes, scene.points, matrix)
    made = Picture(np.asarray(warped, np.uint8), boxes, points, scene.ignored.copy())
    _forget_hidden(made)
    return made


def affine(
    focus: NDArray[Any], place: NDArray[Any], scale: float, turn_deg: float, *, mirror: bool
) -> NDArray[np.float64]:
    """2 x 3: brings `focus` to `place`, scaled, turned counter-clockwise, mirrored before that."""
    cos, sin = scale * np.cos(np.radians(turn_deg)), scale * np.sin(np.radians(turn_deg))
    linear = np.array([[cos, sin], [-sin, cos]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    return np.hstack((linear, (np.asarray(place) - linear @ np.asarray(focus))[:, np.newaxis]))


def moved(boxes: Floats, points: Floats, matrix: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Boxes (N, 4) and points (N, 5, 2) after an affine map of scale, turn and perhaps mirroring.

    A face is an ellipse rather than a rectangle: its box after a turn is the ellipse's, not the one
    around the turned corners, which would grow.
    """
    linear, shift = matrix[:, :2], matrix[:, 2]
    middle = (boxes[:, :2] + boxes[:, 2:] / 2) @ linear.T + shift
    size = np.sqrt(boxes[:, 2:] ** 2 @ (linear.T**2))
    placed = points @ linear.T + shift
    if np.linalg.det(linear) < 0:
        placed = placed[:, MIRRORED]
    return np.hstack((middle - size / 2, size)).astype(np.float32), placed.astype(np.float32)


def relight(pixels: Pixels, plan: Augment, rng: np.random.Generator) -> Pixels:
    """Another contrast, brightness and tint for all; less colour, focus or quality for some."""
    gain = rng.uniform(1 - plan.light, 1 + plan.light)
    shift = rng.uniform(-plan.light, plan.light) * 255 * 0.5
    tints = gain * rng.uniform(1 - plan.tint, 1 + plan.tint, 3)
    ramp = np.arange(256)[:, np.newaxis]
    table = np.clip((ramp - 127) * tints + 127 + shift, 0, 255).astype(np.uint8)
    result = cv2.LUT(pixels, table.reshape(1, 256, 3))
    height, width = pixels.shape[:2]
    if rng.random() < plan.gray:
        result = cv2.cvtColor(cv2.cvtColor(result, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < plan.blur:
        result = cv2.GaussianBlur(result, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < plan.coarse:
        factor = rng.uniform(0.35, 0.8)
        small = cv2.resize(result, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        result = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < plan.noise:
        noise = rng.integers(-16, 17, pixels.shape, np.int16)
        result = np.clip(result + noise, 0, 255).astype(np.uint8)
    if rng.random() < plan.jpeg:
        quality = int(rng.integers(25, 85))
        _, data = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.asarray(result, np.uint8)


def _scaled(
    scene: Scene, pixels: Pixels, side: int, plan: Augment, rng: np.random.Generator
) -> tuple[float, Floats]:
    """A scale, and the place of the scene that will come to the place chosen in the tile."""
    height, width = pixels.shape[:2]
    rows = np.flatnonzero(~scene.ignored)
    if not len(rows):
        scale = side / min(width, height) * np.exp(rng.uniform(np.log(0.6), np.log(3.0)))
        return min(float(scale), plan.enlarge), (rng.random(2) * (width, height)).astype(np.float32)
    x, y, w, h = scene.boxes[rng.choice(rows)]
    wanted = np.exp(rng.uniform(np.log(plan.smallest_px), np.log(plan.largest * side)))
    scale = wanted / max(float(np.sqrt(w * h)), 1.0)
    scale = max(scale, plan.reduce * side / min(width, height))
    return min(float(scale), plan.enlarge), np.array([x + w / 2, y + h / 2], np.float32)


def _mosaic(
    scenes: Sequence[Scene],
    side: int,
    plan: Augment,
    rng: np.random.Generator,
    behind: Pixels | None,
) -> Picture:
    split_x, split_y = (int(n) for n in rng.uniform(0.3, 0.7, 2) * side)
    columns, rows = ((0, split_x), (split_x, side)), ((0, split_y), (split_y, side))
    canvas = np.empty((side, side, 3), np.uint8)
    made = []
    places = [(column, row) for row in rows for column in columns]
    for scene, ((left, right), (top, bottom)) in zip(scenes, places, strict=True):
        there = None if behind is None else behind[top:bottom, left:right]
        part = tile(scene, (right - left, bottom - top), plan, rng, there)
        canvas[top:bottom, left:right] = part.pixels
        offset = np.array([left, top], np.float32)
        part.boxes[:, :2] += offset
        part.points += offset
        made.append(part)
    return Picture(
        canvas,
        np.concatenate([part.boxes for part in made]),
        np.concatenate([part.points for part in made]),
        np.concatenate([part.ignored for part in made]),
    )


def _behind(scenes: Sequence[Scene], side: int, rng: np.random.Generator) -> Pixels | None:
    # A quarter of the scenes have no face: eight draws miss them in one picture of ten.
    drawn = (scenes[row] for row in rng.integers(0, len(scenes), 8))
    found = next((scene for scene in drawn if not len(scene.boxes)), None)
    if found is None:
        return None
    return np.asarray(cv2.resize(found.pixels(), (side, side)), np.uint8)


def _forget_hidden(made: Picture) -> None:
    # What lies outside of the tile is dropped, what lies half inside is ignored.
    frame = np.array(made.pixels.shape[1::-1], np.float32)
    low, size = made.boxes[:, :2], made.boxes[:, 2:]
    inside = np.clip(np.minimum(low + size, frame) - np.maximum(low, 0), 0, None).prod(axis=1)
    share = inside / np.maximum(size.prod(axis=1), 1e-6)
    middle = low + size / 2
    central = ((middle >= 0) & (middle < frame)).all(axis=1)
    made.ignored |= (share < _VISIBLE) | ~central
    kept = share >= _HINTED
    made.boxes, made.points = made.boxes[kept], made.points[kept]
    made.ignored = made.ignored[kept]


def _cover(made: Picture, rng: np.random.Generator) -> None:
    # A quarter to a half of a face from one side: a hand, a mask, a neighbour's shoulder.
    x, y, w, h = made.boxes[rng.integers(len(made.boxes))]
    share = rng.uniform(0.25, 0.5)
    across = rng.random() < 0.5
    size = np.array([w * share, h] if across else [w, h * share])
    low = np.array([x, y]) + (rng.random() < 0.5) * (np.array([w, h]) - size)
    left, top = np.clip(low, 0, None).astype(int)
    right, bottom = np.clip(low + size, 0, None).astype(int)
    made.pixels[top:bottom, left:right] = rng.integers(0, 256, 3)
