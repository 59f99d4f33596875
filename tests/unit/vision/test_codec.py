from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest

from service.errors import InvalidImage, TooLarge, UnsupportedMedia
from service.vision import codec
from service.vision.codec import ImageLimits, decode, inspect
from tests import images

LIMITS = ImageLimits()
PICTURE = images.picture()
HEIGHT, WIDTH = PICTURE.shape[:2]
LOSSLESS = ("png", "bmp", "tiff")


def pixels_of(data: bytes) -> images.Pixels:
    image = decode(data, LIMITS)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    assert image.pixels.shape == (image.height, image.width, 3)
    return image.pixels


def largest_difference(a: Any, b: Any) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        pytest.fail("the decoder was called")

    monkeypatch.setattr(cv2, "imdecode", fail)


# Formats and forms ---------------------------------------------------------------------------


@pytest.mark.parametrize("extension", images.EXTENSIONS)
def test_every_format_gives_the_picture(extension: str) -> None:
    data = images.encode(extension, PICTURE)
    header = inspect(data, LIMITS)
    assert header.format == extension.replace("jpg", "jpeg")
    assert (header.width, header.height, header.orientation) == (WIDTH, HEIGHT, 1)
    tolerance = 0 if extension in LOSSLESS else 90  # GIF: 256 colours, dithered
    assert largest_difference(pixels_of(data), PICTURE) <= tolerance


GRAY = cv2.cvtColor(PICTURE, cv2.COLOR_BGR2GRAY)
ALPHA = images.with_alpha(PICTURE)
DEEP = PICTURE.astype(np.uint16) * 257

FORMS: dict[str, tuple[bytes, images.Pixels, int]] = {
    "gray jpeg": (images.encode("jpg", GRAY), cv2.merge([GRAY] * 3), 6),
    "gray png": (images.encode("png", GRAY), cv2.merge([GRAY] * 3), 0),
    "gray tiff": (images.encode("tiff", GRAY), cv2.merge([GRAY] * 3), 0),
    "gray bmp": (images.encode("bmp", GRAY), cv2.merge([GRAY] * 3), 0),
    "gray avif": (images.encode("avif", GRAY), cv2.merge([GRAY] * 3), 6),
    "progressive jpeg": (
        images.encode("jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        PICTURE,
        20,
    ),
    "restart jpeg": (images.encode("jpg", PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 4), PICTURE, 20),
    "cmyk jpeg": (images.pillow(PICTURE, "JPEG", "CMYK", quality=95), PICTURE, 20),
    "cmyk tiff": (images.pillow(PICTURE, "TIFF", "CMYK"), PICTURE, 1),
    "alpha png": (images.pillow(ALPHA, "PNG"), images.over_white(ALPHA), 1),
    "alpha webp": (
        images.pillow(ALPHA, "WEBP", lossless=True, exact=True),
        images.over_white(ALPHA),
        1,
    ),
    "alpha tiff": (images.pillow(ALPHA, "TIFF"), images.over_white(ALPHA), 1),
    "alpha avif": (images.pillow(ALPHA, "AVIF", quality=100), images.over_white(ALPHA), 20),
    "alpha 16 bit png": (
        images.encode("png", ALPHA.astype(np.uint16) * 257),
        images.over_white(ALPHA),
        1,
    ),
    "alpha bmp, ignored": (images.pillow(ALPHA, "BMP"), PICTURE, 0),
    "16 bit png": (images.encode("png", DEEP), PICTURE, 0),
    "16 bit tiff": (images.encode("tiff", DEEP), PICTURE, 0),
    "10 bit avif": (
        images.encode("avif", PICTURE.astype(np.uint16) * 4, cv2.IMWRITE_AVIF_DEPTH, 10),
        PICTURE,
        20,
    ),
    "lzw tiff": (images.pillow(PICTURE, "TIFF", compression="tiff_lzw"), PICTURE, 0),
    "deflate tiff": (images.pillow(PICTURE, "TIFF", compression="tiff_adobe_deflate"), PICTURE, 0),
    "lossy webp": (images.pillow(PICTURE, "WEBP"), PICTURE, 40),
    "interlaced png": (images.interlaced_png(PICTURE), PICTURE, 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_picture(form: str) -> None:
    data, expected, tolerance = FORMS[form]
    assert largest_difference(pixels_of(data), expected) <= tolerance


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(form: str) -> None:
    data = images.pillow(PICTURE, form, "P")
    assert float(np.abs(pixels_of(data).astype(int) - PICTURE.astype(int)).mean()) < 20


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_with_a_clear_colour_is_over_white(form: str) -> None:
    indices = np.zeros((4, 6), np.uint8)
    indices[:, 3:] = 255
    data = images.pillow(indices, form, "P", transparency=0)
    pixels = pixels_of(data)
    assert (pixels[:, :3] == 255).all()  # index 0 is black, but clear


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_one_bit(form: str) -> None:
    data = images.pillow(np.where(GRAY > 128, 255, 0).astype(np.uint8), form, "1")
    assert np.array_equal(pixels_of(data)[..., 0] > 0, GRAY > 128)


def test_sixteen_bits_are_rounded_not_cut() -> None:
    samples = np.array([[0, 255, 257, 385, 386, 65535]], np.uint16)
    for extension in ("png", "tiff"):
        row = pixels_of(images.encode(extension, samples))[0, :, 0]
        assert row.tolist() == [0, 1, 1, 1, 2, 255]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("factor", [1, 257])
def test_tiff_with_straight_alpha(order: str, factor: int) -> None:
    pixels = ALPHA.astype(np.uint8 if factor == 1 else np.uint16) * np.uint16(factor)
    data = images.tiff(pixels.astype(np.uint8) if factor == 1 else pixels, extra=2, order=order)
    assert largest_difference(pixels_of(data), images.over_white(ALPHA)) <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_with_associated_alpha(dtype: type) -> None:
    solid = ALPHA[..., 3:].astype(np.float64) / 255
    associated = np.dstack((ALPHA[..., :3] * solid, ALPHA[..., 3])).round()
    data = images.tiff((associated * (np.iinfo(dtype).max // 255)).astype(dtype), extra=1)
    assert largest_difference(pixels_of(data), images.over_white(ALPHA)) <= 1


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animation_gives_its_first_frame(form: str) -> None:
    frames = [images.picture()[::-1], images.picture()[:, ::-1]]
    options = {"lossless": True} if form == "WEBP" else {}
    moving = pixels_of(images.pillow(PICTURE, form, frames=frames, **options))
    still = pixels_of(images.pillow(PICTURE, form, **options))
    assert largest_difference(moving, still) <= 12


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_later_frames_are_not_wanted(form: str) -> None:
    frames = [images.picture()[::-1], images.picture()[:, ::-1]]
    data = images.pillow(PICTURE, form, frames=frames)
    if form == "GIF":
        cut = data[: int(len(data) * 0.6)]
    else:  # the default image, then only the end
        at = data.rindex(b"fcTL") - 4
        cut = data[:at] + images.chunk(b"IEND", b"")
    assert np.array_equal(pixels_of(cut), pixels_of(data))


@pytest.mark.parametrize("background", [0, 1, 200])
def test_gif_with_any_background_index(background: int) -> None:
    assert pixels_of(images.tiny_gif(background)).tolist() == [[[0, 0, 255]]]


@pytest.mark.parametrize("extension", images.EXTENSIONS)
def test_one_pixel(extension: str) -> None:
    pixel = np.full((1, 1, 3), 200, np.uint8)
    assert largest_difference(pixels_of(images.encode(extension, pixel)), pixel) <= 40


def test_rle_bmp() -> None:
    palette = bytes(1020) + bytes((9, 8, 7, 0))
    rows = bytes((3, 255, 0, 0)) * 2 + bytes((0, 1))
    data = images.bmp(3, 2, 8, 1, palette, rows)
    data = data[:34] + struct.pack("<I", len(rows)) + data[38:]
    assert (pixels_of(data) == (9, 8, 7)).all()
    with pytest.raises(InvalidImage):
        decode(data[:-4], LIMITS)


def test_bmp_variants() -> None:
    pixel = bytes((1, 2, 3, 0))
    usual = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    assert pixels_of(images.bmp(1, 1, 32, 0, b"", pixel)).tolist() == [[[1, 2, 3]]]
    assert pixels_of(images.bmp(1, 1, 32, 3, usual, pixel)).tolist() == [[[1, 2, 3]]]
    assert pixels_of(images.bmp(1, -1, 24, 0, b"", pixel)).tolist() == [[[1, 2, 3]]]
    core = struct.pack("<2sIIIIHHHH", b"BM", 30, 0, 26, 12, 1, 1, 1, 24) + pixel
    assert pixels_of(core).tolist() == [[[1, 2, 3]]]


# Orientation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "webp", "tiff"])
def test_orientation_is_undone(extension: str, orientation: int) -> None:
    image = decode(images.oriented(PICTURE, orientation, extension), LIMITS)
    assert image.orientation == orientation
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    assert np.array_equal(image.pixels, PICTURE)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpeg_is_undone(orientation: int, order: str) -> None:
    image = decode(images.oriented(PICTURE, orientation, "jpg", order), LIMITS)
    assert image.orientation == orientation
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    assert largest_difference(image.pixels, PICTURE) <= 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_of_avif_are_undone(orientation: int) -> None:
    image = decode(images.oriented(PICTURE, orientation, "avif"), LIMITS)
    assert image.orientation == orientation
    assert largest_difference(image.pixels, PICTURE) <= 30


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("factor", [1, 257])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_once(orientation: int, factor: int, order: str) -> None:
    pixels = images.stored(PICTURE, orientation)
    deep = pixels if factor == 1 else pixels.astype(np.uint16) * 257
    image = decode(images.tiff(deep, orientation=orientation, order=order), LIMITS)
    assert image.orientation == orientation
    assert np.array_equal(image.pixels, PICTURE)


@pytest.mark.parametrize(
    "block",
    [b"", b"II", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff", images.exif(0), images.exif(9)],
)
def test_broken_exif_is_no_orientation(block: bytes) -> None:
    data = images.insert_segment(images.encode("jpg", PICTURE), 0xE1, block)
    assert inspect(data, LIMITS).orientation == 1
    assert decode(data, LIMITS).pixels.shape == PICTURE.shape


# Reduced decoding ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("min_side", "scale"),
    [(None, 1), (803, 1), (402, 1), (401, 0.5), (201, 0.5), (200, 0.25), (100, 0.125), (1, 0.125)],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpeg_is_reduced(min_side: int | None, scale: float, orientation: int) -> None:
    upright = images.picture(803, 401)
    image = decode(images.oriented(upright, orientation), LIMITS, min_side=min_side)
    assert image.scale == scale
    assert (image.width, image.height) == (803, 401)
    height, width = image.pixels.shape[:2]
    assert (width, height) == (int(np.ceil(803 * scale)), int(np.ceil(401 * scale)))
    assert max(width, height) >= (min_side or 803)
    whole = cv2.resize(upright, (width, height), interpolation=cv2.INTER_AREA)
    assert largest_difference(image.pixels, whole) <= 20


def test_only_jpeg_is_reduced() -> None:
    image = decode(images.encode("png", PICTURE), LIMITS, min_side=8)
    assert image.scale == 1
    assert image.pixels.shape == PICTURE.shape


# Limits --------------------------------------------------------------------------------------


def test_limits_are_inclusive() -> None:
    data = images.encode("png", PICTURE)
    exact = ImageLimits(max_bytes=len(data), max_pixels=WIDTH * HEIGHT, max_side=WIDTH)
    wider = ImageLimits(len(data) + 1, WIDTH * HEIGHT + 1, WIDTH + 1)
    assert decode(data, exact).width == decode(data, wider).width == WIDTH


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    ("what", "actual"), [("bytes", None), ("pixels", WIDTH * HEIGHT), ("side", WIDTH)]
)
def test_one_over_a_limit_is_too_large(what: str, actual: int | None) -> None:
    data = images.encode("png", PICTURE)
    limit = (actual or len(data)) - 1
    with pytest.raises(TooLarge) as caught:
        decode(data, ImageLimits(**{f"max_{what}": limit}))
    assert (caught.value.what, caught.value.limit) == (what, limit)
    assert caught.value.actual == limit + 1


def test_avif_takes_more_memory_and_has_fewer_pixels() -> None:
    data = images.encode("avif", PICTURE)
    enough = ImageLimits(max_pixels=WIDTH * HEIGHT * 5 // 2)
    assert decode(data, enough).width == WIDTH
    with pytest.raises(TooLarge) as caught:
        decode(data, ImageLimits(max_pixels=enough.max_pixels - 1))
    assert caught.value.limit == WIDTH * HEIGHT - 1


def lying_about_size(extension: str) -> bytes:
    """A small file whose header says 60,000 x 60,000 (or what the format can say)."""
    data = bytearray(images.encode(extension, PICTURE))
    if extension == "jpg":
        return images.jpeg_of_size(60_000, 60_000)
    if extension == "png":
        return images.bomb()
    if extension == "webp":
        extended = struct.pack("<4sIIHBHB", b"VP8X", 10, 0, 59_999, 0, 59_999, 0)
        return bytes(data[:12]) + extended + bytes(data[12:])
    if extension == "gif":
        return bytes(data[:6]) + struct.pack("<HH", 60_000, 60_000) + bytes(data[10:])
    if extension == "bmp":
        return bytes(data[:18]) + struct.pack("<ii", 60_000, -60_000) + bytes(data[26:])
    if extension == "avif":
        at = data.index(b"ispe") + 8
        return bytes(data[:at]) + struct.pack(">II", 60_000, 60_000) + bytes(data[at + 8 :])
    return images.tiff(PICTURE, size=(60_000, 60_000))


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("extension", images.EXTENSIONS)
def test_bomb_is_refused_by_its_header(extension: str) -> None:
    data = lying_about_size(extension)
    assert len(data) < 30_000
    with pytest.raises(TooLarge) as caught:
        decode(data, LIMITS)
    assert (caught.value.what, caught.value.actual) == ("side", 60_000)
    with pytest.raises(TooLarge):  # no more of the file than its header is wanted
        inspect(data[: int(len(data) * 0.8)], LIMITS)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "tags",
    [
        {"t278": 10_000_000},  # rows of a strip
        {"t278": 0},
        {"t322": 65_536, "t323": 65_536},  # a tile
        {"t279": 96 * 64 * 3 - 1},  # bytes of the strip
        {"t279": 96 * 64 * 3 + 1},
        {"t278": 8},  # one strip where there should be eight
        {"t284": 2},  # one plane where there should be three
        {"t257": 65},
    ],
)
def test_tiff_that_contradicts_itself(tags: dict[str, int]) -> None:
    assert images.tiff(PICTURE)
    with pytest.raises(InvalidImage):
        decode(images.tiff(PICTURE, **tags), LIMITS)


# What is no image ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello, world",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"BMW is no picture, however long the sentence that begins with it is",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"P6 1 1 255 abc",
        np.random.default_rng(7).bytes(1000),
    ],
)
def test_other_data_are_no_image(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="not a JPEG"):
        decode(data, LIMITS)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"II+\0\x08\0\0\0", "BigTIFF"),
    ],
)
def test_known_formats_that_are_not_decoded_say_so(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=name):
        decode(data, LIMITS)


@pytest.mark.usefixtures("no_decoder")
def test_unsupported_variants_say_so() -> None:
    jpeg = images.encode("jpg", PICTURE)
    at = jpeg.index(b"\xff\xc0")
    lossless = jpeg[:at] + b"\xff\xc3" + jpeg[at + 2 :]
    twelve_bits = jpeg[: at + 4] + b"\x0c" + jpeg[at + 5 :]
    real = images.encode("tiff", PICTURE.astype(np.float32) / 255)
    odd_masks = images.bmp(1, 1, 32, 3, struct.pack("<III", 0xFF, 0xFF00, 0xFF0000), bytes(4))
    in_jpeg = images.bmp(1, 1, 24, 4, b"", bytes(4))
    os2 = struct.pack("<2sIIII", b"BM", 30, 0, 26, 16) + bytes(40)
    gray4 = images.encode("tiff", GRAY).replace(
        struct.pack("<HHIH", 258, 3, 1, 8), struct.pack("<HHIH", 258, 3, 1, 4)
    )
    mixed = images.encode("tiff", GRAY).replace(
        struct.pack("<HHIH", 258, 3, 1, 8), struct.pack("<HHIH", 258, 3, 1, 7)
    )
    for data in (lossless, twelve_bits, real, odd_masks, in_jpeg, os2, gray4, mixed):
        with pytest.raises(UnsupportedMedia):
            decode(data, LIMITS)


def test_format_that_opencv_lacks_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_is_decodable", lambda form: form != "avif")
    with pytest.raises(UnsupportedMedia, match="AVIF"):
        decode(images.encode("avif", PICTURE), LIMITS)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(
    "data",
    [
        images.png(0, 5, b""),
        images.png(5, 0, b""),
        images.jpeg_of_size(96, 0),
        images.tiny_gif()[:6] + bytes(4) + images.tiny_gif()[10:],
        images.bmp(0, 4, 24, 0, b"", b""),
        images.bmp(-4, 4, 24, 0, b"", b""),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\0" * 20,
    ],
)
def test_no_pixels(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        decode(data, LIMITS)


def test_another_size_than_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((64, 95, 3), np.uint8))
    with pytest.raises(InvalidImage, match="another size"):
        decode(images.encode("png", PICTURE), LIMITS)


def test_decoder_that_throws(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise cv2.error("bad")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(InvalidImage, match="damaged"):
        decode(images.encode("png", PICTURE), LIMITS)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize(("width", "height"), [(97, 64), (32, 32), (96, 63)])
def test_avif_whose_coded_picture_is_larger_than_it_says(width: int, height: int) -> None:
    data = images.encode("avif", PICTURE)
    at = data.index(b"ispe") + 8
    with pytest.raises(InvalidImage, match="another size"):
        decode(data[:at] + struct.pack(">II", width, height) + data[at + 8 :], LIMITS)


def test_webp_whose_coded_picture_is_larger_than_it_says() -> None:
    data = images.pillow(images.picture(2000, 1500), "WEBP")
    extended = struct.pack("<4sIIHBHB", b"VP8X", 10, 0, 95, 0, 63, 0)
    body = data[12:]
    with pytest.raises(InvalidImage):
        decode(struct.pack("<4sI4s", b"RIFF", 22 + len(body), b"WEBP") + extended + body, LIMITS)


def test_png_with_too_few_rows() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in PICTURE)
    assert pixels_of(images.png(WIDTH, HEIGHT, rows)).shape == PICTURE.shape
    with pytest.raises(InvalidImage):
        decode(images.png(WIDTH, HEIGHT, rows[: len(rows) // 2]), LIMITS)


def test_metadata_of_a_png_never_reaches_the_decoder() -> None:
    data = images.encode("png", PICTURE)
    text = images.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))
    assert np.array_equal(pixels_of(data[:33] + text + data[33:]), PICTURE)
