"""GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""

from __future__ import annotations

from struct import unpack_from

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats.bounds import MAX_CHUNKS
from service.vision.formats.header import Header


def read_header(data: bytes) -> Header:
    """Size of the screen, which the first frame is drawn on."""
    return Header("gif", *unpack_from("<HH", data, 6))


def trim(data: bytes) -> bytes:
    """The file up to the end of its first frame, closed by a trailer.

    A background colour beyond the palette, which browsers ignore and OpenCV refuses, becomes 0.
    """
    colors = _palette(data[10])
    end = _first_frame(data, 13 + 3 * colors)
    background = data[11] if data[11] < colors else 0
    return b"".join((data[:11], bytes([background]), data[12:end], b";"))


def _palette(flags: int) -> int:
    return 2 << (flags & 7) if flags & 0x80 else 0


def _first_frame(data: bytes, at: int) -> int:
    """Where the first frame ends."""
    left = MAX_CHUNKS
    while data[at] == 0x21:  # an extension: its label, then blocks
        at, left = _blocks(data, at + 2, left)
    if data[at] != 0x2C:
        raise InvalidImage("the GIF has no frame")
    # Separator, place, size and flags are 10 bytes; palette; one byte of LZW code size; blocks.
    return _blocks(data, at + 11 + 3 * _palette(data[at + 9]), left)[0]


def _blocks(data: bytes, at: int, left: int) -> tuple[int, int]:
    """Where a chain of blocks ends, and how many of those that are allowed are left."""
    for visited in range(left):
        length = data[at]
        at += length + 1
        if not length:
            return at, left - visited - 1
    raise UnsupportedMedia(f"GIF of more than {MAX_CHUNKS} blocks before its second frame")
