"""Image bytes -> what their header says, and the part of them that the decoder is to see.

One section per format, each of two pure functions that allocate no pixel:

- `_<format>_header(data)` reads size, depth and orientation. It wants no more of the file than
  the header, so that a cut-off bomb is still known for a bomb.
- `_<format>_body(data)` finds the first picture complete, or raises `InvalidImage`, and returns
  the bytes to decode: no later frame, no metadata that a decoder would trip over.

`FORMATS` at the end is the table of them. What is checked here is what OpenCV 4.14 does not
check by itself, or checks only after the allocation.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from struct import unpack_from
from typing import NamedTuple, TypeVar

from service.errors import InvalidImage, UnsupportedMedia

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an image say of it."""

    format: str
    """jpeg, png, gif, webp, bmp, tiff or avif: by the bytes, whatever the sender calls it."""
    width: int
    """As stored, before the orientation is undone; pixels."""
    height: int
    orientation: int = 1
    """EXIF orientation 1-8: how the stored picture must be turned to stand upright."""
    depth: int = 8
    """Bits per sample, 1 to 16."""
    premultiplied: bool = False
    """The decoder hands out colours that were multiplied by their alpha."""


class Format(NamedTuple):
    """How to know, read and trim one kind of image."""

    name: str
    signature: re.Pattern[bytes]
    header: Callable[[bytes], Header]
    body: Callable[[bytes], bytes]


def sniff(data: bytes) -> Format:
    """The format that the first bytes name.

    Raises:
        UnsupportedMedia: they name none of `FORMATS`.
    """
    for form in FORMATS:
        if form.signature.match(data):
            return form
    raise UnsupportedMedia("not a JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF image")


def read_header(data: bytes) -> Header:
    """Read size, depth and orientation from the header alone.

    Raises:
        UnsupportedMedia: not a format, or a variant of a format, that we decode.
        InvalidImage: the header is cut off or contradicts itself.
    """
    return _guarded(sniff(data).header, data)


def trim(data: bytes) -> bytes:
    """The bytes that the decoder needs for the first picture, which is found complete.

    Raises:
        UnsupportedMedia: not a format that we decode.
        InvalidImage: the picture is truncated.
    """
    return _guarded(sniff(data).body, data)


def _guarded(read: Callable[[bytes], T], data: bytes) -> T:
    try:
        return read(data)
    except (struct.error, LookupError) as error:
        raise InvalidImage("the image is truncated") from error


_MAX_BLOCK = 1 << 22  # pixels; a strip or tile may be larger than a small picture, not endless


# TIFF's directory, which EXIF shares ---------------------------------------------------------

_ORIENTATION = 274
_INTEGERS = {1: "B", 3: "H", 4: "I"}


class _Entry(NamedTuple):
    at: int
    """Where the (first) value stands in the file."""
    code: str
    """Its type, as `struct` writes it."""
    values: tuple[int, ...]


def _directory(block: bytes) -> tuple[str, dict[int, _Entry]]:
    """Byte order and integer tags of the first directory; of a tag given twice the first counts.

    TIFF 6.0, section 2: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
    """
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


def _exif_orientation(block: bytes) -> int:
    """Orientation of an EXIF block; 1 when it is missing or broken, as every viewer takes it."""
    try:
        _, tags = _directory(block.removeprefix(b"Exif\0\0"))
        return _orientation(tags)
    except (struct.error, KeyError, IndexError):
        return 1


def _orientation(tags: dict[int, _Entry]) -> int:
    values = tags[_ORIENTATION].values if _ORIENTATION in tags else ()
    return values[0] if values and 1 <= values[0] <= 8 else 1


# JPEG ----------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff([^\x00\xff])")  # skips fill bytes and garbage, as libjpeg does
_SCAN = re.compile(rb"\xff\xda")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOF, _EOI, _SOS, _APP1 = range(0xC0, 0xC3), 0xD9, 0xDA, 0xE1
_OTHER_SOF = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
_ALONE = {0x01, *range(0xD0, 0xD9)}
_MAX_SEGMENTS = 4096  # a camera file has some tens; the bound keeps 4-byte segments cheap


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
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


def _jpeg_header(data: bytes) -> Header:
    orientation = 1
    size: tuple[int, int] | None = None
    for marker, start, end in _jpeg_segments(data):
        if marker == _APP1 and data.startswith(b"Exif\0\0", start) and orientation == 1:
            orientation = _exif_orientation(data[start:end])
        elif marker in _OTHER_SOF:
            raise UnsupportedMedia("lossless, hierarchical and arithmetic JPEG are not supported")
        elif marker in _SOF:
            size = _jpeg_size(data, start)
    if size is None:
        raise InvalidImage("the JPEG has no frame header")
    return Header("jpeg", *size, orientation)


def _jpeg_size(data: bytes, start: int) -> tuple[int, int]:
    precision, height, width, components = unpack_from(">BHHB", data, start)
    if precision != 8 or components not in (1, 3, 4):
        raise UnsupportedMedia(f"JPEG of {components} components with {precision} bits")
    return width, height


def _jpeg_body(data: bytes) -> bytes:
    """An end marker after the first scan's start: a thumbnail has its own, but before it.

    Found from the end: at once in most files, and past whatever a camera appended to others. In
    coded data each FF is followed by 00 or a restart marker, so it cannot be there by chance.
    """
    scan = scan_start(data)
    if scan < 0 or data.rfind(b"\xff\xd9", scan) < 0:
        raise InvalidImage("the JPEG is truncated: it has no end marker")
    if not _jpeg_components(data) <= _jpeg_scanned(data, scan):
        raise InvalidImage("the JPEG is truncated: a colour component has no scan")
    return data


def scan_start(data: bytes) -> int:
    """Where the payload of a JPEG's first scan header starts, or -1."""
    return next((start for marker, start, _ in _jpeg_segments(data) if marker == _SOS), -1)


def scan_end(data: bytes) -> int:
    """Where the coded data of a JPEG's first scan ends: at a marker that is no restart."""
    match = _SCAN_END.search(data, scan_start(data))
    return match.start() if match else len(data)


def _jpeg_components(data: bytes) -> set[int]:
    start = next(start for marker, start, _ in _jpeg_segments(data) if marker in _SOF)
    return set(data[start + 6 : start + 6 + 3 * data[start + 5] : 3])


def _jpeg_scanned(data: bytes, scan: int) -> set[int]:
    """Components that have a scan; nearly always the first scan has them all."""
    seen: set[int] = set()
    wanted = _jpeg_components(data)
    for match in islice(_SCAN.finditer(data, scan - 4), _MAX_SEGMENTS):
        at = match.end() + 2
        seen |= set(data[at + 1 : at + 1 + 2 * data[at] : 2])
        if wanted <= seen:
            break
    return seen


# PNG -----------------------------------------------------------------------------------------

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_MAX_CHUNKS = 100_000  # 20 MB in chunks of 8 kB, as libpng writes them, are 2,500


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end (length and CRC included) of each chunk, as far as the bytes go."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            return
        length, kind = unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + length
        if kind == b"IEND":
            return
        at += 12 + length


def _png_header(data: bytes) -> Header:
    length, kind, width, height, depth = unpack_from(">I4sIIB", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise InvalidImage("the PNG does not start with its header")
    orientation = 1
    for kind, start, end in _png_chunks(data):
        if kind == b"eXIf":
            orientation = _exif_orientation(data[start + 8 : end - 4])
    return Header("png", width, height, orientation, depth=max(depth, 8))


def _png_body(data: bytes) -> bytes:
    """The critical chunks and transparency: an APNG's default image, and no metadata.

    libpng checks the CRCs and that there are as many rows as the header says.
    """
    parts = [_PNG]
    kind = b""
    for kind, start, end in _png_chunks(data):
        if end > len(data):
            raise InvalidImage("the PNG is truncated")
        if kind in _PNG_NEEDED:
            parts.append(data[start:end])
    if kind != b"IEND":
        raise InvalidImage("the PNG is truncated: it has no end chunk")
    return b"".join(parts)


# GIF -----------------------------------------------------------------------------------------


def _gif_header(data: bytes) -> Header:
    return Header("gif", *unpack_from("<HH", data, 6))


def _gif_body(data: bytes) -> bytes:
    """The file up to the end of its first frame, closed by a trailer.

    A background colour beyond the palette, which browsers ignore and OpenCV refuses, becomes 0.
    """
    colors = _gif_palette(data[10])
    end = _gif_first_frame(data, 13 + 3 * colors)
    background = data[11] if data[11] < colors else 0
    return b"".join((data[:11], bytes([background]), data[12:end], b";"))


def _gif_palette(flags: int) -> int:
    return 2 << (flags & 7) if flags & 0x80 else 0


def _gif_first_frame(data: bytes, at: int) -> int:
    """Where the first frame ends. https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""
    while data[at] == 0x21:  # an extension: its label, then blocks
        at = _gif_blocks(data, at + 2)
    if data[at] != 0x2C:
        raise InvalidImage("the GIF has no frame")
    # Separator, place, size and flags are 10 bytes; palette; one byte of LZW code size; blocks.
    return _gif_blocks(data, at + 11 + 3 * _gif_palette(data[at + 9]))


def _gif_blocks(data: bytes, at: int) -> int:
    """Where a chain of blocks ends; an `IndexError` says that the file ends before."""
    while length := data[at]:
        at += length + 1
    return at + 1


# WebP ----------------------------------------------------------------------------------------


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and length of each chunk's payload, as far as the bytes go."""
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        kind, length = unpack_from("<4sI", data, at)
        yield kind, at + 8, length
        at += 8 + length + (length & 1)


def _webp_header(data: bytes) -> Header:
    (kind,) = unpack_from("4s", data, 12)
    if kind not in _WEBP_SIZES:
        raise InvalidImage("the WebP does not start with a picture")
    width, height = _WEBP_SIZES[kind](data)
    orientation = 1
    for kind, start, length in _webp_chunks(data):
        if kind == b"EXIF":
            orientation = _exif_orientation(data[start : start + length])
    return Header("webp", width, height, orientation)


def _webp_lossy(data: bytes) -> tuple[int, int]:
    if data[23:26] != b"\x9d\x01\x2a":
        raise InvalidImage("the WebP has no key frame")
    width, height = unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _webp_lossless(data: bytes) -> tuple[int, int]:
    signature, bits = unpack_from("<BI", data, 20)
    if signature != 0x2F:
        raise InvalidImage("the WebP has no lossless signature")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _webp_extended(data: bytes) -> tuple[int, int]:
    low_width, high_width, low_height, high_height = unpack_from("<HBHB", data, 24)
    return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1


_WEBP_SIZES = {b"VP8 ": _webp_lossy, b"VP8L": _webp_lossless, b"VP8X": _webp_extended}


def _webp_body(data: bytes) -> bytes:
    """As many bytes as RIFF announces; libwebp checks what is inside.

    OpenCV refuses fewer than 32 bytes, which a picture of one pixel can have.
    """
    end = unpack_from("<I", data, 4)[0] + 8
    if end > len(data):
        raise InvalidImage("the WebP is truncated")
    return data[:end].ljust(32, b"\0")


# BMP -----------------------------------------------------------------------------------------

_BMP_RAW, _BMP_RLE8, _BMP_RLE4, _BMP_MASKS = range(4)
_BMP_FORMS = {
    *((bits, _BMP_RAW) for bits in (1, 4, 8, 16, 24, 32)),
    *((4, _BMP_RLE4), (8, _BMP_RLE8), (16, _BMP_MASKS), (32, _BMP_MASKS)),
}


def _bmp_form(data: bytes) -> tuple[int, int, int, int]:
    """Width, height (negative: top row first), bits per pixel, compression."""
    (size,) = unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = unpack_from("<HHHH", data, 18)
        return width, height, bits, _BMP_RAW
    if size < 40:
        raise UnsupportedMedia("BMP with an OS/2 header")
    width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    return width, height, bits, compression


def _bmp_header(data: bytes) -> Header:
    width, height, bits, compression = _bmp_form(data)
    if (bits, compression) not in _BMP_FORMS:
        raise UnsupportedMedia(f"BMP of {bits} bits with compression {compression}")
    if (bits, compression) == (32, _BMP_MASKS) and not _bmp_masks_are_usual(data):
        raise UnsupportedMedia("BMP with unusual colour masks")
    return Header("bmp", width, abs(height))


def _bmp_masks_are_usual(data: bytes) -> bool:
    """OpenCV heeds the masks of later headers (of 56 bytes and more) only."""
    masks = unpack_from("<III", data, 54)
    return unpack_from("<I", data, 14)[0] >= 56 or masks == (0xFF0000, 0xFF00, 0xFF)


def _bmp_body(data: bytes) -> bytes:
    width, height, bits, compression = _bmp_form(data)
    (offset,) = unpack_from("<I", data, 10)
    if compression in (_BMP_RLE4, _BMP_RLE8):
        (size,) = unpack_from("<I", data, 34)
    else:
        size = (width * bits + 31) // 32 * 4 * abs(height)
    if offset + size > len(data):
        raise InvalidImage("the BMP is truncated")
    return data


# TIFF ----------------------------------------------------------------------------------------

_TIFF_DEPTHS = {1, 4, 8, 10, 12, 14, 16}
_TIFF_PALETTE, _TIFF_UNSIGNED, _TIFF_UNCOMPRESSED, _TIFF_PLANES, _TIFF_STRAIGHT_ALPHA = (
    3,
    1,
    1,
    2,
    2,
)


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
        compression=value(259, _TIFF_UNCOMPRESSED),
        photometric=value(262, 1),
        planar=value(284, 1),
        sample_format=value(339, _TIFF_UNSIGNED),
        extra=value(338, 0),
        block=(value(322, 0), value(323, 0)) if tiled else strip,
        offsets=values(324 if tiled else 273),
        counts=values(325 if tiled else 279),
    )


def _tiff_header(data: bytes) -> Header:
    if data[2:4] in (b"+\0", b"\0+"):
        raise UnsupportedMedia("BigTIFF")
    _, tags = _directory(data)
    tiff = _tiff(tags)
    depth = tiff.depths[0]
    if tiff.sample_format != _TIFF_UNSIGNED:
        raise UnsupportedMedia("TIFF with signed or floating-point samples")
    if set(tiff.depths) != {depth} or depth not in _TIFF_DEPTHS:
        raise UnsupportedMedia(f"TIFF with samples of {tiff.depths} bits")
    if depth == 4 and tiff.photometric != _TIFF_PALETTE:
        raise UnsupportedMedia("TIFF with 16 shades of grey")
    # libtiff's conversion of 8-bit samples multiplies alpha in; OpenCV leaves 16-bit ones alone.
    premultiplied = depth <= 8 or tiff.extra != _TIFF_STRAIGHT_ALPHA
    return Header("tiff", tiff.width, tiff.height, _orientation(tags), max(depth, 8), premultiplied)


def _tiff_body(data: bytes) -> bytes:
    order, tags = _directory(data)
    tiff = _tiff(tags)
    _check_tiff_blocks(tiff)
    if not tiff.offsets or len(tiff.offsets) != len(tiff.counts):
        raise InvalidImage("the TIFF does not say where its picture is")
    if max(map(sum, zip(tiff.offsets, tiff.counts, strict=True))) > len(data):
        raise InvalidImage("the TIFF is truncated")
    return _tiff_unturned(data, order, tags)


def _check_tiff_blocks(tiff: _Tiff) -> None:
    width, height = tiff.block
    if not 0 < width * height <= max(tiff.width * tiff.height, _MAX_BLOCK):
        raise InvalidImage(f"the TIFF has strips or tiles of {width} x {height} pixels")
    blocks = -(-tiff.width // width) * -(-tiff.height // height)
    if tiff.planar == _TIFF_PLANES:
        blocks *= tiff.samples
    if len(tiff.offsets) < blocks:
        raise InvalidImage("the TIFF is truncated: it has too few strips or tiles")
    row_bytes = (tiff.width * tiff.samples * tiff.depths[0] + 7) // 8
    if tiff.compression == _TIFF_UNCOMPRESSED and sum(tiff.counts) < row_bytes * tiff.height:
        raise InvalidImage("the TIFF is truncated: its strips or tiles are too short")


def _tiff_unturned(data: bytes, order: str, tags: dict[int, _Entry]) -> bytes:
    """The file with orientation 1: OpenCV would turn it, whatever flags say that it must not."""
    if _orientation(tags) == 1:
        return data
    entry = tags[_ORIENTATION]
    turned = bytearray(data)
    struct.pack_into(order + entry.code, turned, entry.at, 1)
    return bytes(turned)


# AVIF ----------------------------------------------------------------------------------------

_MAX_ITEMS = 1024  # and extents of one; a grid of 16,384 pixels in tiles of 512 has 1024

# Quarter turns against the clock, then mirror (0: top and bottom change places, 1: left and right).
_TURNS: dict[tuple[int, int | None], int] = {
    **{(0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6},
    **{(0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7},
    **{(0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5},
}


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each box's payload (ISO/IEC 14496-12, 4.2)."""
    for _ in range(_MAX_CHUNKS):
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


def _avif_header(data: bytes) -> Header:
    """Size, depth and turn of the primary item: its properties in `iprp` (ISO/IEC 23008-12)."""
    sizes = [unpack_from(">II", data, at + 4) for at in _avif_properties(data, b"ispe")]
    if len(sizes) != 1:
        raise InvalidImage("the AVIF does not state one size")
    depth = max((_av1_depth(data[at + 2]) for at in _avif_properties(data, b"av1C")), default=8)
    depth = max((data[at + 5] for at in _avif_properties(data, b"pixi")), default=depth)
    turn = next((data[at] & 3 for at in _avif_properties(data, b"irot")), 0)
    mirror = next((data[at] & 1 for at in _avif_properties(data, b"imir")), None)
    width, height = sizes[0]
    return Header("avif", width, height, _TURNS[turn, mirror], depth)


def _av1_depth(flags: int) -> int:
    """`high_bitdepth` and `twelve_bit` of AV1CodecConfigurationRecord."""
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _avif_properties(data: bytes, kind: bytes) -> list[int]:
    """Where the payloads of the primary item's properties of this kind start."""
    at, end = _box(data, b"meta", 0, len(data))
    pitm, _ = _box(data, b"pitm", at + 4, end)
    (primary,) = unpack_from(">I" if data[pitm] else ">H", data, pitm + 4)
    at, end = _box(data, b"iprp", at + 4, end)
    properties = list(_boxes(data, *_box(data, b"ipco", at, end)))
    indices = _avif_associations(data, _box(data, b"ipma", at, end)[0], primary)
    return [properties[i - 1][1] for i in indices if i > 0 and properties[i - 1][0] == kind]


def _avif_associations(data: bytes, at: int, item: int) -> list[int]:
    """One-based indices of an item's properties, from the `ipma` box."""
    (flags, count), at = unpack_from(">II", data, at), at + 8
    identity, index = ">I" if flags >> 24 else ">H", ">H" if flags & 1 else ">B"
    wide = struct.calcsize(index)
    for _ in range(min(count, _MAX_CHUNKS)):
        (found,), at = unpack_from(identity, data, at), at + struct.calcsize(identity)
        number, at = data[at], at + 1
        if found == item:
            # The highest bit says that the property is essential.
            mask = (1 << 8 * wide - 1) - 1
            return [unpack_from(index, data, at + wide * i)[0] & mask for i in range(number)]
        at += wide * number
    return []


def _avif_body(data: bytes) -> bytes:
    """The file, all boxes inside it, with coded pictures as large as it says.

    libavif would allocate and scale a coded picture of any size up to 268 megapixels: 64 bytes of
    AV1 do for that. Under the major brand of sequences it would take the first frame of a track,
    whose size stands elsewhere, instead of the primary item.
    """
    if max(stop for _, _, stop in _boxes(data, 0, len(data))) > len(data):
        raise InvalidImage("the AVIF is truncated")
    header = _avif_header(data)
    primary, items = _avif_coded(data)
    for item, payload in items.items():
        for width, height in _av1_sizes(payload):
            fits = width * height <= max(header.width * header.height, _MAX_BLOCK)
            if not fits or (item == primary and (width, height) != (header.width, header.height)):
                raise InvalidImage("the AVIF's picture has another size than its header says")
    return data[:8] + b"avif" + data[12:]


def _avif_coded(data: bytes) -> tuple[int, dict[int, bytes]]:
    """The primary item, and the AV1 data of each item that has any."""
    at, end = _box(data, b"meta", 0, len(data))
    pitm, _ = _box(data, b"pitm", at + 4, end)
    (primary,) = unpack_from(">I" if data[pitm] else ">H", data, pitm + 4)
    coded = _avif_av1_items(data, *_box(data, b"iinf", at + 4, end))
    places = _avif_places(data, *_box(data, b"iloc", at + 4, end))
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


def _avif_av1_items(data: bytes, at: int, end: int) -> set[int]:
    found: set[int] = set()
    for kind, start, _ in _boxes(data, at + (8 if data[at] else 6), end):
        if kind == b"infe":
            item, _, form = unpack_from(">IH4s" if data[start] > 2 else ">HH4s", data, start + 4)
            found |= {item} if form == b"av01" else set()
    return found


def _avif_places(
    data: bytes, at: int, end: int
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Item, construction method, and offset and length of each extent, from the `iloc` box."""
    take = _bits(data[at:end])
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


def _bits(data: bytes) -> Callable[[int], int]:
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


def _av1_sizes(payload: bytes) -> Iterator[tuple[int, int]]:
    """Width and height from every sequence header of AV1 data.

    https://aomediacodec.github.io/av1-spec/av1-spec.pdf, 5.3 to 5.5.
    """
    at = 0
    for _ in range(_MAX_CHUNKS):
        if at >= len(payload):
            return
        head, at = payload[at], at + (2 if payload[at] & 4 else 1)
        size = len(payload) - at
        if head & 2:
            size, at = _leb128(payload, at)
        if head >> 3 & 15 == 1:
            yield _av1_size(payload[at : at + size])
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    value = 0
    for i in range(8):
        value |= (data[at + i] & 0x7F) << 7 * i
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise InvalidImage("the AVIF has an endless number")


def _av1_size(sequence: bytes) -> tuple[int, int]:
    take = _bits(sequence)
    take(4)  # profile, still picture
    if take(1):  # reduced header
        take(5)  # level
    elif take(1):
        raise UnsupportedMedia("AVIF with timing information in its AV1 data")
    else:
        delays = take(1)
        for _ in range(take(5) + 1):
            _av1_operating_point(take, delays)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1


def _av1_operating_point(take: Callable[[int], int], delays: int) -> None:
    take(12)
    if take(5) > 7:
        take(1)  # tier, of levels from 4.0 on
    if delays and take(1):
        take(4)


FORMATS = (
    Format("jpeg", re.compile(rb"\xff\xd8\xff"), _jpeg_header, _jpeg_body),
    Format("png", re.compile(re.escape(_PNG)), _png_header, _png_body),
    Format("webp", re.compile(rb"RIFF....WEBP", re.DOTALL), _webp_header, _webp_body),
    Format("gif", re.compile(rb"GIF8[79]a"), _gif_header, _gif_body),
    Format("bmp", re.compile(rb"BM"), _bmp_header, _bmp_body),
    Format("tiff", re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff_header, _tiff_body),
    Format("avif", re.compile(rb"....ftyp.{0,60}?avi[fs]", re.DOTALL), _avif_header, _avif_body),
)
