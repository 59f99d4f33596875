"""PNG and APNG: https://www.w3.org/TR/png-3."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from service.errors import InvalidImage
from service.vision.formats.bounds import MAX_CHUNKS
from service.vision.formats.header import Header
from service.vision.formats.tiff import exif_orientation

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end (length and CRC included) of each chunk, as far as the bytes go."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        length, kind = unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + length
        if kind == b"IEND":
            return
        at += 12 + length


def read_header(data: bytes) -> Header:
    """Size and depth from the first chunk, orientation from EXIF."""
    length, kind, width, height, depth = unpack_from(">I4sIIB", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise InvalidImage("the PNG does not start with its header")
    exif = (data[start + 8 : end - 4] for kind, start, end in _chunks(data) if kind == b"eXIf")
    orientation = exif_orientation(next(exif, b""))
    return Header("png", width, height, orientation, depth=max(depth, 8))


def trim(data: bytes) -> bytes:
    """The critical chunks and transparency: an APNG's default image, and no metadata.

    libpng checks the CRCs and that there are as many rows as the header says.
    """
    parts = [_SIGNATURE]
    kind = b""
    for kind, start, end in _chunks(data):
        if end > len(data):
            raise InvalidImage("the PNG is truncated")
        if kind in _NEEDED:
            parts.append(data[start:end])
    if kind != b"IEND":
        raise InvalidImage("the PNG is truncated: it has no end chunk")
    return b"".join(parts)
