"""TIFF, and the directory of tags that EXIF shares with it.

TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

from __future__ import annotations

import struct
from struct import unpack_from
from typing import NamedTuple

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats.bounds import MAX_BLOCK
from service.vision.formats.header import Header

_ORIENTATION = 274  # the tag
_INTEGERS = {1: "B", 3: "H", 4: "I"}

# Values of tags 259, 262, 284, 338 and 339.
_UNCOMPRESSED = 1
_PALETTE = 3
_PLANES = 2
_STRAIGHT_ALPHA = 2
_UNSIGNED = 1

_DEPTHS = {1, 4, 8, 10, 12, 14, 16}


class _Entry(NamedTuple):
    at: int
    """Where the (first) value stands in the file."""
    code: str
    """Its type, as `struct` writes it."""
    values: tuple[int, ...]


def _directory(block: bytes) -> tuple[str, dict[int, _Entry]]:
    """Byte order and integer tags of the first directory; of a tag given twice the first counts."""
    order = {b"II": "<", b"MM": ">"}[block[:2]]
    (start,) = unpack_from(order + "I", block, 4)
    (count,) = unpack_from(order + "H", block, start)
    tags: dict[int, _Entry] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = unpack_from(order + "HHI", block, at)
        if code := _INTEGERS.get(kind):
            tags.setdefault(tag, _entry(block, at + 8, order, code, number))
    return order, tags


def _entry(block: bytes, at: int, order: str, code: str, number: int) -> _Entry:
    if number * struct.calcsize(code) > 4:
        (at,) = unpack_from(order + "I", block, at)
    if number > len(block):
        raise struct.error("more values than bytes")
    return _Entry(at, code, unpack_from(f"{order}{number}{code}", block, at))


def exif_orientation(block: bytes) -> int:
    """Orientation of an EXIF block; 1 when it is missing or broken, as every viewer takes it."""
    try:
        _, tags = _directory(block.removeprefix(b"Exif\0\0"))
        return _orientation(tags)
    except (struct.error, KeyError, IndexError):
        return 1


def _orientation(tags: dict[int, _Entry]) -> int:
    values = tags[_ORIENTATION].values if _ORIENTATION in tags else ()
    return values[0] if values and 1 <= values[0] <= 8 else 1


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
    offsets: tuple[int, ...]
    counts: tuple[int, ...]


def _tiff(tags: dict[int, _Entry]) -> _Tiff:
    def values(tag: int, *default: int) -> tuple[int, ...]:
        return tags[tag].values if tag in tags else default

    def value(tag: int, default: int) -> int:
        return values(tag, default)[0]

    width, height = value(256, 0), value(257, 0)
    tiled = 322 in tags
    rows = value(278, 0xFFFFFFFF)
    strip = width, height if rows == 0xFFFFFFFF else rows
    return _Tiff(
        width=width,
        height=height,
        depths=values(258, 1),
        samples=value(277, 1),
        compression=value(259, _UNCOMPRESSED),
        photometric=value(262, 1),
        planar=value(284, 1),
        sample_format=value(339, _UNSIGNED),
        extra=value(338, 0),
        block=(value(322, 0), value(323, 0)) if tiled else strip,
        offsets=values(324 if tiled else 273),
        counts=values(325 if tiled else 279),
    )


def read_header(data: bytes) -> Header:
    """Size, depth, orientation and kind of alpha, from the tags."""
    if data[2:4] in (b"+\0", b"\0+"):
        raise UnsupportedMedia("BigTIFF")
    _, tags = _directory(data)
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
    return Header("tiff", tiff.width, tiff.height, _orientation(tags), max(depth, 8), premultiplied)


def trim(data: bytes) -> bytes:
    """The file as it lies, not turned, once its strips or tiles are all there."""
    order, tags = _directory(data)
    tiff = _tiff(tags)
    _check_blocks(tiff)
    if not tiff.offsets or len(tiff.offsets) != len(tiff.counts):
        raise InvalidImage("the TIFF does not say where its picture is")
    if max(map(sum, zip(tiff.offsets, tiff.counts, strict=True))) > len(data):
        raise InvalidImage("the TIFF is truncated")
    return _unturned(data, order, tags)


def _check_blocks(tiff: _Tiff) -> None:
    width, height = tiff.block
    if not 0 < width * height <= max(tiff.width * tiff.height, MAX_BLOCK):
        raise InvalidImage(f"the TIFF has strips or tiles of {width} x {height} pixels")
    blocks = -(-tiff.width // width) * -(-tiff.height // height)
    if tiff.planar == _PLANES:
        blocks *= tiff.samples
    if len(tiff.offsets) < blocks:
        raise InvalidImage("the TIFF is truncated: it has too few strips or tiles")
    row_bytes = (tiff.width * tiff.samples * tiff.depths[0] + 7) // 8
    if tiff.compression == _UNCOMPRESSED and sum(tiff.counts) < row_bytes * tiff.height:
        raise InvalidImage("the TIFF is truncated: its strips or tiles are too short")


def _unturned(data: bytes, order: str, tags: dict[int, _Entry]) -> bytes:
    """The file with orientation 1: OpenCV would turn it, whatever flags say that it must not."""
    if _orientation(tags) == 1:
        return data
    entry = tags[_ORIENTATION]
    turned = bytearray(data)
    struct.pack_into(order + entry.code, turned, entry.at, 1)
    return bytes(turned)
