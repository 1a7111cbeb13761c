"""Pictures of any mode as grey or RGB pictures of 8 bits, and what is a picture by its content."""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageColor, TiffImagePlugin

MODES = {1: "L", 3: "RGB"}  # Pillow's mode by number of channels
# Pillow's decoders that may run. It has thirty more; the one of EPS starts Ghostscript, which runs
# the program that such a file is.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 2**26  # of a picture: 268 MB while it is decoded in four channels

# The names of pictures, also of those that Pillow does not read: a file with such a name that
# cannot be decoded is a damaged picture and no file of another sort.
PICTURE_SUFFIXES = frozenset(
    ".avif .bmp .cr2 .dib .dng .eps .gif .heic .heif .ico .j2k .jfif .jp2 .jpe .jpeg .jpg .jxl .nef"
    " .pam .pbm .pcx .pfm .pgm .png .pnm .ppm .psd .qoi .svg .tga .tif .tiff .webp".split()
)
PICTURE_STARTS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"\0\0\x01\0",  # ICO
    b"8BPS",  # PSD
    b"qoif",
    b"DDS ",
)
# The brands of HEIC and AVIF, which stand after `ftyp` as those of films do.
PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
# Netpbm: a letter for the form, then width and height, with comments between.
NETPBM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+(#[^\n]*\n\s*)*\d+\s|P7\nWIDTH|P[fF]\s+\d")

# Of files that are no pictures.
OTHER_SUFFIXES = frozenset(
    ".7z .aac .avi .bak .bz2 .c .cfg .csv .db .doc .docx .dvc .flac .gz .h5 .hdf5 .htm"
    " .html .ini .ipynb .joblib .json .jsonl .lnk .log .lst .m .mat .md .md5 .mkv .mov .mp3 .mp4"
    " .mpg .npy .npz .ods .odt .ogg .onnx .parquet .pb .pdf .pickle .pkl .ppt .pptx .pt .pth .py"
    " .rar .rst .rtf .sh .sha1 .sha256 .sqlite .tar .tex .tfrecord .tfrecords .tsv .txt .url .wav"
    " .webm .xls .xlsx .xml .xz .yaml .yml .zip".split()
)
OTHER_STARTS = (
    b"%PDF",
    b"PK\x03\x04",  # zip, also documents
    b"\x1f\x8b",  # gzip
    b"BZh",
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"SQLite format 3\0",
    b"\xd0\xcf\x11\xe0",  # OLE: old documents of Office, Thumbs.db
    b"\0\0\0\x01Bud1",  # .DS_Store
    b"\x89HDF",
    b"\x93NUMPY",
    b"MATLAB 5.0",
    b"\x7fELF",
    b"MZ",
    b"PAR1",
    b"OggS",
    b"ID3",
)
EPS_STARTS = (b"%!PS", b"\xc5\xd0\xd3\xc6")
READ = "JPEG, PNG, GIF, BMP, WebP, TIFF, PPM and PGM"  # FORMATS as messages name them
PIXELS_AT_ONCE = 2**20  # that are scaled as floats, which bounds the memory
TEXT_BYTES = 4096  # at the beginning of a file, which show whether it is text
CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b") | {127}


# --- what is a picture --------------------------------------------------------------------------


def is_picture(name: str, raw: bytes) -> bool:
    """Whether a file is a picture by its content or, if that is damaged, by its name."""
    return has_picture_start(raw) or PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def other_sort(name: str, raw: bytes) -> str | None:
    """The sort of a file that is known to be no picture, `text` or `other`; None if it is not."""
    if is_picture(name, raw):
        return None
    if PurePosixPath(name).suffix.lower() in OTHER_SUFFIXES or _has_other_start(raw):
        return "other"
    return "text" if _is_text(raw) else None


def has_picture_start(raw: bytes) -> bool:
    """Whether a file begins as pictures do."""
    if raw.startswith(PICTURE_STARTS) or NETPBM.match(raw[:TEXT_BYTES]):
        return True
    if raw.startswith(b"BM"):  # so may a text
        return len(raw) > 18 and not _is_text(raw)
    if raw.startswith(b"RIFF"):
        return raw[8:12] == b"WEBP"
    return raw[4:8] == b"ftyp" and raw[8:12] in PICTURE_BRANDS


def _has_other_start(raw: bytes) -> bool:
    return raw.startswith(OTHER_STARTS) or raw.startswith(b"RIFF") or raw[4:8] == b"ftyp"


def _is_text(raw: bytes) -> bool:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):  # the byte order mark of UTF-16
        return True
    return raw != b"" and not CONTROLS.intersection(raw[:TEXT_BYTES])


# --- decode -------------------------------------------------------------------------------------


def opened(raw: bytes) -> Image.Image:
    """Open the bytes of a picture, in one of FORMATS; its pixels are not decoded yet.

    Every picture that is not our own is opened here. Raises ValueError for one of more than
    MAX_PIXELS, and what Pillow raises for a file of no such format.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes that the next line refuses
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels; the limit is {MAX_PIXELS:,} in all")
    return image


class Decoded(NamedTuple):
    """A picture as grey or RGB of 8 bits, upright, and the number of channels of its file."""

    image: Image.Image
    bands: int


def decoded(
    raw: bytes | np.ndarray, channels: int, ground: str = "white", white: float | None = None
) -> Decoded:
    """Decode a picture: the bytes of its file, or uint8 (height, width[, 1, 3 or 4]).

    channels: 1 (grey) or 3 (RGB).
    ground: the colour that transparent pixels show.
    white: the value that is white in a file with more than 8 bits a pixel, see `to_8_bits`.

    Of several frames it is the first. Raises ValueError with the reason.
    """
    if isinstance(raw, np.ndarray):
        is_grey = raw.shape[2:] == (1,)
        image = Image.fromarray(raw[..., 0] if is_grey else raw)
        return Decoded(_flattened(image, channels, ground, white), len(image.getbands()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = opened(raw)
            image.load()
            _correct_transparency(image, raw)
        except Exception as error:  # Pillow's thirty decoders raise errors of many types
            raise ValueError(_reason(error, raw)) from None
        flat = _flattened(image, channels, ground, white)
        return Decoded(_upright(flat, image), len(image.getbands()))


TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(flat: Image.Image, original: Image.Image) -> Image.Image:
    """A picture turned as the EXIF orientation of its file demands."""
    try:
        method = TRANSPOSITIONS.get(original.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block names no orientation; the pixels are whole
        return flat
    return flat if method is None else flat.transpose(method)


def _correct_transparency(image: Image.Image, raw: bytes) -> None:
    """Bring the transparent colour of a PNG to the 8 bits to which Pillow brings its pixels."""
    colour = image.info.get("transparency")
    if image.format != "PNG" or colour is None or isinstance(colour, bytes):
        return
    depth = raw[24]  # of the header, in bits
    if image.mode == "L" and depth in (2, 4):
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16:
        image.info["transparency"] = tuple(level >> 8 for level in colour)


def _reason(error: Exception, raw: bytes) -> str:
    text = " ".join(str(error).split())
    if "identify" not in text:  # "cannot identify image file <_io.BytesIO object at 0x…>"
        return text or type(error).__name__
    if raw[4:8] == b"ftyp" and raw[8:12] in PICTURE_BRANDS:
        return "HEIC or AVIF, which cannot be read here; save it as JPEG or PNG"
    if b"<svg" in raw[:TEXT_BYTES]:
        return "SVG is a drawing; save it as PNG"
    if raw.startswith(EPS_STARTS):
        return "EPS is a drawing; save it as PNG"
    if has_picture_start(raw):
        return f"damaged, or of a form that is not read; read are {READ}; save it as PNG"
    return "unknown format"


# --- to 8 bits ----------------------------------------------------------------------------------


def _flattened(image: Image.Image, channels: int, ground: str, white: float | None) -> Image.Image:
    """A picture of any mode as grey or RGB of 8 bits; raises ValueError if it has no conversion."""
    mode = MODES[channels]
    try:
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image = _deep_grey(image, ground, white)
        elif image.has_transparency_data:
            image = _on_ground(image, ground)
        elif image.mode not in ("1", "L", "RGB"):
            image = image.convert("RGB")
        return image.convert(mode)
    except Exception as error:  # Pillow refuses a conversion with errors of several types
        raise ValueError(f"mode {image.mode} cannot be converted: {error}") from None


def _on_ground(image: Image.Image, ground: str) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # Pillow converts premultiplied greys to no other mode
    layer = image.convert("RGBA")
    below = Image.new("RGBA", layer.size, (*_colour(ground), 255))
    return Image.alpha_composite(below, layer).convert("RGB")


def _colour(ground: str) -> tuple[int, int, int]:
    red, green, blue = ImageColor.getrgb(ground)[:3]
    return red, green, blue


def _deep_grey(image: Image.Image, ground: str, white: float | None) -> Image.Image:
    """A grey picture of 16 or 32 bits, or of floats, in mode L, or in RGB if it is transparent."""
    values = np.asarray(image)
    is_inverted = False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE)
        sample_format = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        is_inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        if bits == (12,) and white is None:
            white = 2**12 - 1
        if bits == (32,) and sample_format == (1,):
            values = values.astype(np.int32).view(np.uint32)  # Pillow reads them as signed
    grey = to_8_bits(values, white)
    if is_inverted:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return Image.fromarray(grey)
    pixels = np.stack([grey] * 3, axis=-1)
    pixels[values == transparent] = _colour(ground)
    return Image.fromarray(pixels)


def to_8_bits(values: np.ndarray, white: float | None = None) -> np.ndarray:
    """Pixels of any type as uint8 of the same shape, scaled so that `white` is 255.

    Without `white` it is `white_of` these pixels. Black is 0, or -1 for pixels from -1 to 1, or the
    lowest pixel if that is below 0. Pixels above `white` are white.
    Raises ValueError for pixels that are no finite numbers.
    """
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8 and white is None:
        return values
    if not np.isfinite(values).all():
        raise ValueError("some pixels are no finite numbers")
    if white is None:
        white = white_of(values)
    black = min(0.0, float(values.min(initial=0)))
    if white == 1 and -1 <= black < 0:
        black = -1.0
    scaled = np.zeros(values.size, np.uint8)
    if white > black:  # otherwise all pixels are the same
        flat = values.reshape(-1)
        for start in range(0, values.size, PIXELS_AT_ONCE):
            chunk = slice(start, start + PIXELS_AT_ONCE)
            levels = (flat[chunk].astype(np.float64) - black) / (white - black) * 255
            scaled[chunk] = np.rint(np.clip(levels, 0, 255))
    return scaled.reshape(values.shape)


def white_of(values: np.ndarray) -> float:
    """The value that is white in pixels of this type and range.

    It is the least of 1 (only for floats), 255 and 65,535 that no pixel exceeds, so that pixels of
    8 bits in a file of 16 are not black; the highest pixel if it exceeds these, or if pixels are
    below -1, as those of tomographs are.
    """
    highest = float(values.max(initial=0))
    lowest = float(values.min(initial=0))
    if values.dtype.kind == "f" and highest <= 1 and lowest >= -1:
        return 1.0
    if lowest < 0:
        return highest
    for step in (255.0, 65535.0):
        if highest <= step:
            return step
    return highest


# --- drift --------------------------------------------------------------------------------------

THUMBNAIL = 8  # pixels of a side
PROJECTIONS = 8
AT_ONCE = 256  # pictures, which bounds the memory


def sampled(rows: int, most: int) -> np.ndarray:
    """The places of at most `most` rows, evenly spaced."""
    return np.unique(np.linspace(0, max(rows - 1, 0), min(rows, most)).round().astype(int))


def quantities(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers of each picture, uint8 (size, size, channels), by name: (pictures,) float64 each.

    Brightness and contrast are mean and standard deviation in 0..1. What a picture shows is
    summarised by PROJECTIONS: fixed random directions, drawn with the seed 0, onto which its grey
    thumbnail of THUMBNAIL x THUMBNAIL pixels is projected after it was standardised. They change if
    other things are shown, or in another place.
    """
    thumbnails = np.concatenate(
        [_thumbnails(images[start : start + AT_ONCE]) for start in range(0, len(images), AT_ONCE)]
    )
    brightness = np.array([image.mean() for image in images]) / 255
    contrast = np.array([image.std() for image in images]) / 255
    flat = thumbnails.reshape(len(thumbnails), -1)
    flat = flat - flat.mean(1, keepdims=True)
    deviation = flat.std(1, keepdims=True)
    flat = np.divide(flat, deviation, out=np.zeros_like(flat), where=deviation > 1e-6)
    directions = np.random.default_rng(0).normal(size=(flat.shape[1], PROJECTIONS))
    projected = flat @ directions / flat.shape[1] ** 0.5
    values = {"brightness": brightness, "contrast": contrast}
    for number in range(PROJECTIONS):
        values[f"projection {number + 1}"] = projected[:, number]
    # The last digits differ between processors.
    return {name: column.round(5) for name, column in values.items()}


def _thumbnails(images: Sequence[np.ndarray]) -> np.ndarray:
    """Grey thumbnails, each pixel the mean of an area: (pictures, side, side) float64."""
    grey = np.stack(images).mean(axis=3, dtype=np.float64)
    for axis in (1, 2):
        size = grey.shape[axis]
        starts = np.arange(min(THUMBNAIL, size)) * size // min(THUMBNAIL, size)
        areas = np.diff(np.append(starts, size))
        shape = [-1 if place == axis else 1 for place in range(3)]
        grey = np.add.reduceat(grey, starts, axis=axis) / areas.reshape(shape)
    return grey


def size_of(raw: bytes | np.ndarray) -> tuple[int, int]:
    """Width and height of a picture; of a file, without decoding its pixels."""
    if isinstance(raw, np.ndarray):
        return int(raw.shape[1]), int(raw.shape[0])
    return opened(raw).size
