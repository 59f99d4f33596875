"""Small files that ask for much: reading what they say of themselves costs little all the same."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ImageError, InvalidImage, UnsupportedMedia
from service.vision import formats
from service.vision.codec import ImageLimits, decode
from tests import images

LIMITS = ImageLimits()
NOISY = images.noisy()


@contextmanager
def low_cost(data: bytes, *, seconds: float | None = None) -> Iterator[None]:
    """Holds what is done with `data` to six times its size and 1 MB, and to so much time."""
    tracemalloc.start()
    start = time.thread_time()
    try:
        yield
        took, (_, peak) = time.thread_time() - start, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(data) + 1_000_000
    assert seconds is None or took < seconds


def parse(data: bytes) -> None:
    with suppress(ImageError):
        formats.read_header(data)
        formats.trim(data)


# TIFF and EXIF -------------------------------------------------------------------------------


def directory(entries: int, length: int, first_tag: int = 1000) -> bytes:
    """A TIFF directory whose tags all hold the same bytes: nearly all there are."""
    end = 10 + 12 * entries
    tags = (struct.pack("<HHII", first_tag + i, 1, length - end, end) for i in range(entries))
    return (struct.pack("<2sHIH", b"II", 42, 8, entries) + b"".join(tags)).ljust(length, b"\1")


PNG, WEBP, JPEG = (images.encode(extension, NOISY) for extension in ("png", "webp", "jpg"))
FULL_EXIF = directory(1000, 65_500)
LONG_EXIF = directory(60_000, 800_000, 0)
RIFF_EXIF = b"EXIF" + struct.pack("<I", len(LONG_EXIF)) + LONG_EXIF


# AVIF ----------------------------------------------------------------------------------------


def box(kind: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def avif(
    extents: list[tuple[int, int]],
    *,
    items: int = 1,
    data: bytes = b"",
    properties: bytes = b"",
    statement: bytes | None = None,
) -> bytes:
    """An AVIF of 64 x 64 pixels; each item has these extents, at offsets within `data`.

    `statement` replaces the payload of the box that says where the items are.
    """
    items_of = b"".join(
        box(b"infe", struct.pack(">IHH4sx", 2 << 24, i, 0, b"av01")) for i in range(1, items + 1)
    )

    def file(start: int) -> bytes:
        spans = b"".join(struct.pack(">II", start + at, length) for at, length in extents)
        places = b"".join(struct.pack(">HHH", i + 1, 0, len(extents)) + spans for i in range(items))
        size = box(b"ispe", struct.pack(">III", 0, 64, 64))
        associations = box(b"ipma", struct.pack(">IIHBB", 0, 1, 1, 1, 1))
        meta = (
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iprp", box(b"ipco", size, properties), associations),
            box(b"iinf", struct.pack(">IH", 0, items), items_of),
            box(b"iloc", statement or struct.pack(">IBBH", 0, 0x44, 0, items) + places),
        )
        head = box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"meta", bytes(4), *meta)
        return head + box(b"mdat", data)

    return file(len(file(0)) - len(data))


SEQUENCE_HEADER = b"\x0a\4\x18\x15\x7f\xfc"
"""A unit of AV1 data that states 64 x 64 pixels."""

BOMBS = {
    "jpeg exif": images.insert_segment(JPEG, 0xE1, FULL_EXIF),
    "jpeg exifs": JPEG[:2]
    + images.insert_segment(JPEG, 0xE1, FULL_EXIF)[2:65_510] * 100
    + JPEG[2:],
    "png exif": PNG[:33] + images.chunk(b"eXIf", LONG_EXIF) * 10 + PNG[33:],
    "webp exif": WEBP + RIFF_EXIF * 10,
    "tiff other tags": directory(300, 400_000),
    "tiff our tags": directory(300, 400_000, 256),
    "tiff tags": LONG_EXIF,
    "gif blocks": images.tiny_gif()[:19] + b"\x21\xfe" + b"\1a" * 2_000_000,
    "gif extensions": images.tiny_gif()[:19] + b"\x21\xfe\0" * 2_000_000,
    "avif extents to the end": avif([(i, 0) for i in range(1000)], data=bytes(1_000_000)),
    "avif extents": avif([(i, 900_000) for i in range(1000)], data=bytes(1_000_000)),
    "avif extents of no bytes": avif(
        [], statement=struct.pack(">IBBH", 0, 0, 0, 2000) + struct.pack(">HHH", 1, 0, 4000) * 2000
    ),
    "avif items": avif([(0, 1)], items=60_000, data=bytes(1000)),
    "avif properties": avif([(0, 100)], data=bytes(100), properties=box(b"free") * 200_000),
    "avif units": avif([(0, 4_000_000)], data=b"\x12\0" * 2_000_000),
    "avif pictures": avif([(0, 600_000)], data=SEQUENCE_HEADER * 100_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_header_of_a_bomb_costs_little(name: str) -> None:
    with low_cost(BOMBS[name], seconds=3):
        parse(BOMBS[name])


@pytest.mark.parametrize("name", [name for name in BOMBS if name.startswith(("gif", "avif"))])
def test_parts_without_number_are_refused(name: str) -> None:
    with pytest.raises((InvalidImage, UnsupportedMedia), match="more "):
        decode(BOMBS[name], LIMITS)


@pytest.mark.parametrize("name", ["jpeg exif", "jpeg exifs", "png exif"])
def test_photo_with_a_bomb_in_its_exif_is_a_photo(name: str) -> None:
    assert decode(BOMBS[name], LIMITS).orientation == 1


def test_first_exif_counts() -> None:
    jpeg = images.insert_segment(images.oriented(NOISY, 6), 0xE1, images.exif(3))
    assert decode(jpeg, LIMITS).orientation == 3
    png = images.oriented(NOISY, 6, "png")
    png = png[:33] + images.chunk(b"eXIf", images.exif(3)) + png[33:]
    assert decode(png, LIMITS).orientation == 3
    webp = images.oriented(NOISY, 6, "webp")
    block = images.exif(3)
    assert (
        formats.read_header(webp + b"EXIF" + struct.pack("<I", len(block)) + block).orientation == 6
    )


@pytest.mark.parametrize("size", [1 << 40, (1 << 63) + 1, (1 << 64) - 1])
@pytest.mark.parametrize("kind", [b"meta", b"iprp", b"ipco", b"pitm"])
def test_box_beyond_what_holds_it_is_damage(size: int, kind: bytes) -> None:
    data = avif([(0, 1)], data=b"a")
    at = data.index(kind)
    long = data[: at - 4] + struct.pack(">I4sQ", 1, kind, size) + data[at + 4 :]
    with pytest.raises(InvalidImage):
        decode(long, LIMITS)


SEEDS = {
    **{extension: images.encode(extension, NOISY) for extension in images.EXTENSIONS},
    "progressive": images.encode("jpg", NOISY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    **{f"exif {form}": images.oriented(NOISY, 6, form) for form in ("jpg", "png", "webp", "avif")},
    "raw tiff": images.tiff(NOISY, orientation=6),
}
CHANGES = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 20),
        st.sampled_from([b"", b"\0", b"\xff", bytes(4), b"\xff" * 4, b"\x7f" + b"\xff" * 7])
        | st.binary(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=60)
@given(changes=CHANGES, early=st.booleans())
def test_header_of_any_file_costs_little(
    name: str, changes: list[tuple[float, int, bytes]], early: bool
) -> None:
    """Bytes at a few places are replaced, taken out or put in; half of them aim at the header."""
    data = SEEDS[name]
    for place, removed, added in changes:
        at = int(place * (min(len(data), 600) if early else len(data)))
        data = data[:at] + added + data[at + removed :]
    with low_cost(data):
        parse(data)
