"""AVIF: boxes (ISO/IEC 14496-12) that hold a picture's items and properties (23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from struct import unpack_from

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats import av1
from service.vision.formats.bounds import MAX_BLOCK, MAX_CHUNKS
from service.vision.formats.header import Header

# A grid of 16,384 pixels in tiles of 512 has 1024 and itself. Its tiles are of one extent each, of
# two or three units of AV1 data. An extent may be stated in no bytes at all.
_MAX_ITEMS = 2048
_MAX_EXTENTS = 4096
_MAX_UNITS = 16_384

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
        if stop > end:
            raise InvalidImage("the AVIF is truncated: a box reaches beyond what holds it")
        yield kind, start, stop
        at = stop
    raise UnsupportedMedia(f"AVIF of more than {MAX_CHUNKS} boxes")


def _box(data: bytes, kind: bytes, at: int, end: int) -> tuple[int, int]:
    for found, start, stop in _boxes(data, at, end):
        if found == kind:
            return start, stop
    raise InvalidImage(f"the AVIF has no {kind.decode()}")


def read_header(data: bytes) -> Header:
    """Size, depth and turn of the primary item: its properties in the `iprp` box."""
    properties = _properties(data)

    def places(kind: bytes) -> Iterator[int]:
        return (at for found, at in properties if found == kind)

    sizes = [unpack_from(">II", data, at + 4) for at in places(b"ispe")]
    if len(sizes) != 1:
        raise InvalidImage("the AVIF does not state one size")
    depth = max((_av1_depth(data[at + 2]) for at in places(b"av1C")), default=8)
    depth = max((data[at + 5] for at in places(b"pixi")), default=depth)
    turn = next((data[at] & 3 for at in places(b"irot")), 0)
    mirror = next((data[at] & 1 for at in places(b"imir")), None)
    width, height = sizes[0]
    return Header("avif", width, height, _TURNS[turn, mirror], depth)


def _av1_depth(flags: int) -> int:
    """`high_bitdepth` and `twelve_bit` of AV1CodecConfigurationRecord."""
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _properties(data: bytes) -> list[tuple[bytes, int]]:
    """Type and start of the payload of each property of the primary item."""
    at, end = _box(data, b"meta", 0, len(data))
    primary = _primary(data, at, end)
    at, end = _box(data, b"iprp", at + 4, end)
    indices = _associations(data, _box(data, b"ipma", at, end)[0], primary)
    boxes = enumerate(_boxes(data, *_box(data, b"ipco", at, end)), 1)
    wanted = {i: (kind, start) for i, (kind, start, _) in boxes if i in indices}
    return [wanted[i] for i in indices if i > 0]


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
    for _ in _boxes(data, 0, len(data)):
        pass  # it refuses one that is not all there
    header = read_header(data)
    primary, items = _coded(data)
    for item, width, height in _sizes(items):
        fits = width * height <= max(header.width * header.height, MAX_BLOCK)
        if not fits or (item == primary and (width, height) != (header.width, header.height)):
            raise InvalidImage("the AVIF's picture has another size than its header says")
    return data[:8] + b"avif" + data[12:]


def _sizes(items: dict[int, bytes]) -> Iterator[tuple[int, int, int]]:
    """Item, width and height from each sequence header of AV1 data."""
    units = ((item, *unit) for item, payload in items.items() for unit in av1.units(payload))
    for count, (item, kind, payload) in enumerate(units):
        if count == _MAX_UNITS:
            raise UnsupportedMedia(f"AVIF of more than {_MAX_UNITS} units of AV1 data")
        if kind == av1.SEQUENCE_HEADER:
            yield item, *av1.size(payload)


def _coded(data: bytes) -> tuple[int, dict[int, bytes]]:
    """The primary item, and the AV1 data of each item that has any."""
    at, end = _box(data, b"meta", 0, len(data))
    primary = _primary(data, at, end)
    coded = _av1_items(data, *_box(data, b"iinf", at + 4, end))
    places = _places(data, *_box(data, b"iloc", at + 4, end))
    idat = next((start for kind, start, _ in _boxes(data, at + 4, end) if kind == b"idat"), 0)
    payloads: dict[int, bytes] = {}
    left = len(data)
    for item, method, extents in places:
        if item in coded:
            base = {0: 0, 1: idat}[method]
            spans = [(base + o, base + o + n if n else len(data)) for o, n in extents]
            # Before any is copied: extents may lie over each other.
            left -= sum(stop - start for start, stop in spans)
            if left < 0 or any(stop < start for start, stop in spans):
                raise InvalidImage("the AVIF has more coded data than bytes")
            payloads[item] = b"".join(data[start:stop] for start, stop in spans)
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
    items, extents_left = take(wide), _MAX_EXTENTS
    if items > _MAX_ITEMS:
        raise UnsupportedMedia(f"AVIF of more than {_MAX_ITEMS} items")
    for _ in range(items):
        item, method = take(wide), take(16) & 15 if version else 0
        start = (take(16), take(base))[1]  # behind a reference to another file, which is not
        number = take(16)
        extents_left -= number
        if extents_left < 0:
            raise UnsupportedMedia(f"AVIF of more than {_MAX_EXTENTS} extents")
        extents = [(take(index), start + take(offset), take(length)) for _ in range(number)]
        yield item, method, [(o, n) for _, o, n in extents]
