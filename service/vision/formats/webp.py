"""WebP: RFC 9649."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from service.errors import InvalidImage
from service.vision.formats.bounds import MAX_CHUNKS
from service.vision.formats.header import Header
from service.vision.formats.tiff import exif_orientation


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and length of each chunk's payload, as far as the bytes go."""
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        kind, length = unpack_from("<4sI", data, at)
        yield kind, at + 8, length
        at += 8 + length + (length & 1)


def read_header(data: bytes) -> Header:
    """Size from the first chunk, orientation from EXIF."""
    (kind,) = unpack_from("4s", data, 12)
    if kind not in _SIZES:
        raise InvalidImage("the WebP does not start with a picture")
    width, height = _SIZES[kind](data)
    exif = (
        data[start : start + length] for kind, start, length in _chunks(data) if kind == b"EXIF"
    )
    orientation = exif_orientation(next(exif, b""))
    return Header("webp", width, height, orientation)


def _lossy(data: bytes) -> tuple[int, int]:
    if data[23:26] != b"\x9d\x01\x2a":
        raise InvalidImage("the WebP has no key frame")
    width, height = unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _lossless(data: bytes) -> tuple[int, int]:
    signature, bits = unpack_from("<BI", data, 20)
    if signature != 0x2F:
        raise InvalidImage("the WebP has no lossless signature")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _extended(data: bytes) -> tuple[int, int]:
    low_width, high_width, low_height, high_height = unpack_from("<HBHB", data, 24)
    return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1


_SIZES = {b"VP8 ": _lossy, b"VP8L": _lossless, b"VP8X": _extended}


def trim(data: bytes) -> bytes:
    """As many bytes as RIFF announces; libwebp checks what is inside.

    OpenCV refuses fewer than 32 bytes, which a picture of one pixel can have.
    """
    end = unpack_from("<I", data, 4)[0] + 8
    if end > len(data):
        raise InvalidImage("the WebP is truncated")
    return data[:end].ljust(32, b"\0")
