"""BMP: https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-storage."""

from __future__ import annotations

from struct import unpack_from

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats.header import Header

_RAW, _RLE8, _RLE4, _MASKS = range(4)
_FORMS = {
    *((bits, _RAW) for bits in (1, 4, 8, 16, 24, 32)),
    *((4, _RLE4), (8, _RLE8), (16, _MASKS), (32, _MASKS)),
}


def _form(data: bytes) -> tuple[int, int, int, int]:
    """Width, height (negative: top row first), bits per pixel, compression."""
    (size,) = unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = unpack_from("<HHHH", data, 18)
        return width, height, bits, _RAW
    if size < 40:
        raise UnsupportedMedia("BMP with an OS/2 header")
    width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    return width, height, bits, compression


def read_header(data: bytes) -> Header:
    """Size, of a form that OpenCV reads rightly."""
    width, height, bits, compression = _form(data)
    if (bits, compression) not in _FORMS:
        raise UnsupportedMedia(f"BMP of {bits} bits with compression {compression}")
    if (bits, compression) == (32, _MASKS) and not _masks_are_usual(data):
        raise UnsupportedMedia("BMP with unusual colour masks")
    return Header("bmp", width, abs(height))


def _masks_are_usual(data: bytes) -> bool:
    """OpenCV heeds the masks of later headers (of 56 bytes and more) only."""
    masks = unpack_from("<III", data, 54)
    return unpack_from("<I", data, 14)[0] >= 56 or masks == (0xFF0000, 0xFF00, 0xFF)


def trim(data: bytes) -> bytes:
    """The file, with as many bytes as its rows need."""
    width, height, bits, compression = _form(data)
    (offset,) = unpack_from("<I", data, 10)
    if compression in (_RLE4, _RLE8):
        (size,) = unpack_from("<I", data, 34)
    else:
        size = (width * bits + 31) // 32 * 4 * abs(height)
    if offset + size > len(data):
        raise InvalidImage("the BMP is truncated")
    return data
