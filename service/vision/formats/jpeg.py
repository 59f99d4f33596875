"""JPEG: ITU-T T.81, https://www.w3.org/Graphics/JPEG/itu-t81.pdf."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from struct import unpack_from

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats.header import Header
from service.vision.formats.tiff import exif_orientation

_MARKER = re.compile(rb"\xff([^\x00\xff])")  # skips fill bytes and garbage, as libjpeg does
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOF, _PROGRESSIVE, _EOI, _SOS, _APP1 = range(0xC0, 0xC3), 0xC2, 0xD9, 0xDA, 0xE1
_OTHER_SOF = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
_ALONE = {0x01, *range(0xD0, 0xD9)}
_MAX_SEGMENTS = 4096  # a camera file has some tens; the bound keeps 4-byte segments cheap
# Progressive files have about ten. Each costs a pass over all blocks, whatever its length: 172 kB
# of 1,000 scans over 49 megapixels took 11 s.
_MAX_SCANS = 64


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment's payload, up to and including the first scan's."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None or match[1][0] == _EOI:
            return
        marker, at = match[1][0], match.end()
        if marker in _ALONE:
            continue
        (length,) = unpack_from(">H", data, at)
        yield marker, at + 2, at + length
        if marker == _SOS:
            return
        at += max(length, 2)


def read_header(data: bytes) -> Header:
    """Size from the frame header, orientation from the first EXIF."""
    orientation: int | None = None
    size: tuple[int, int] | None = None
    for marker, start, end in _segments(data):
        if marker == _APP1 and data.startswith(b"Exif\0\0", start) and orientation is None:
            orientation = exif_orientation(data[start:end])
        elif marker in _OTHER_SOF:
            raise UnsupportedMedia("lossless, hierarchical and arithmetic JPEG are not supported")
        elif marker in _SOF:
            size = _size(data, start)
    if size is None:
        raise InvalidImage("the JPEG has no frame header")
    return Header("jpeg", *size, orientation or 1)


def _size(data: bytes, start: int) -> tuple[int, int]:
    precision, height, width, components = unpack_from(">BHHB", data, start)
    if precision != 8 or components not in (1, 3, 4):
        raise UnsupportedMedia(f"JPEG of {components} components with {precision} bits")
    return width, height


def trim(data: bytes) -> bytes:
    """The file, with an end marker after its first scan's start and every scan that it needs.

    A thumbnail has an end marker of its own, but before that. The search is from the end:
    at once in most files, and past whatever a camera appended to others. In coded data each FF is
    followed by 00 or a restart marker, so the marker cannot be there by chance.
    """
    starts: dict[int, int] = {}
    for marker, start, _ in _segments(data):
        starts.setdefault(marker, start)
    scan = starts.get(_SOS, -1)
    if scan < 0 or data.rfind(b"\xff\xd9", scan) < 0:
        raise InvalidImage("the JPEG is truncated: it has no end marker")
    # In most files one scan has all components and gives them whole: libjpeg then reads no other.
    # It goes by their number; their ids may repeat.
    frame = next(marker for marker in starts if marker in _SOF)
    if data[scan] == data[starts[frame] + 5] and _is_complete(data, starts, [scan]):
        return data
    scans = list(islice(_scans(data, scan), _MAX_SCANS + 1))
    if len(scans) > _MAX_SCANS:
        raise UnsupportedMedia(f"JPEG of more than {_MAX_SCANS} scans")
    if not _is_complete(data, starts, scans):
        raise InvalidImage("the JPEG is truncated: a part of its picture has no scan")
    return data


def _scan_start(data: bytes) -> int:
    """Where the payload of the first scan header starts, or -1."""
    return next((start for marker, start, _ in _segments(data) if marker == _SOS), -1)


def _scans(data: bytes, at: int) -> Iterator[int]:
    """Where the header's payload of each scan that libjpeg would read starts, from the first on.

    As libjpeg does, it takes no length of a marker below C0 (jdmarker.c, jpeg_resync_to_restart).
    """
    yield at
    for _ in range(_MAX_SEGMENTS):
        match = _SCAN_END.search(data, at)
        if match is None or match[0][1] == _EOI:
            return
        marker, at = match[0][1], match.end()
        if marker == _SOS:
            yield at + 2
        elif marker >= _SOF[0] and marker not in _ALONE:
            at += unpack_from(">H", data, at)[0]
    raise UnsupportedMedia(f"JPEG of more than {_MAX_SEGMENTS} segments")


def scan_end(data: bytes) -> int:
    """Where the coded data of the first scan ends: at a marker that is no restart."""
    match = _SCAN_END.search(data, _scan_start(data))
    return match.start() if match else len(data)


def _is_complete(data: bytes, starts: Mapping[int, int], scans: Sequence[int]) -> bool:
    """Whether each coefficient of each component has a scan that gives it to its last bit.

    Only a progressive file (T.81, annex G) has scans that give less. A cut one lacks the later of
    them, and a decoder shows the rest as a blurred picture.
    """
    marker = next(marker for marker in starts if marker in _SOF)
    start = starts[marker]
    components = set(data[start + 6 : start + 6 + 3 * data[start + 5] : 3])
    due = dict.fromkeys(components, (1 << 64) - 1)  # a bit for each coefficient
    for at in scans:
        end = at + 1 + 2 * data[at]
        first, last, bits = unpack_from("3B", data, end) if marker == _PROGRESSIVE else (0, 63, 0)
        if bits & 15 == 0:
            given = (1 << (last + 1)) - (1 << first) if first <= last else 0
            for component in components & set(data[at + 1 : end : 2]):
                due[component] &= ~given
    return not any(due.values())
