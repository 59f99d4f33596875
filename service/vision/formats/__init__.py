"""Image bytes -> what their header says, and the part of them that the decoder is to see.

One module per format, each of two pure functions that allocate no pixel:

- `read_header(data)` reads size, depth and orientation. It wants no more of the file than the
  header, so that a cut-off bomb is still known for a bomb.
- `trim(data)` finds the first picture complete, or raises `InvalidImage`, and returns the bytes
  to decode: no later frame, no metadata that a decoder would trip over.

What is checked here is what OpenCV 4.14 does not check by itself, or checks only after the
allocation.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from service.errors import InvalidImage, UnsupportedMedia
from service.vision.formats import avif, bmp, gif, jpeg, png, tiff, webp
from service.vision.formats.header import Header

T = TypeVar("T")


class Format(NamedTuple):
    """How to know, read and trim one kind of image."""

    name: str
    signature: re.Pattern[bytes]
    read_header: Callable[[bytes], Header]
    trim: Callable[[bytes], bytes]


# BMP: "BM" alone would take text; the length of the header behind it fits in a byte.
FORMATS = (
    Format("jpeg", re.compile(rb"\xff\xd8\xff"), jpeg.read_header, jpeg.trim),
    Format("png", re.compile(rb"\x89PNG\r\n\x1a\n"), png.read_header, png.trim),
    Format("webp", re.compile(rb"RIFF....WEBP", re.DOTALL), webp.read_header, webp.trim),
    Format("gif", re.compile(rb"GIF8[79]a"), gif.read_header, gif.trim),
    Format("bmp", re.compile(rb"BM.{13}\0\0\0", re.DOTALL), bmp.read_header, bmp.trim),
    Format("tiff", re.compile(rb"II[*+]\0|MM\0[*+]"), tiff.read_header, tiff.trim),
    Format("avif", re.compile(rb"....ftyp.{0,60}?avi[fs]", re.DOTALL), avif.read_header, avif.trim),
)

UNSUPPORTED = {
    "HEIF (HEIC)": re.compile(rb"....ftyp(?:he[iv][cmsx]|mif1|msf1)", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
}
"""What a client may well send as an image, and what no decoder here takes."""


def sniff(data: bytes) -> Format:
    """The format that the first bytes name.

    Raises:
        UnsupportedMedia: they name one of `UNSUPPORTED`.
        InvalidImage: they name no image format.
    """
    for form in FORMATS:
        if form.signature.match(data):
            return form
    for name, signature in UNSUPPORTED.items():
        if signature.match(data):
            raise UnsupportedMedia(f"this server decodes no {name}")
    raise InvalidImage("not a JPEG, PNG, WebP, BMP, TIFF, GIF or AVIF image")


def read_header(data: bytes) -> Header:
    """Read size, depth and orientation from the header alone.

    Raises:
        UnsupportedMedia: a format, or a variant of one, that we know but do not decode.
        InvalidImage: no image, or its header is cut off or contradicts itself.
    """
    return _guarded(sniff(data).read_header, data)


def trim(data: bytes) -> bytes:
    """The bytes that the decoder needs for the first picture, which is found complete.

    Raises:
        UnsupportedMedia: a format, or a variant of one, that we know but do not decode.
        InvalidImage: no image, or a truncated one.
    """
    return _guarded(sniff(data).trim, data)


def _guarded(read: Callable[[bytes], T], data: bytes) -> T:
    try:
        return read(data)
    except (struct.error, LookupError) as error:
        raise InvalidImage("the image is truncated") from error
