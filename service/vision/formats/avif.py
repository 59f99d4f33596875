"""AVIF: boxes (ISO/IEC 14496-12) that hold a picture's items and properties (23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from struct import unpack_from

from service.errors import InvalidImage
from service.vision.formats import av1
from service.vision.formats.bounds import MAX_BLOCK, MAX_CHUNKS
from service.vision.formats.header import Header

_MAX_ITEMS = 1024  # and extents of one; a grid of 16,384 pixels in tiles of 512 has 1024

# Quarter turns against the clock, then mirror (0: top and bottom change places, 1: left and right).
_TURNS: dict[tuple[int, int | None], int] = {
    **{(0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6},
    **{(0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7},
    **{(0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5},
}


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each box's payload (ISO/IEC 14496-12, 4.2)."""
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        size, kind = unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = unpack_from(">Q", data, start)
            start += 8
        stop = at + size if size else end
        if stop < start:
            raise InvalidImage("the AVIF has a box of no length")
        yield kind, start, stop
        at = stop


def _box(data: bytes, kind: bytes, at: int, end: int) -> tuple[int, int]:
    for found, start, stop in _boxes(data, at, end):
        if found == kind:
            return start, stop
    raise InvalidImage(f"the AVIF has no {kind.decode()}")


def read_header(data: bytes) -> Header:
    """Size, depth and turn of the primary item: its properties in the `iprp` box."""
    sizes = [unpack_from(">II", data, at + 4) for at in _properties(data, b"ispe")]
    if len(sizes) != 1:
        raise InvalidImage("the AVIF does not state one size")
    depth = max((_av1_depth(data[at + 2]) for at in _properties(data, b"av1C")), default=8)
    depth = max((data[at + 5] for at in _properties(data, b"pixi")), default=depth)
    turn = next((data[at] & 3 for at in _properties(data, b"irot")), 0)
    mirror = next((data[at] & 1 for at in _properties(data, b"imir")), None)
    width, height = sizes[0]
    return Header("avif", width, height, _TURNS[turn, mirror], depth)


def _av1_depth(flags: int) -> int:
    """`high_bitdepth` and `twelve_bit` of AV1CodecConfigurationRecord."""
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _properties(data: bytes, kind: bytes) -> list[int]:
    """Where the payloads of the primary item's properties of this kind start."""
    at, end = _box(data, b"meta", 0, len(data))
    primary = _primary(data, at, end)
    at, end = _box(data, b"iprp", at + 4, end)
    properties = list(_boxes(data, *_box(data, b"ipco", at, end)))
    indices = _associations(data, _box(data, b"ipma", at, end)[0], primary)
    return [properties[i - 1][1] for i in indices if i > 0 and properties[i - 1][0] == kind]


def _primary(data: bytes, at: int, end: int) -> int:
    """Identity of the primary item, from the `pitm` box."""
    at, _ = _box(data, b"pitm", at + 4, end)
    item: int = unpack_from(">I" if data[at] else ">H", data, at + 4)[0]
    return item


def _associations(data: bytes, at: int, item: int) -> list[int]:
    """One-based indices of an item's properties, from the `ipma` box."""
    (flags, count), at = unpack_from(">II", data, at), at + 8
    identity, index = ">I" if flags >> 24 else ">H", ">H" if flags & 1 else ">B"
    wide = struct.calcsize(index)
    for _ in range(min(count, MAX_CHUNKS)):
        (found,), at = unpack_from(identity, data, at), at + struct.calcsize(identity)
        number, at = data[at], at + 1
        if found == item:
            # The highest bit says that the property is essential.
            mask = (1 << 8 * wide - 1) - 1
            return [unpack_from(index, data, at + wide * i)[0] & mask for i in range(number)]
        at += wide * number
    return []


def trim(data: bytes) -> bytes:
    """The file, all boxes inside it, with coded pictures as large as it says.

    libavif would allocate and scale a coded picture of any size up to 268 megapixels: 64 bytes of
    AV1 do for that. Under the major brand of sequences it would take the first frame of a track,
    whose size stands elsewhere, instead of the primary item.
    """
    if max(stop for _, _, stop in _boxes(data, 0, len(data))) > len(data):
        raise InvalidImage("the AVIF is truncated")
    header = read_header(data)
    primary, items = _coded(data)
    for item, payload in items.items():
        for width, height in av1.sizes(payload):
            fits = width * height <= max(header.width * header.height, MAX_BLOCK)
            if not fits or (item == primary and (width, height) != (header.width, header.height)):
                raise InvalidImage("the AVIF's picture has another size than its header says")
    return data[:8] + b"avif" + data[12:]


def _coded(data: bytes) -> tuple[int, dict[int, bytes]]:
    """The primary item, and the AV1 data of each item that has any."""
    at, end = _box(data, b"meta", 0, len(data))
    primary = _primary(data, at, end)
    coded = _av1_items(data, *_box(data, b"iinf", at + 4, end))
    places = _places(data, *_box(data, b"iloc", at + 4, end))
    idat = next((start for kind, start, _ in _boxes(data, at + 4, end) if kind == b"idat"), 0)
    payloads: dict[int, bytes] = {}
    for item, method, extents in islice(places, _MAX_ITEMS):
        base = {0: 0, 1: idat}[method]
        parts = [data[base + o : base + o + n if n else None] for o, n in extents]
        if sum(map(len, parts)) + sum(map(len, payloads.values())) > len(data):
            raise InvalidImage("the AVIF has more coded data than bytes")
        if item in coded:
            payloads[item] = b"".join(parts)
    return primary, payloads


def _av1_items(data: bytes, at: int, end: int) -> set[int]:
    """Items that are AV1, from the `iinf` box."""
    found: set[int] = set()
    for kind, start, _ in _boxes(data, at + (8 if data[at] else 6), end):
        if kind == b"infe":
            item, _, form = unpack_from(">IH4s" if data[start] > 2 else ">HH4s", data, start + 4)
            found |= {item} if form == b"av01" else set()
    return found


def _places(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Item, construction method, and offset and length of each extent, from the `iloc` box."""
    take = av1.bits(data[at:end])
    version, _ = take(8), take(24)
    widths = [8 * take(4) for _ in range(4)]
    offset, length, base, index = widths[0], widths[1], widths[2], widths[3] if version else 0
    wide = 32 if version > 1 else 16
    for _ in range(take(wide)):
        item, method = take(wide), take(16) & 15 if version else 0
        start = (take(16), take(base))[1]  # behind a reference to another file, which is not
        extents = [
            (take(index), start + take(offset), take(length))
            for _ in range(min(take(16), _MAX_ITEMS))
        ]
        yield item, method, [(o, n) for _, o, n in extents]
