"""Pictures and labels as arrays: IDX files, NumPy's files, and arrays of any type as uint8."""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import DataError, describe
from . import pixels

IDX_START = b"\0\0\x08"  # an array of unsigned bytes
GZIP_START = b"\x1f\x8b"
REMEDY = "pull it again, or correct `columns.files` in the conf"
SHOWN = 200  # characters of an error in a message; some list the bytes of a damaged header


# --- IDX files ----------------------------------------------------------------------------------


def is_idx(path: Path) -> bool:
    """Return whether a file begins as IDX files of bytes do, plain or gzipped."""
    with path.open("rb") as stream:
        start = stream.read(len(IDX_START))
    if not start.startswith(GZIP_START):
        return start == IDX_START
    try:
        with gzip.open(path) as stream:
            return stream.read(len(IDX_START)) == IDX_START
    except (EOFError, OSError, zlib.error):
        return False


def read_idx(path: Path, dimensions: tuple[int, ...]) -> np.ndarray:
    """The array in an IDX file, plain or gzipped, with one of these numbers of dimensions.

    The format of MNIST (yann.lecun.com/exdb/mnist): 0, 0, 8 for unsigned bytes, the number of
    dimensions, each dimension as a big-endian 32-bit number, the bytes.
    """
    try:
        raw = path.read_bytes()
        if raw.startswith(GZIP_START):
            raw = gzip.decompress(raw)
    except FileNotFoundError:
        raise DataError(f"{path.name} does not exist; {REMEDY}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path.name} is not a complete gzip file ({error}); {REMEDY}") from None
    if not raw.startswith(IDX_START) or len(raw) < 4 or raw[3] not in dimensions:
        expected = " or ".join(f"0000080{number}" for number in dimensions)
        raise DataError(
            f"{path.name} begins with {raw[:4].hex() or 'nothing'}; expected an IDX file of bytes,"
            f" {expected}; {REMEDY}"
        )
    start = 4 + 4 * raw[3]
    shape = []
    for position in range(4, start, 4):
        shape.append(int.from_bytes(raw[position : position + 4], "big"))
    # dtype=object: Python's integers, since the product of a damaged header may exceed 64 bits.
    if len(raw) - start != np.prod(shape, dtype=object):
        raise DataError(
            f"{path.name} has {len(raw) - start:,} bytes of pixels or labels; expected"
            f" {' x '.join(map(str, shape))}; {REMEDY}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


# --- NumPy's files ------------------------------------------------------------------------------


def read_numpy(folder: Path, file: str | None, name: str) -> np.ndarray:
    """Return the array `name` of a .npz file, or that in the .npy file `name` if `file` is None.

    Raises DataError for a file that does not exist, is damaged, or lacks the array.
    """
    path = folder / (name if file is None else file)
    key = path.name if file is None else name
    with _opened(path) as arrays:
        if key not in arrays:
            names = ", ".join(arrays)
            raise DataError(f"{path.name} has no array {key}; it has {names}; {REMEDY}")
        array = arrays[key]
        if not isinstance(array, np.ndarray):  # a zip of other files, whose bytes NumPy returns
            raise DataError(f"{path.name}/{key} is no array of NumPy; {REMEDY}")
        return array


def names_of(path: Path) -> list[str]:
    """Return the names of the arrays in a .npz file; raises DataError for a damaged one."""
    with _opened(path) as arrays:
        return list(arrays)


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a .npz file by name, each read when it is asked for; of a .npy file its one, by
    the name of the file.

    Python's objects are refused, since they would run code.
    """
    if not path.is_file():
        raise DataError(f"{path.name} does not exist; {REMEDY}")
    try:
        with path.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            yield {path.name: content} if isinstance(content, np.ndarray) else content
    except DataError:
        raise
    except Exception as error:  # damaged headers raise errors of a dozen types
        reason = describe(error)[:SHOWN]
        raise DataError(f"{path.name} cannot be read as arrays ({reason}); {REMEDY}") from None


def as_pictures(array: np.ndarray, name: str, white: float | None) -> np.ndarray:
    """Pictures as uint8 (pictures, height, width[, channels])."""
    if array.dtype.kind not in "buif" or array.ndim not in (3, 4):
        raise DataError(
            f"{name} has {array.dtype} in the shape {array.shape}; expected numbers as (pictures,"
            " height, width), with or without channels; correct `columns.files` in the conf"
        )
    if array.ndim == 4:
        array = channels_last(array, name)
    return as_8_bits(array, name, white)


def channels_last(array: np.ndarray, name: str) -> np.ndarray:
    """(pictures, height, width, channels) from an array that may have the channels second."""
    if array.shape[3] in (1, 3, 4):
        return array
    if array.shape[1] in (1, 3, 4):
        return array.transpose(0, 2, 3, 1)
    raise DataError(
        f"{name} has the shape {array.shape}; expected 1, 3 or 4 channels at the end or after the"
        " number of pictures; correct `columns.files` in the conf"
    )


def as_8_bits(array: np.ndarray, name: str, white: float | None) -> np.ndarray:
    """Pictures as uint8 of the same shape; raises DataError if it is not clear what is white."""
    if array.dtype == np.uint8 and white is None:
        return array
    scaled = np.empty(array.shape, np.uint8)
    whites: dict[float, int] = {}
    for i, picture in enumerate(array):
        try:
            scaled[i] = pixels.to_8_bits(picture, white)
        except ValueError as error:
            raise DataError(f"{name}/{i} cannot be used ({error}); correct it") from None
        if picture.any():  # in one that is black, all would do
            whites.setdefault(pixels.white_of(picture), i)
    if white is None and len(whites) > 1:
        (first, i), (second, j) = list(whites.items())[:2]
        raise DataError(
            f"{name} is not of one scale: picture {i} reaches up to {first:g}, picture {j} up to"
            f" {second:g}; set `columns.white` in the conf to the value that is white"
        )
    return scaled
