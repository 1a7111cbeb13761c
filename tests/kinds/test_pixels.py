"""Pictures of every mode as grey or RGB of 8 bits, and what is a picture by its content."""

import io
import struct
import zlib
from collections.abc import Callable

import cases
import numpy as np
import pytest
from builders import picture_file, random_picture
from PIL import EpsImagePlugin, Image

from sextant.errors import UsageError
from sextant.guess.pictures import pictures as guess_pictures
from sextant.kinds import pixels

# Of 16 x 12 pixels: a ramp from black to white, and a coloured one.
GREY = np.tile(np.linspace(0, 255, 16).round().astype(np.uint8), (12, 1))
RGB = np.stack([GREY, GREY[:, ::-1], np.full_like(GREY, 90)], axis=-1)
RED, WHITE, BLACK = (200, 0, 0), (255, 255, 255), (0, 0, 0)


def decoded(raw: bytes | np.ndarray, channels: int = 1, **options: object) -> np.ndarray:
    return np.asarray(pixels.decoded(raw, channels, **options).image)  # type: ignore[arg-type]


def distance(first: np.ndarray, second: np.ndarray) -> int:
    """The largest difference of two pictures in levels."""
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


# --- more than 8 bits ---------------------------------------------------------------------------

DEPTHS: dict[str, tuple[np.ndarray, str]] = {
    "16 bits, PNG": (GREY.astype(np.uint16) * 257, "PNG"),
    "16 bits, TIFF": (GREY.astype(np.uint16) * 257, "TIFF"),
    "16 bits, big-endian TIFF": ((GREY.astype(np.uint16) * 257).astype(">u2"), "TIFF"),
    "16 bits, PGM": (GREY.astype(np.uint16) * 257, "PPM"),
    "8 bits in 32, TIFF": (GREY.astype(np.int32), "TIFF"),
    "16 bits in 32, TIFF": (GREY.astype(np.int32) * 257, "TIFF"),
    "24 bits in 32, TIFF": (GREY.astype(np.int32) * 65793, "TIFF"),
    "floats to 1, TIFF": ((GREY / 255).astype(np.float32), "TIFF"),
    "floats to 255, TIFF": (GREY.astype(np.float32), "TIFF"),
    "floats to 65535, TIFF": (GREY.astype(np.float32) * 257, "TIFF"),
    "floats to 100,000, TIFF": ((GREY / 255 * 1e5).astype(np.float32), "TIFF"),
    "floats from -1 to 1, TIFF": ((GREY / 127.5 - 1).astype(np.float32), "TIFF"),
    "floats from -1000 to 3000, TIFF": ((GREY / 255 * 4000 - 1000).astype(np.float32), "TIFF"),
    "floats to 1, PFM": ((GREY / 255).astype(np.float32), "PPM"),
}


@cases.each("depth", DEPTHS)
def test_greys_of_more_than_8_bits_are_scaled(depth):
    values, form = DEPTHS[depth]
    raw = picture_file(Image.fromarray(values), form)
    assert distance(decoded(raw), GREY) <= 1
    assert distance(decoded(raw, 3), np.stack([GREY] * 3, axis=-1)) <= 1


def test_a_dark_picture_of_16_bits_stays_dark():
    """The scale is that of the type and not of the picture."""
    values = GREY.astype(np.uint16) * 26  # a tenth of the range
    assert decoded(picture_file(Image.fromarray(values))).max() == 26
    dark = (GREY / 2550).astype(np.float32)
    assert decoded(picture_file(Image.fromarray(dark), "TIFF")).max() == 26


def test_white_may_be_named():
    """Cameras of 12 bits write files of 16."""
    raw = picture_file(Image.fromarray(GREY.astype(np.uint16) * 16))
    assert decoded(raw).max() == 16
    assert distance(decoded(raw, white=4080), GREY) == 0
    assert decoded(raw, white=2040).max() == 255
    # Pictures of 8 bits have their white, also in a file of 16.
    assert distance(decoded(picture_file(Image.fromarray(GREY.astype(np.uint16)))), GREY) == 0
    assert distance(decoded(picture_file(Image.fromarray(GREY)), white=4080), GREY) == 0


def test_unsigned_32_bits_and_white_is_zero_are_read_right():
    values = GREY.astype(np.uint32) * 16843009
    raw = picture_file(Image.fromarray(values.view(np.int32)), "TIFF")
    raw = with_tag(raw, 339, 2, 1)  # SampleFormat: unsigned
    assert distance(decoded(raw), GREY) <= 1
    inverted = (255 - GREY).astype(np.uint16) * 257
    raw = with_tag(picture_file(Image.fromarray(inverted), "TIFF"), 262, 1, 0)  # WhiteIsZero
    assert distance(decoded(raw), GREY) <= 1


def with_tag(raw: bytes, tag: int, before: int, after: int) -> bytes:
    """A little-endian TIFF in which a tag, a number of 16 bits, has another value."""
    entry = struct.pack("<HHIH", tag, 3, 1, before)
    assert raw.count(entry) == 1
    return raw.replace(entry, struct.pack("<HHIH", tag, 3, 1, after))


def test_floats_that_are_no_numbers_are_refused():
    values = (GREY / 255).astype(np.float32)
    values[3, 5] = np.nan
    with pytest.raises(ValueError, match="mode F cannot be converted: some pixels are no finite"):
        decoded(picture_file(Image.fromarray(values), "TIFF"))


def test_16_bits_of_colour_keep_their_upper_8():
    raw = png_of_16_bits(RGB.astype(np.uint16) * 257, 2)
    assert distance(decoded(raw, 3), RGB) == 0


def png_of_16_bits(values: np.ndarray, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    further = b"".join(chunk(name, content) for name, content in chunks)
    body = further + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


# --- transparency -------------------------------------------------------------------------------


def half_transparent() -> Image.Image:
    """Red in the left half, transparent in the right, with black below."""
    alpha = np.zeros((12, 16), np.uint8)
    alpha[:, :8] = 255
    pixels_ = np.zeros((12, 16, 3), np.uint8)
    pixels_[:, :8] = RED
    return Image.fromarray(np.dstack([pixels_, alpha]))


@cases.each("mode", ["RGBA", "RGBa", "LA", "La", "PA", "P"])
def test_no_mode_shows_what_is_below_transparent_pixels(mode):
    """Some of these are in no file that Pillow writes."""
    image = half_transparent().convert("LA" if mode == "La" else "RGBA")
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    result = np.asarray(pixels._flattened(image, 3, "white", None))
    assert (result[:, 8:] == 255).all()


@cases.each(
    ("mode", "form"),
    [
        ("RGBA", "PNG"),
        ("RGBA", "TIFF"),
        ("RGBA", "WEBP"),
        ("RGBA", "GIF"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("PA", "TIFF"),
    ],
)
@cases.each(("ground", "colour"), [("white", WHITE), ("#102030", (16, 32, 48))])
def test_transparent_pixels_show_the_ground(mode, form, ground, colour):
    image = half_transparent()
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    options = {"lossless": True} if form == "WEBP" else {}
    result = decoded(picture_file(image, form, **options), 3, ground=ground)
    assert distance(result[:, 8:], np.full((12, 8, 3), colour, np.uint8)) <= 1
    red = (60, 60, 60) if mode == "LA" else RED
    assert distance(result[:, :8], np.full((12, 8, 3), red, np.uint8)) <= 1


def test_half_transparent_pixels_are_mixed_with_the_ground():
    pixels_ = np.dstack([RGB, np.full_like(GREY, 51)])  # a fifth
    expected = np.rint(RGB * 0.2 + 255 * 0.8)
    assert distance(decoded(picture_file(Image.fromarray(pixels_)), 3), expected) <= 1
    assert distance(decoded(pixels_, 3), expected) <= 1


@cases.each("depth", ["1", "L", "I;16", "RGB"])
def test_a_transparent_colour_shows_the_ground(depth):
    """tRNS in a PNG names one colour; here it is black, in the left column of the ramp."""
    if depth == "RGB":
        ramp = np.stack([GREY] * 3, axis=-1)
        raw = picture_file(Image.fromarray(ramp), transparency=(0, 0, 0))
    elif depth == "I;16":
        raw = picture_file(Image.fromarray(GREY.astype(np.uint16) * 257), transparency=0)
    else:
        raw = picture_file(Image.fromarray(GREY).convert(depth), transparency=0)
    result = decoded(raw, 3)
    assert (result[:, 0] == 255).all()
    assert (result[:, -1] == 255).all()
    assert (decoded(raw, 3, ground="#ff0000")[:, 0] == (255, 0, 0)).all()


def test_a_transparent_colour_of_16_bits_is_brought_to_8():
    values = RGB.astype(np.uint16) * 257
    key = b"".join(struct.pack(">H", int(level)) for level in values[0, 0])
    result = decoded(png_of_16_bits(values, 2, (b"tRNS", key)), 3)
    assert (result[:, 0] == 255).all()
    assert distance(result[:, 1:], RGB[:, 1:]) == 0


def test_opaque_pixels_stay_as_they_are():
    noise = np.random.default_rng(3).integers(0, 256, (12, 16, 4), np.uint8)
    noise[..., 3] = 255
    assert distance(decoded(picture_file(Image.fromarray(noise)), 3), noise[..., :3]) == 0


# --- colours ------------------------------------------------------------------------------------


@cases.each(
    ("mode", "form", "levels"),
    [
        ("CMYK", "TIFF", 3),
        ("CMYK", "JPEG", 12),
        ("YCbCr", "TIFF", 6),
        ("YCbCr", "JPEG", 12),
        ("LAB", "TIFF", 8),
        ("RGBX", "TIFF", 0),
        ("P", "PNG", 0),
        ("P", "BMP", 0),
        ("P", "GIF", 0),
        ("P", "TIFF", 0),
    ],
)
def test_colours_are_converted(mode, form, levels):
    """The reference picture has few colours, so that a palette holds them all."""
    image = Image.fromarray(RGB)
    image = image.quantize(16, dither=Image.Dither.NONE) if mode == "P" else image.convert(mode)
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    raw = picture_file(image, form, **options)
    expected = np.asarray(image.convert("RGB"))
    assert mode == "LAB" or distance(expected, RGB) <= 8
    assert distance(decoded(raw, 3), expected) <= levels
    grey = np.asarray(Image.fromarray(expected).convert("L"))
    assert distance(decoded(raw, 1), grey) <= max(levels, 1)


@cases.each("form", ["PNG", "BMP", "TIFF", "PPM"])
@cases.each("channels", [1, 3])
def test_ordinary_pictures_keep_their_pixels(form, channels):
    noise = np.random.default_rng(5).integers(0, 256, (13, 17, 3), np.uint8)
    for image in (Image.fromarray(noise), Image.fromarray(noise[..., 0])):
        raw = picture_file(image, form)
        expected = np.asarray(image.convert(pixels.MODES[channels]))
        assert np.array_equal(decoded(raw, channels), expected)


def test_the_bands_are_those_of_the_file():
    for mode, bands in {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "P": 1, "I;16": 1}.items():
        raw = picture_file(Image.new(mode, (8, 8)))
        assert pixels.decoded(raw, 3).bands == bands


# --- orientation --------------------------------------------------------------------------------

# By the number in EXIF, how a reader has to turn the stored pixels.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.swapaxes(stored, 0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.swapaxes(stored, 0, 1), 2),
    8: lambda stored: np.rot90(stored, 1),
    9: lambda stored: stored,  # no such orientation
}


@cases.each("form", ["PNG", "TIFF", "WEBP"])
@cases.each("orientation", TURNS)
def test_pictures_are_turned_upright(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    raw = picture_file(Image.fromarray(RGB), form, exif=exif, **options)
    assert np.array_equal(decoded(raw, 3), TURNS[orientation](RGB))


def test_a_damaged_exif_block_does_not_spoil_a_picture():
    raw = picture_file(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decoded(raw, 3).shape == RGB.shape


# --- what is a picture --------------------------------------------------------------------------


@cases.each(
    "form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "ICO", "DDS", "AVIF"]
)
def test_a_picture_is_known_by_its_content(form):
    try:
        raw = picture_file(Image.fromarray(RGB), form)
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {form} here")
    for name in ("1", "1.dat", "1.txt", "photo.jfif"):
        assert pixels.is_picture(name, raw)
        assert pixels.other_sort(name, raw) is None


@cases.each(
    ("raw", "is_picture"),
    [
        (b"P2\n# made by hand\n3 2\n255\n0 1 2 3 4 5\n", True),
        (b"P5 3 2 255\n012345", True),
        (b"P7\nWIDTH 3\n", True),
        (b"P2 is the second part of the exam\n", False),
        (b"BMW and Audi\n", False),
        (b"MM is a unit\n", False),
    ],
)
def test_a_text_that_begins_like_a_picture_is_none(raw, is_picture):
    assert pixels.is_picture("notes", raw) == is_picture
    if is_picture:
        return
    assert pixels.other_sort("notes", raw) == "text"


@cases.each(
    ("name", "raw", "sort"),
    [
        ("README", b"how the pictures were taken\n", "text"),
        ("LIESMICH", "Übelkrähe\n".encode("cp1252"), "text"),
        ("notes", "Übelkrähe\n".encode("utf-16"), "text"),
        ("labels.csv", b"path,class\n", "other"),
        ("paper", b"%PDF-1.7\n\x00\x01", "other"),
        ("more", b"PK\x03\x04\x14\x00", "other"),
        ("film", b"\0\0\0\x18ftypmp42", "other"),
        ("sound", b"RIFF\x24\0\0\0WAVEfmt ", "other"),
        ("annotation.mat", b"\x00\x01\x02", "other"),
        # Damaged or of an unknown form: it is not passed over.
        ("1.jpg", b"", None),
        ("1.JPG", b"<html>404 not found</html>", None),
        ("1.heic", b"\0\0\0\x18ftypheic", None),
        ("1", b"\0\0\0\x18ftypheic", None),
        ("drawing.svg", b"<svg/>", None),
        ("1", bytes(range(256)), None),
        ("1", b"", None),
        ("1.dat", b"\x00\x01\x02", None),
    ],
)
def test_only_what_is_known_to_be_no_picture_is_passed_over(name, raw, sort):
    assert pixels.other_sort(name, raw) == sort


@cases.each(
    ("raw", "message"),
    [
        (b"", "unknown format"),
        (b"<html>404 not found</html>", "unknown format"),
        (b"\0\0\0\x18ftypheic", "HEIC or AVIF, which cannot be read here; save it as JPEG or PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is a drawing; save it as PNG"),
        (random_picture(1, form="JPEG")[:-99], "truncated"),
        (b"II*\0\x08\0\0\0\0\0", "damaged, or of a form that is not read; read are JPEG, PNG, GIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "damaged, or of a form that is not read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS is a drawing"),
        (picture_file(Image.new("1", (8192, 8193)), "PNG"), "8192 x 8193 pixels; the limit is"),
    ],
)
def test_what_cannot_be_decoded_says_why(raw, message):
    with pytest.raises(ValueError, match=message):
        pixels.decoded(raw, 3)


def test_no_picture_starts_ghostscript(monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("it was started"))
    raw = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(raw)).format == "EPS"  # Pillow alone would read it
    with pytest.raises(ValueError, match="EPS is a drawing; save it as PNG"):
        pixels.decoded(raw, 3)
    with pytest.raises(UsageError, match="no picture of a sample could be decoded"):
        guess_pictures(("cats/1.jpg", "dogs/1.jpg"), lambda names: iter([raw] * len(names)))


# --- numbers as pixels --------------------------------------------------------------------------


def test_the_scale_of_arrays():
    ramp = np.linspace(0, 1, 6)
    assert pixels.to_8_bits(ramp).tolist() == [0, 51, 102, 153, 204, 255]
    assert pixels.to_8_bits(np.array([False, True])).tolist() == [0, 255]
    assert pixels.to_8_bits(np.array([0, 1, 255])).tolist() == [0, 1, 255]
    assert pixels.to_8_bits(np.array([0, 257, 65535], np.uint16)).tolist() == [0, 1, 255]
    assert pixels.to_8_bits(np.array([0, 8, 16]), white=16).tolist() == [0, 128, 255]
    assert pixels.to_8_bits(np.array([-1.0, 0, 1])).tolist() == [0, 128, 255]
    assert pixels.to_8_bits(np.array([-0.5, 0.5])).tolist() == [64, 191]
    assert pixels.to_8_bits(np.zeros(3)).tolist() == [0, 0, 0]
    assert pixels.to_8_bits(np.full(3, -7)).tolist() == [0, 0, 0]
