"""Test images, made in memory: every format and form that the codec takes, and some that lie.

Pillow (which matplotlib brings along, in development only) writes what OpenCV cannot.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Pixels = NDArray[np.uint8]

EXTENSIONS = ("jpg", "png", "webp", "bmp", "tiff", "gif", "avif")


def picture(width: int = 96, height: int = 64) -> Pixels:
    """Smooth and asymmetric, each corner another colour: uint8 (height, width, 3) BGR."""
    corners = np.array([[[30, 40, 220], [40, 200, 60]], [[210, 60, 30], [220, 210, 190]]], np.uint8)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def noisy(width: int = 96, height: int = 64) -> Pixels:
    """The picture with grain, so that its coded data are long."""
    grain = np.random.default_rng(1).integers(0, 24, (height, width, 3), dtype=np.uint8)
    return cv2.add(picture(width, height), grain)


def encode(extension: str, pixels: NDArray[Any], *params: int) -> bytes:
    """OpenCV's encoder; `params` as for `cv2.imencode`."""
    done, data = cv2.imencode(f".{extension}", pixels, params)
    assert done
    return data.tobytes()


def pillow(pixels: NDArray[Any], form: str, mode: str | None = None, **options: Any) -> bytes:
    """Pillow's encoder, after a conversion to `mode`; colours in BGR or BGRA order."""
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else None
    image = PillowImage.fromarray(pixels if order is None else pixels[..., order])
    frames = options.pop("frames", None)
    if frames is not None:
        more = [PillowImage.fromarray(frame[..., ::-1]) for frame in frames]
        options.update(save_all=True, append_images=more)
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def with_alpha(pixels: Pixels) -> Pixels:
    """Clear on the left quarter, half-clear on the next, solid on the right: (H, W, 4) BGRA."""
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    quarter = pixels.shape[1] // 4
    alpha[:, :quarter], alpha[:, quarter : 2 * quarter] = 0, 128
    return np.dstack((pixels, alpha))


def over_white(bgra: Pixels) -> Pixels:
    """What a page shows of it."""
    alpha = bgra[..., 3:].astype(np.float64) / 255
    return np.rint(bgra[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


# Orientation ---------------------------------------------------------------------------------


def stored(upright: Pixels, orientation: int) -> Pixels:
    """How a camera stores an upright picture under an EXIF orientation.

    Written from the words of EXIF 2.3 (where the stored row 0 and column 0 are seen), not from
    the code under test.
    """
    top, left, transposed = {
        1: ("top", "left", False),
        2: ("top", "right", False),
        3: ("bottom", "right", False),
        4: ("bottom", "left", False),
        5: ("top", "left", True),
        6: ("top", "right", True),
        7: ("bottom", "right", True),
        8: ("bottom", "left", True),
    }[orientation]
    rows = upright[::-1] if top == "bottom" else upright
    pixels = rows[:, ::-1] if left == "right" else rows
    return np.ascontiguousarray(pixels.transpose(1, 0, 2) if transposed else pixels)


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block (a TIFF directory of one tag)."""
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def oriented(upright: Pixels, orientation: int, extension: str = "jpg", order: str = "<") -> bytes:
    """An image file that must be turned by its EXIF orientation to give `upright`."""
    pixels = stored(upright, orientation)
    block = exif(orientation, order)
    if extension == "jpg":
        return insert_segment(encode("jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, 95), 0xE1, block)
    if extension == "png":
        data = encode("png", pixels)
        return data[:33] + chunk(b"eXIf", block) + data[33:]
    lossless = {"lossless": True} if extension == "webp" else {}
    form = {"webp": "WEBP", "tiff": "TIFF", "avif": "AVIF"}[extension]
    tags = PillowImage.Exif()
    tags[274] = orientation
    return pillow(pixels, form, exif=tags, **lossless)


# JPEG ----------------------------------------------------------------------------------------


def insert_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with one more segment right behind its start; APP1 gets the EXIF prefix."""
    if marker == 0xE1:
        payload = b"Exif\0\0" + payload
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + jpeg[2:]


def cut_and_closed(jpeg: bytes, part: float = 0.6) -> bytes:
    """Truncated, but with an end marker: what a decoder fills with grey."""
    return jpeg[: int(len(jpeg) * part)].rstrip(b"\xff") + b"\xff\xd9"


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encode("jpg", picture()))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


# PNG -----------------------------------------------------------------------------------------


def chunk(kind: bytes, payload: bytes) -> bytes:
    return (
        struct.pack(">I", len(payload))
        + kind
        + payload
        + struct.pack(">I", zlib.crc32(kind + payload))
    )


def png(width: int, height: int, rows: bytes, *, interlaced: bool = False) -> bytes:
    """A PNG of 8-bit RGB with these raw rows (a filter byte before each)."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


def interlaced_png(pixels: Pixels) -> bytes:
    """A PNG in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    rows = [
        b"\0" + row[:, ::-1].tobytes()
        for x, y, dx, dy in (*passes, (0, 1, 1, 2))
        for row in pixels[y::dy, x::dx]
    ]
    return png(pixels.shape[1], pixels.shape[0], b"".join(rows), interlaced=True)


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of about a kB that would be decoded into gigabytes."""
    return png(width, height, bytes(1_000_000))


# TIFF ----------------------------------------------------------------------------------------


def tiff(
    pixels: NDArray[Any],
    *,
    orientation: int = 1,
    extra: int | None = None,
    order: str = "<",
    size: tuple[int, int] | None = None,
    **tags: int,
) -> bytes:
    """An uncompressed TIFF of one strip, its directory first.

    Args:
        pixels: uint8 or uint16 (H, W, 3) BGR or (H, W, 4) BGRA.
        orientation: tag 274.
        extra: tag 338: 1 for associated, 2 for straight alpha.
        order: byte order, `<` or `>`.
        size: width and height to claim, if not those of `pixels`.
        tags: more tags, `t<number>=value`, in place of those of the same number.
    """
    height, width, samples = pixels.shape
    bits = pixels.dtype.itemsize * 8
    width, height = size or (width, height)
    strip = pixels[..., [2, 1, 0, 3][:samples]].astype(pixels.dtype.newbyteorder(order)).tobytes()
    values = {256: width, 257: height, 258: 0, 259: 1, 262: 2, 273: 0, 274: orientation}
    values |= {277: samples, 278: height, 279: len(strip)}
    values |= {} if extra is None else {338: extra}
    values |= {int(name[1:]): value for name, value in tags.items()}
    end = 8 + 2 + 12 * len(values) + 4
    values[273] = end + 2 * samples
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(values))
    for tag, value in sorted(values.items()):
        kind, count, at = (3, samples, end) if tag == 258 else (4, 1, value)
        if tag in (274, 338):
            out += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
        else:
            out += struct.pack(order + "HHII", tag, kind, count, at)
    return out + bytes(4) + struct.pack(f"{order}{samples}H", *[bits] * samples) + strip


# BMP and GIF ---------------------------------------------------------------------------------


def bmp(width: int, height: int, bits: int, compression: int, extra: bytes, rows: bytes) -> bytes:
    """A BMP with a 40-byte header, then `extra` (masks or palette), then the coded rows."""
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 0, 0, 0, 0
    )
    start = 14 + len(header) + len(extra)
    return struct.pack("<2sIII", b"BM", start + len(rows), 0, start) + header + extra + rows


def tiny_gif(background: int = 0) -> bytes:
    """One red pixel with a palette of two colours."""
    screen = struct.pack("<6sHHBBB", b"GIF89a", 1, 1, 0x80, background, 0)
    palette = bytes((255, 0, 0, 0, 0, 255))
    return screen + palette + struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0) + b"\2\2\x44\1\0;"
