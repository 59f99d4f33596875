"""The units and the sequence header of AV1, which AVIF wraps.

https://aomediacodec.github.io/av1-spec/av1-spec.pdf, 5.3 to 5.5
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from service.errors import InvalidImage, UnsupportedMedia

SEQUENCE_HEADER = 1


def bits(data: bytes) -> Callable[[int], int]:
    """A reader of big-endian bit fields."""
    at = 0

    def take(count: int) -> int:
        nonlocal at
        first, at = at, at + count
        if at > 8 * len(data):
            raise struct.error("fewer bits than announced")
        part = int.from_bytes(data[first // 8 : (at + 7) // 8], "big")
        return part >> (-at % 8) & ((1 << count) - 1)

    return take


def units(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each open bitstream unit (OBU)."""
    at = 0
    while at < len(payload):
        head, at = payload[at], at + (2 if payload[at] & 4 else 1)
        size = len(payload) - at
        if head & 2:
            size, at = _leb128(payload, at)
        yield head >> 3 & 15, payload[at : at + size]
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    value = 0
    for i in range(8):
        value |= (data[at + i] & 0x7F) << 7 * i
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise InvalidImage("the AVIF has an endless number")


def size(sequence: bytes) -> tuple[int, int]:
    """Width and height from a sequence header."""
    take = bits(sequence)
    take(4)  # profile, still picture
    if take(1):  # reduced header
        take(5)  # level
    elif take(1):
        raise UnsupportedMedia("AVIF with timing information in its AV1 data")
    else:
        delays = take(1)
        for _ in range(take(5) + 1):
            _operating_point(take, delays)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1


def _operating_point(take: Callable[[int], int], delays: int) -> None:
    take(12)
    if take(5) > 7:
        take(1)  # tier, of levels from 4.0 on
    if delays and take(1):
        take(4)
