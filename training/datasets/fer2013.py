"""FER2013 (`fer2013.csv`) with the votes of FER+ (`fer2013new.csv`) where they are given."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from service.card import Framing
from service.types import EMOTIONS, Box
from training.datasets.duplicates import group_near
from training.datasets.samples import DatasetError, Samples, one_hot

SIDE = 48
USAGES = ("Training", "PublicTest", "PrivateTest")
# Measured with YuNet over the set: the tight box has 0.889 of the image's side.
FACE_SIDE, FACE_X, FACE_Y = 0.889, 0.496, 0.494
FRAMING = Framing(scale=1.125, shift_y=0.0)
# FER+ columns in the order of EMOTIONS; then come contempt, unknown and NF (not a face).
_VOTE_COLUMNS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_OTHER_COLUMNS = ("contempt", "unknown", "NF")
OFFICIAL_SHARE = 0.7


def load(path: Path, votes: Path | None = None) -> Samples:
    """Read the official CSV; targets mix the official label with translated FER+ votes.

    Rows whose FER+ majority is "not a face" get a target of zeros: they are measured, not learnt.

    Args:
        path: `fer2013.csv` or the folder that holds it.
        votes: `fer2013new.csv`; by default the one beside `path`, if it is there.

    Raises:
        DatasetError: a malformed row, by its number.
    """
    path = path / "fer2013.csv" if path.is_dir() else path
    if votes is None and (path.parent / "fer2013new.csv").exists():
        votes = path.parent / "fer2013new.csv"
    rows = list(_read(path))
    if not rows:
        raise DatasetError(f"{path} has no rows")
    labels = np.array([label for label, _, _ in rows], np.int64)
    images = [pixels for _, pixels, _ in rows]
    targets = one_hot(labels, len(EMOTIONS))
    if votes is not None:
        training = np.array([usage == "Training" for _, _, usage in rows])
        targets = _mix(targets, _read_votes(votes, len(rows)), training)
    side = SIDE * FACE_SIDE
    box = Box(SIDE * FACE_X - side / 2, SIDE * FACE_Y - side / 2, side, side)
    return Samples(
        name="fer2013",
        images=images,
        boxes=[box] * len(images),
        framing=FRAMING,
        labels={"emotion": labels},
        targets={"emotion": targets},
        groups=group_near(images),
        usage=np.array([usage for _, _, usage in rows]),
    )


def _read(path: Path) -> Iterator[tuple[int, NDArray[np.uint8], str]]:
    try:
        file = path.open(newline="")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        rows = _rows(path, file)
        _, header = next(rows, (1, []))
        if [name.strip() for name in header] != ["emotion", "pixels", "Usage"]:
            raise DatasetError(f"{path}: the first row must be emotion,pixels,Usage, not {header}")
        for number, row in rows:
            try:
                yield _parse(row)
            except ValueError as error:
                raise DatasetError(f"{path}, row {number}: {error}") from error


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from enumerate(csv.reader(file), start=1)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is no CSV: {error}") from error


def _parse(row: list[str]) -> tuple[int, NDArray[np.uint8], str]:
    if len(row) != 3:
        raise ValueError(f"3 fields expected, {len(row)} found")
    label = int(row[0])
    if not 0 <= label < len(EMOTIONS):
        raise ValueError(f"emotion {label} is not in 0..{len(EMOTIONS) - 1}")
    pixels = np.array(row[1].split(), np.int64)
    if pixels.size != SIDE * SIDE:
        raise ValueError(f"{SIDE * SIDE} pixels expected, {pixels.size} found")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("a pixel is not in 0..255")
    usage = row[2].strip()
    if usage not in USAGES:
        raise ValueError(f"usage {usage!r} is none of {', '.join(USAGES)}")
    return label, pixels.astype(np.uint8).reshape(SIDE, SIDE), usage


def _read_votes(path: Path, rows: int) -> NDArray[np.float32]:
    # (N, 10): the seven emotions, then contempt, unknown, NF.
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {*_VOTE_COLUMNS, *_OTHER_COLUMNS} - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        votes = []
        for number, row in enumerate(reader, start=2):
            try:
                votes.append([float(row[name]) for name in (*_VOTE_COLUMNS, *_OTHER_COLUMNS)])
            except (TypeError, ValueError) as error:
                raise DatasetError(f"{path}, row {number}: a vote is not a number") from error
    if len(votes) != rows:
        raise DatasetError(f"{path} has {len(votes)} rows, the images have {rows}")
    return np.array(votes, np.float32)


def _mix(
    official: NDArray[np.float32], votes: NDArray[np.float32], training: NDArray[np.bool_]
) -> NDArray[np.float32]:
    no_face = votes[:, -1] > votes.sum(axis=1) / 2
    emotions = votes[:, : len(EMOTIONS)]
    shares = emotions / np.maximum(emotions.sum(axis=1, keepdims=True), 1)
    known = training & ~no_face
    voted = shares @ _translation(official[known], shares[known])
    voted = np.where(voted.sum(axis=1, keepdims=True) > 0, voted, official)
    mixed = OFFICIAL_SHARE * official + (1 - OFFICIAL_SHARE) * voted
    mixed[no_face] = 0
    return mixed.astype(np.float32)


def _translation(official: NDArray[np.float32], shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """(voted, official): how the official labels are spread where a vote is given.

    FER+ voters say neutral where FER2013 says sad, surprise where it says fear: learnt as they
    are, their votes made a network answer fear in 9 % of the images instead of 14 %, and neutral
    in 24 % instead of 17 %.
    """
    table = shares.T @ official
    return np.asarray(table / np.maximum(table.sum(axis=1, keepdims=True), 1e-6))
