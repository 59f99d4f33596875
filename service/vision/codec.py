"""bytes -> uint8 image: limits before any allocation, EXIF orientation undone.

OpenCV does the decoding; `service.vision.formats` reads what is needed before. A picture that is
not all there is refused, however much of it a lenient decoder would show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidImage, TooLarge, UnsupportedMedia
from service.types import Image, Pixels
from service.vision import formats
from service.vision.formats.header import Header
from service.vision.formats.jpeg import scan_end

__all__ = ["Header", "ImageLimits", "decode", "inspect"]

# A damaged upload is the client's news, not a line in our log. libjpeg and libpng write some
# warnings past this, straight to stderr; they hold no image content.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is decoded; each limit is itself allowed.

    An AVIF may have two fifths of `max_pixels`: libavif takes up to 40 bytes for one, other
    decoders up to 16.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384


def inspect(data: bytes, limits: ImageLimits) -> Header:
    """Read format, size and orientation from the header, and hold them against the limits.

    Allocates no pixel and wants no more of the file than its header.

    Raises:
        UnsupportedMedia: a format, or a variant of one, that we know but do not decode.
        TooLarge: more bytes or pixels, or a longer side, than `limits` allows.
        InvalidImage: no image, or its header is cut off, contradicts itself or states no pixels.
    """
    _check("bytes", len(data), limits.max_bytes)
    header = formats.read_header(data)
    if not _is_decodable(header.format):
        raise UnsupportedMedia(f"this server decodes no {header.format.upper()}")
    if header.width < 1 or header.height < 1:
        raise InvalidImage(f"the image is {header.width} x {header.height} pixels large")
    _check("side", max(header.width, header.height), limits.max_side)
    most = limits.max_pixels * 2 // 5 if header.format == "avif" else limits.max_pixels
    _check("pixels", header.width * header.height, most)
    return header


def decode(data: bytes, limits: ImageLimits, *, min_side: int | None = None) -> Image:
    """Decode the first picture of an image file, upright, as uint8 BGR.

    Transparency is laid over white, as a page would show it (a BMP's is ignored: many writers
    leave it at 0). Samples of more than 8 bits are scaled and rounded to 8. CMYK is read as Adobe
    writes it, inverted, as browsers do. Colour profiles are not applied.

    Args:
        data: a JPEG, PNG, WebP, BMP, TIFF, GIF or (where OpenCV has it) AVIF file.
        limits: what is refused before anything is allocated.
        min_side: more pixels than these on the longer side will not be used: a larger JPEG is
            decoded at 1/2, 1/4 or 1/8 as far as that keeps so many. None decodes in full.

    Returns:
        The image, with `pixels` uint8 (height * scale, width * scale, 3), rounded up.

    Raises:
        UnsupportedMedia: a format, or a variant of one, that we know but do not decode.
        TooLarge: more bytes or pixels, or a longer side, than `limits` allows.
        InvalidImage: no image, truncated, of another size than its header says, or damaged as far
            as the format lets one know: docs/api.md.
    """
    header = inspect(data, limits)
    body = formats.trim(data)
    denominator = _denominator(header, min_side)
    raw = _read(body, _flags(header, denominator), header.depth)
    if raw.shape[:2] != (-(-header.height // denominator), -(-header.width // denominator)):
        raise InvalidImage("the image has another size than its header says")
    if header.format == "jpeg" and _ends_in_filler(raw, body):
        raise InvalidImage("the JPEG is truncated: its data end before its picture")
    pixels = _upright(_bgr(raw, premultiplied=header.premultiplied), header.orientation)
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    return Image(pixels, width, height, header.orientation, 1 / denominator)


def _check(what: str, actual: int, limit: int) -> None:
    if actual > limit:
        raise TooLarge(what, actual, limit)


@cache
def _is_decodable(form: str) -> bool:
    # OpenCV is built with the reader and the writer of a format or with neither;
    # `haveImageReader` would want a file.
    return cv2.haveImageWriter(f".{form}")


def _denominator(header: Header, min_side: int | None) -> int:
    if header.format != "jpeg" or min_side is None:
        return 1
    longer = max(header.width, header.height)
    return next((d for d in (8, 4, 2) if longer >= d * min_side), 1)


def _flags(header: Header, denominator: int) -> int:
    if header.format in ("jpeg", "bmp"):
        return _REDUCED[denominator] | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.IMREAD_UNCHANGED  # alpha and all bits; it ignores the orientation as well


def _read(body: bytes, flags: int, depth: int = 8) -> NDArray[np.uint8]:
    """What OpenCV makes of it, scaled to 8 bits: uint8 (H, W), (H, W, 3) or (H, W, 4)."""
    try:
        raw = cv2.imdecode(np.frombuffer(body, np.uint8), flags)
    except cv2.error as error:
        raise InvalidImage("the image is damaged") from error
    if raw is None or raw.dtype not in (np.uint8, np.uint16):
        raise InvalidImage("the image is damaged")
    if raw.dtype == np.uint16:
        raw = cv2.convertScaleAbs(raw, alpha=255 / ((1 << depth) - 1))
    return np.asarray(raw, np.uint8)


def _bgr(raw: NDArray[np.uint8], *, premultiplied: bool) -> Pixels:
    if raw.ndim == 2:
        return np.asarray(cv2.cvtColor(raw, cv2.COLOR_GRAY2BGR), np.uint8)
    return _over_white(raw, premultiplied=premultiplied) if raw.shape[2] == 4 else raw


def _over_white(bgra: NDArray[np.uint8], *, premultiplied: bool) -> Pixels:
    alpha = cv2.cvtColor(cv2.extractChannel(bgra, 3), cv2.COLOR_GRAY2BGR)
    color = cv2.cvtColor(bgra, cv2.COLOR_BGRA2BGR)
    if not premultiplied:
        color = cv2.multiply(color, alpha, scale=1 / 255)
    return np.asarray(cv2.add(color, cv2.bitwise_not(alpha)), np.uint8)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (EXIF 2.3, tag 274): uint8 (H, W, 3), sides swapped from 5 on."""
    if orientation >= 5:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    # After the transposition 5, 6, 7, 8 lack the same flips as 1, 2, 3, 4.
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), np.uint8)


def _ends_in_filler(raw: NDArray[np.uint8], body: bytes) -> bool:
    """Whether libjpeg ran out of data and filled the rest of a picture with mid-grey.

    It does so for a file that was cut and then closed by an end marker, or whose data hold a
    marker by damage, and OpenCV hides its warning. A grey corner is only a suspicion: then two
    kinds of extra data are put behind the scan's own. They change nothing in a picture that is
    complete, and the missing part of one that is not.
    """
    corner = raw[-1, -1].tolist()
    if corner not in ([128, 128, 128], [65, 65, 65]):  # of YCbCr or grey, and of CMYK
        return False
    end = scan_end(body)
    gray = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    first, second = (
        _read(body[:end] + extra * 64 + body[end:], gray) for extra in (b"\x5a", b"\xa5\x3c")
    )
    return not np.array_equal(first, second)
