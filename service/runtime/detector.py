"""Faces by the detector that is trained here, with five landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.card import MODEL_FILE, DetectorCard, load_detector_card
from service.errors import CardInvalid, InferenceError
from service.runtime.files import read_checked
from service.runtime.gathered import GatheredRuns
from service.runtime.session import OrtSession, SessionOptions
from service.types import Face, Pixels
from service.vision.candidates import Candidates, joined
from service.vision.cells import CHANNELS, MULTIPLE, decode, grid
from service.vision.geometry import Letterbox, filled_up, letterbox, with_margin
from service.vision.tiles import tiles, uncut

IMAGE, CELLS = "image", "cells"
DEFAULT_MAX_SIDE, DEFAULT_ENLARGE = 640, 1.5
MAX_IOU = 0.45

# A face that fills the image has nothing around it, and may be larger than any that was learnt:
# then it is seen, but not surely, and parts of it may look like faces. A small copy with a margin
# shows it as it was learnt, with a tenth of the pixels of 640 x 480.
_SURE, _SUSPECTED = 0.8, 0.3
_SMALL, _MARGIN = 128, 32
_FILLING = 0.4
"""Least side of such a face, over the shorter side of the image."""


class MienDetector:
    """The network of `training/networks/detector.py` in ONNX Runtime; docs/adr/0007-detector.md."""

    def __init__(
        self,
        folder: Path,
        *,
        max_side: int = DEFAULT_MAX_SIDE,
        tiles: int = 1,
        enlarge: float = DEFAULT_ENLARGE,
        options: SessionOptions,
    ) -> None:
        """Read the card, verify the file against it, load it and run it once.

        Args:
            folder: of the model.
            max_side: longer side of the picture that is searched, in pixels; rounded down to a
                multiple of 32.
            tiles: how many times that side a larger picture may have that is searched piece by
                piece as well; 1 for none.
            enlarge: how many times a smaller image is enlarged, within `max_side`; 1 for never.
            options: how it is run.

        Raises:
            CardInvalid: no card, a wrong field, or a graph that is no detector's.
            HashMismatch: the file is not the one that the card describes.
            ModelError: ONNX Runtime cannot load the file.
        """
        self.card: DetectorCard = load_detector_card(folder)
        path = folder / MODEL_FILE
        self._session = OrtSession(path, options, read_checked(path, self.card.sha256))
        self._side = max(max_side // MULTIPLE, 1) * MULTIPLE
        self._tiles, self._enlarge = tiles, enlarge
        # On a CPU two pictures in one run take as long as one after the other: docs/adr/0007.
        together = options.max_batch_size if self.provider == "cuda" else 1
        self._gathered = GatheredRuns(self._cells, together) if together > 1 else None
        # One run checks the graph, and no request pays for the first.
        _try_out(self.card, self._session, self._side)

    @property
    def id(self) -> str:
        """`name@version`, as results name it."""
        return self.card.id

    @property
    def provider(self) -> str:
        """The execution provider in use: `cpu` or `cuda`."""
        return self._session.provider

    @property
    def max_side(self) -> int:
        """Longer side of the picture that is searched, in pixels, tiles put together."""
        return self._side * self._tiles

    def detect(self, pixels: Pixels, *, threshold: float | None, min_face_px: float) -> list[Face]:
        """Find faces; see `service.core.ports.Detector`."""
        threshold = self.card.threshold if threshold is None else threshold
        boxed = letterbox(pixels, (self._side, self._side), enlarge=self._enlarge)
        found = [self._search(boxed, min(threshold, _SUSPECTED))]
        if self._tiles > 1 and max(pixels.shape[:2]) > self._side:
            found += self._search_tiles(pixels, threshold)
        sure = max(_SURE, self.card.threshold)
        if _may_be_filled(joined(found), pixels, sure):
            filling = self._filling(pixels, threshold)
            found = [*(part.but_parts_of(filling, sure) for part in found), filling]
        candidates = joined(found)
        faces = candidates.take(candidates.scores >= threshold).faces(MAX_IOU)
        return [face for face in faces if face.box.side >= min_face_px]

    def _search(self, boxed: Letterbox, threshold: float) -> Candidates:
        """What is found in a frame, in pixels of the image."""
        return self._candidates(boxed, threshold).restored(boxed)

    def _search_tiles(self, pixels: Pixels, threshold: float) -> list[Candidates]:
        boxed = letterbox(pixels, (self.max_side, self.max_side))
        return [
            uncut(self._candidates(tile, threshold), tile, boxed.pixels).restored(tile)
            for tile in tiles(boxed, self._side)
        ]

    def _filling(self, pixels: Pixels, threshold: float) -> Candidates:
        found = self._search(with_margin(letterbox(pixels, (_SMALL, _SMALL)), _MARGIN), threshold)
        return found.take(_fills(found, pixels))

    def _candidates(self, boxed: Letterbox, threshold: float) -> Candidates:
        frame = filled_up(boxed, MULTIPLE).pixels
        cells = self._gathered.run(frame) if self._gathered else self._cells(frame[np.newaxis])[0]
        height, width = frame.shape[:2]
        return Candidates(*decode(cells, width, height, threshold))

    def _cells(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        (cells,) = self._session.run(IMAGE, frames, [CELLS])
        return cells


def _may_be_filled(found: Candidates, pixels: Pixels, sure: float) -> bool:
    """Whether a face may fill the image: one is suspected, or nothing is sure."""
    suspected = found.scores[_fills(found, pixels) & (found.scores >= _SUSPECTED)]
    return not ((suspected if len(suspected) else found.scores) >= sure).any()


def _fills(found: Candidates, pixels: Pixels) -> NDArray[np.bool_]:
    sides = np.sqrt(found.boxes[:, 2:].prod(axis=1))
    return np.asarray(sides >= _FILLING * min(pixels.shape[:2]))


def _try_out(card: DetectorCard, session: OrtSession, side: int) -> None:
    kind = session.input_types.get(IMAGE)
    if kind != "tensor(uint8)" or CELLS not in session.outputs:
        raise CardInvalid(f"model {card.name!r}: its graph is no detector's: uint8 image -> cells")
    # Wider than high: a graph that works at one size alone, or of a square, is found out.
    width, height = side + MULTIPLE, side
    try:
        (cells,) = session.run(IMAGE, np.zeros((1, height, width, 3), np.uint8), [CELLS])
    except InferenceError as error:
        raise CardInvalid(f"model {card.name!r}: its graph is no detector's: {error}") from error
    expected = (1, len(grid(width, height)), CHANNELS)
    if cells.shape != expected:
        raise CardInvalid(
            f"model {card.name!r}: cells are {cells.shape} for an image of {width} x {height}, "
            f"a detector's would be {expected}"
        )
