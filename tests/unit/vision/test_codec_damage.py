"""Truncated and damaged files: refused, or decoded to the very same pixels, never in between."""

from __future__ import annotations

import re
import struct
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ImageError, InvalidImage, UnsupportedMedia
from service.vision.codec import ImageLimits, decode, inspect
from tests import images

LIMITS = ImageLimits()
NOISY = images.noisy()

WHOLE = {
    **{extension: images.encode(extension, NOISY) for extension in images.EXTENSIONS},
    "progressive": images.encode("jpg", NOISY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": images.encode("jpg", NOISY, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "cmyk": images.pillow(NOISY, "JPEG", "CMYK"),
    "gray": images.encode("jpg", NOISY[..., 0]),
    "exif jpeg": images.oriented(NOISY, 6),
    "lossy webp": images.pillow(NOISY, "WEBP"),
    "exif webp": images.oriented(NOISY, 6, "webp"),
    "moving webp": images.pillow(NOISY, "WEBP", frames=[NOISY[::-1]]),
    "moving gif": images.pillow(NOISY, "GIF", frames=[NOISY[::-1]]),
    "moving png": images.pillow(NOISY, "PNG", frames=[NOISY[::-1]]),
    "raw tiff": images.tiff(NOISY, orientation=6),
    "deep tiff": images.tiff(NOISY.astype(np.uint16) * 257, order=">"),
    "lzw tiff": images.pillow(NOISY, "TIFF", compression="tiff_lzw"),
    "turned avif": images.oriented(NOISY, 6, "avif"),
}
JPEGS = ("jpg", "progressive", "restarts", "cmyk", "gray", "exif jpeg")


@pytest.mark.parametrize("name", WHOLE)
def test_truncation_is_refused_or_harmless(name: str) -> None:
    data = WHOLE[name]
    whole = decode(data, LIMITS).pixels
    for percent in range(0, 100, 5):
        try:
            image = decode(data[: len(data) * percent // 100], LIMITS)
        except ImageError:
            continue
        assert name == "moving gif", f"{name} cut at {percent} %"
        assert np.array_equal(image.pixels, whole)


@pytest.mark.parametrize("name", WHOLE)
def test_the_last_bytes_matter(name: str) -> None:
    data = WHOLE[name]
    cut = data[:-1]
    if name in ("gif", "moving gif"):  # the trailer is not needed
        assert np.array_equal(decode(cut, LIMITS).pixels, decode(data, LIMITS).pixels)
    elif name not in ("tiff", "lzw tiff"):  # whose directory may come last
        with pytest.raises(InvalidImage):
            decode(cut, LIMITS)


@pytest.mark.parametrize("percent", range(20, 100, 10))
@pytest.mark.parametrize("name", ["jpg", "restarts", "cmyk", "gray"])
def test_cut_jpeg_with_an_end_marker_is_no_photo(name: str, percent: int) -> None:
    data = images.cut_and_closed(WHOLE[name], percent / 100)
    for min_side in (None, 20):
        with pytest.raises(InvalidImage):
            decode(data, LIMITS, min_side=min_side)


@pytest.mark.parametrize("gray", [False, True])
def test_progressive_jpeg_without_its_last_scans_is_no_photo(gray: bool) -> None:
    data = images.encode("jpg", NOISY[..., 0] if gray else NOISY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    assert len(scans) == (6 if gray else 10)
    for scan in scans:
        for end in (scan, scan - 20):
            for min_side in (None, 20):
                with pytest.raises(InvalidImage):
                    decode(data[:end] + b"\xff\xd9", LIMITS, min_side=min_side)


def test_progressive_jpeg_needs_each_scan_of_a_last_bit() -> None:
    data = WHOLE["progressive"]
    scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    last_bits = 0
    for start, end in pairwise((*scans, len(data) - 2)):
        if data[start + 7 + 2 * data[start + 4]] & 15 == 0:
            last_bits += 1
            with pytest.raises(InvalidImage, match="no scan"):
                decode(data[:start] + data[end:], LIMITS)
    assert last_bits == 4


def test_progressive_jpeg_cut_in_its_last_scan_is_nearly_whole() -> None:
    """What cannot be found: the last bit of some brightness coefficients is missing."""
    data = images.cut_and_closed(WHOLE["progressive"], 0.95)
    whole = decode(WHOLE["progressive"], LIMITS).pixels
    assert cv2.norm(decode(data, LIMITS).pixels, whole, cv2.NORM_INF) < 32


def test_zeros_at_the_end_are_no_photo() -> None:
    for name in JPEGS:
        data = WHOLE[name]
        half = len(data) // 2
        with pytest.raises(InvalidImage):
            decode(data[:half] + bytes(len(data) - half), LIMITS)


@pytest.mark.parametrize("color", [(128, 128, 128), (65, 65, 65)])
@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("restarts", [0, 4])
def test_gray_photo_is_a_photo(
    color: tuple[int, int, int], progressive: int, restarts: int
) -> None:
    pixels = NOISY.copy()
    pixels[32:] = color
    data = images.encode(
        "jpg",
        pixels,
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts),
    )
    image = decode(data, LIMITS)
    assert image.pixels[-1, -1].tolist() == list(color)
    assert decode(data, LIMITS, min_side=20).scale == 0.25


def test_gray_photo_of_cmyk_is_a_photo() -> None:
    pixels = np.full((32, 32, 3), 65, np.uint8)
    assert decode(images.pillow(pixels, "JPEG", "CMYK"), LIMITS).width == 32


@pytest.mark.parametrize("name", JPEGS)
def test_appended_data_are_ignored(name: str) -> None:
    data = WHOLE[name]
    whole = decode(data, LIMITS).pixels
    for more in (bytes(5000), b"text", data, data[: len(data) // 2]):
        assert np.array_equal(decode(data + more, LIMITS).pixels, whole)


def test_end_marker_of_a_thumbnail_does_not_count() -> None:
    thumbnail = images.encode("jpg", images.picture(16, 12))
    data = images.insert_segment(WHOLE["jpg"], 0xE1, images.exif(3) + thumbnail)
    assert decode(data, LIMITS).orientation == 3
    for percent in range(10, 100, 5):
        with pytest.raises(InvalidImage):
            decode(data[: len(data) * percent // 100], LIMITS)


def test_component_without_a_scan_is_missing() -> None:
    data = WHOLE["jpg"]
    at = data.index(b"\xff\xda")
    # A scan of the first component alone, where three are announced.
    scan = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 0, 63, 0)
    with pytest.raises(InvalidImage, match="no scan"):
        decode(data[:at] + scan + data[at + 14 :], LIMITS)


@pytest.mark.parametrize(
    "before",
    [b"", b"\xff\x02\0\xf0", b"\xff\xfe\0\x04\xff\xd9"],
    ids=["", "no length", "comment"],
)
def test_scans_without_number_are_refused(before: bytes) -> None:
    """Each costs a pass over the whole picture, though it may be of a few bytes."""
    data = WHOLE["progressive"]
    at = data.rindex(b"\xff\xda")
    scan = before + data[at:-2]
    with pytest.raises(UnsupportedMedia, match="64 scans"):
        decode(data[:at] + scan * 70 + b"\xff\xd9", LIMITS)
    if before != b"\xff\x02\0\xf0":  # libjpeg knows no such marker
        check(data[:at] + scan * 20 + b"\xff\xd9")


def test_scans_of_components_of_one_id_are_counted_too() -> None:
    """To their ids one scan gives everything; libjpeg goes by their number and reads them all."""
    data = bytearray(WHOLE["jpg"])
    components = data.index(b"\xff\xc0") + 10
    data[components : components + 9 : 3] = b"\1\1\1"
    at = data.index(b"\xff\xda")
    scan = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 0, 63, 0) + b"\x55\x55"
    with pytest.raises(UnsupportedMedia, match="64 scans"):
        decode(bytes(data[:at]) + scan * 65 + b"\xff\xd9", LIMITS)


def test_scans_behind_the_end_do_not_count() -> None:
    data = WHOLE["progressive"]
    alone = decode(data, LIMITS).pixels
    np.testing.assert_array_equal(decode(data + data * 20, LIMITS).pixels, alone)


def test_marker_in_the_middle_of_a_scan_is_damage() -> None:
    data = bytearray(WHOLE["jpg"])
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    data[middle : middle + 2] = b"\xff\xd9"
    with pytest.raises(InvalidImage):
        decode(bytes(data), LIMITS)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=40)
@given(
    flips=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6), early=st.booleans()
)
def test_flipped_bits_give_an_error_or_an_image(name: str, flips: list[float], early: bool) -> None:
    data = bytearray(WHOLE[name])
    reach = min(len(data), 600) if early else len(data)  # half of them aim at the header
    for flip in flips:
        bit = int(flip * reach * 8)
        data[bit // 8] ^= 1 << bit % 8
    check(bytes(data))


@settings(max_examples=150)
@given(
    start=st.sampled_from([b"\xff\xd8\xff", *(data[:40] for data in WHOLE.values())]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_give_an_error_or_an_image(start: bytes, rest: bytes) -> None:
    check(start + rest)


def check(data: bytes) -> None:
    try:
        image = decode(data, LIMITS)
    except ImageError:
        return
    header = inspect(data, LIMITS)
    sides = {header.width, header.height}
    assert {image.width, image.height} == sides
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff\xe0\0\2" * 4_000_000,
        b"\xff\xd8\xff" + b"\0\xff" * 8_000_000,
        images.encode("png", NOISY)[:33] + (bytes(4) + b"abcd" + bytes(4)) * 1_300_000,
        images.encode("webp", NOISY)[:12] + b"VP8X\0\0\0\0" * 2_000_000,
        b"\0\0\0\x14ftypavif\0\0\0\0avif" + b"\0\0\0\x08free" * 2_000_000,
    ],
    ids=["jpeg segments", "jpeg escapes", "png chunks", "webp chunks", "avif boxes"],
)
def test_many_tiny_parts_cost_little(data: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(ImageError):
        decode(data, LIMITS)
    assert time.perf_counter() - start < 1.5
