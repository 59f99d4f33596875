"""TIFF, and the directory of tags that EXIF shares with it.

TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

from __future__ import annotations

import struct
from operator import add
from struct import unpack_from
from typing import NamedTuple

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats.bounds import MAX_BLOCK, MAX_CHUNKS
from service.vision.formats.header import Header

_ORIENTATION = 274  # the tag
_TAGS = {*range(256, 260), 262, 273, _ORIENTATION, 277, 278, 279, 284, *range(322, 326), 338, 339}
"""Those that are read here. Others may be of any length and lie over each other."""
_INTEGERS = {1: "B", 3: "H", 4: "I"}

# Values of tags 259, 262, 284, 338 and 339.
_UNCOMPRESSED = 1
_PALETTE = 3
_PLANES = 2
_STRAIGHT_ALPHA = 2
_UNSIGNED = 1

_MAX_SAMPLES = 4  # of a pixel; a file with more is OpenCV's to refuse
_DEPTHS = {1, 4, 8, 10, 12, 14, 16}


class _Entry(NamedTuple):
    at: int
    """Where the (first) value stands in the file."""
    code: str
    """Its type, as `struct` writes it."""
    number: int
    """How many values it says it has; none is read before it is wanted."""


class _Directory(NamedTuple):
    block: bytes
    order: str
    entries: dict[int, _Entry]

    def values(self, tag: int, most: int, *default: int) -> tuple[int, ...]:
        """The first values of a tag, `most` at the most."""
        if tag not in self.entries:
            return default
        at, code, number = self.entries[tag]
        return unpack_from(f"{self.order}{min(number, most)}{code}", self.block, at)

    def value(self, tag: int, default: int) -> int:
        return self.values(tag, 1, default)[0]

    def orientation(self) -> int:
        value = next(iter(self.values(_ORIENTATION, 1)), 1)
        return value if 1 <= value <= 8 else 1


def _directory(block: bytes) -> _Directory:
    """The tags of `_TAGS` in the first directory; of a tag given twice the first counts."""
    order = {b"II": "<", b"MM": ">"}[block[:2]]
    (start,) = unpack_from(order + "I", block, 4)
    (count,) = unpack_from(order + "H", block, start)
    entries: dict[int, _Entry] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = unpack_from(order + "HHI", block, at)
        if tag in _TAGS and (code := _INTEGERS.get(kind)):
            inside = number * struct.calcsize(code) <= 4
            place = at + 8 if inside else unpack_from(order + "I", block, at + 8)[0]
            entries.setdefault(tag, _Entry(place, code, number))
    return _Directory(block, order, entries)


def exif_orientation(block: bytes) -> int:
    """Orientation of an EXIF block; 1 when it is missing or broken, as every viewer takes it."""
    try:
        return _directory(block.removeprefix(b"Exif\0\0")).orientation()
    except (struct.error, KeyError):
        return 1


class _Tiff(NamedTuple):
    """The baseline tags that matter here, with their defaults."""

    width: int
    height: int
    depths: tuple[int, ...]
    samples: int
    compression: int
    photometric: int
    planar: int
    sample_format: int
    extra: int
    block: tuple[int, int]
    """Width and height of a tile, or of a strip."""
    tiled: bool


def _tiff(tags: _Directory) -> _Tiff:
    width, height = tags.value(256, 0), tags.value(257, 0)
    tiled = 322 in tags.entries
    rows = tags.value(278, 0xFFFFFFFF)
    strip = width, height if rows == 0xFFFFFFFF else rows
    return _Tiff(
        width=width,
        height=height,
        depths=tags.values(258, _MAX_SAMPLES, 1),
        samples=tags.value(277, 1),
        compression=tags.value(259, _UNCOMPRESSED),
        photometric=tags.value(262, 1),
        planar=tags.value(284, 1),
        sample_format=tags.value(339, _UNSIGNED),
        extra=tags.value(338, 0),
        block=(tags.value(322, 0), tags.value(323, 0)) if tiled else strip,
        tiled=tiled,
    )


def read_header(data: bytes) -> Header:
    """Size, depth, orientation and kind of alpha, from the tags."""
    if data[2:4] in (b"+\0", b"\0+"):
        raise UnsupportedMedia("BigTIFF")
    tags = _directory(data)
    tiff = _tiff(tags)
    depth = tiff.depths[0]
    if tiff.sample_format != _UNSIGNED:
        raise UnsupportedMedia("TIFF with signed or floating-point samples")
    if set(tiff.depths) != {depth} or depth not in _DEPTHS:
        raise UnsupportedMedia(f"TIFF with samples of {tiff.depths} bits")
    if depth == 4 and tiff.photometric != _PALETTE:
        raise UnsupportedMedia("TIFF with 16 shades of grey")
    # libtiff's conversion of 8-bit samples multiplies alpha in; OpenCV leaves 16-bit ones alone.
    premultiplied = depth <= 8 or tiff.extra != _STRAIGHT_ALPHA
    depth = max(depth, 8)
    return Header("tiff", tiff.width, tiff.height, tags.orientation(), depth, premultiplied)


def trim(data: bytes) -> bytes:
    """The file as it lies, not turned, once its strips or tiles are all there."""
    tags = _directory(data)
    tiff = _tiff(tags)
    blocks = _blocks(tiff)
    offsets = tags.values(324 if tiff.tiled else 273, blocks)
    counts = tags.values(325 if tiff.tiled else 279, blocks)
    if min(len(offsets), len(counts)) < blocks:
        raise InvalidImage("the TIFF is truncated: it has too few strips or tiles")
    row_bytes = (tiff.width * tiff.samples * tiff.depths[0] + 7) // 8
    if tiff.compression == _UNCOMPRESSED and sum(counts) < row_bytes * tiff.height:
        raise InvalidImage("the TIFF is truncated: its strips or tiles are too short")
    if max(map(add, offsets, counts), default=0) > len(data):
        raise InvalidImage("the TIFF is truncated")
    return _unturned(tags)


def _blocks(tiff: _Tiff) -> int:
    """How many strips or tiles make up the picture."""
    width, height = tiff.block
    if not 0 < width * height <= max(tiff.width * tiff.height, MAX_BLOCK):
        raise InvalidImage(f"the TIFF has strips or tiles of {width} x {height} pixels")
    blocks = -(-tiff.width // width) * -(-tiff.height // height)
    if tiff.planar == _PLANES:
        blocks *= tiff.samples
    if blocks > MAX_CHUNKS:
        raise UnsupportedMedia(f"TIFF of more than {MAX_CHUNKS} strips or tiles")
    return blocks


def _unturned(tags: _Directory) -> bytes:
    """The file with orientation 1: OpenCV would turn it, whatever flags say that it must not."""
    if tags.orientation() == 1:
        return tags.block
    entry = tags.entries[_ORIENTATION]
    turned = bytearray(tags.block)
    struct.pack_into(tags.order + entry.code, turned, entry.at, 1)
    return bytes(turned)
