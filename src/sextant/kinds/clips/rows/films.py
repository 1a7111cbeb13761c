"""The frames of one clip: of a folder of pictures, a GIF, a film such as an MP4, or an array."""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from ....errors import DataError, describe
from ... import pixels
from ..columns import Columns

ANIMATIONS = (".gif", ".apng")  # that Pillow reads
FILMS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")  # that PyAV reads
NUMPY_START = b"\x93NUMPY"
ANIMATION_STARTS = (b"GIF87a", b"GIF89a", b"\x89PNG\r\n\x1a\n")
GIF_END = b"\x3b"
NUMBER = re.compile(r"\d+")
MAX_FRAMES = 10_000  # of a clip, which can be a small file that takes all memory
SHOWN = 200  # characters of an error in a message


class Film(NamedTuple):
    """The frames of a clip, uint8 (frames, size, size, channels), and the size that they had."""

    frames: np.ndarray
    width: int
    height: int


def is_film(name: str) -> bool:
    """Whether a file has the frames of a whole clip, by its name."""
    return PurePosixPath(name).suffix.lower() in (*ANIMATIONS, *FILMS)


def from_pictures(pictures: Sequence[tuple[str, bytes]], columns: Columns, name: str) -> Film:
    """The clip of a folder, from the path and the content of each picture.

    Raises DataError, beginning with `name`, for a missing or repeated number among the names, a
    picture that cannot be decoded, and pictures of two sizes.
    """
    images = []
    for path, raw in _in_order(pictures, name):
        try:
            images.append(pixels.decoded(raw, columns.channels).image)
        except ValueError as error:
            frame = PurePosixPath(path).name
            raise DataError(
                f"{name}: frame {frame} cannot be decoded as a picture ({error}); replace it"
            ) from None
    return _film(images, columns, name)


def from_file(raw: bytes, columns: Columns, name: str) -> Film:
    """The clip in a GIF, an animated PNG, a film or a .npy file, by its content.

    Raises DataError, beginning with `name`, for a file that cannot be decoded.
    """
    if raw.startswith(NUMPY_START):
        return from_array(_read_array(raw, name), columns, name)
    if raw.startswith(ANIMATION_STARTS):
        return _film(_animation(raw, columns, name), columns, name)
    return _film(_decoded_film(raw, columns, name), columns, name)


def from_array(frames: np.ndarray, columns: Columns, name: str) -> Film:
    """The clip of an array, uint8 (frames, height, width[, channels])."""
    is_shaped = frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] in (1, 3))
    if frames.dtype != np.uint8 or not is_shaped or not frames.size:
        raise DataError(
            f"{name} has {frames.dtype} in the shape {frames.shape}; expected uint8 (frames,"
            " height, width), with or without channels"
        )
    images = []
    for frame in frames:
        images.append(pixels.decoded(frame, columns.channels).image)
    return _film(images, columns, name)


def check_length(frames: np.ndarray, least: int, name: str) -> None:
    """Raise DataError for a clip with one frame, or fewer than `least`."""
    if len(frames) < least:
        count = "one frame" if len(frames) == 1 else f"{len(frames)} frames"
        raise DataError(
            f"{name} has {count}; expected at least {least}; give a longer clip, or lower `past`"
            " and `future` in the conf"
        )


# --- the order of pictures ----------------------------------------------------------------------


def _in_order(pictures: Sequence[tuple[str, bytes]], name: str) -> list[tuple[str, bytes]]:
    """The pictures by the last number of their names; by name where one has no number."""
    by_number: dict[int, tuple[str, bytes]] = {}
    for path, raw in sorted(pictures):
        numbers = NUMBER.findall(PurePosixPath(path).stem)
        if not numbers:
            return sorted(pictures)
        number = int(numbers[-1])
        if number in by_number:
            first = PurePosixPath(by_number[number][0]).name
            raise DataError(
                f"{name} has frame {number} twice, {first} and {PurePosixPath(path).name}; remove"
                " one of them"
            )
        by_number[number] = (path, raw)
    numbers_present = sorted(by_number)
    for number in range(numbers_present[0], numbers_present[-1]):
        if number not in by_number:
            raise DataError(
                f"{name} lacks frame {number}: its frames are numbered from {numbers_present[0]} to"
                f" {numbers_present[-1]}; add it, or number the frames anew"
            )
    return [by_number[number] for number in numbers_present]


# --- decode -------------------------------------------------------------------------------------


def _read_array(raw: bytes, name: str) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception as error:  # damaged headers raise errors of a dozen types
        raise DataError(
            f"{name} cannot be read as an array ({describe(error)[:SHOWN]}); write it again"
        ) from None
    return np.asarray(array)


def _animation(raw: bytes, columns: Columns, name: str) -> list[Image.Image]:
    """The frames of a GIF or an animated PNG."""
    try:
        # Pillow takes a GIF that was cut between two frames for a whole one.
        if raw.startswith(b"GIF") and not raw.rstrip(b"\0").endswith(GIF_END):
            raise EOFError("its end is missing")
        images: list[Image.Image] = []
        for frame in ImageSequence.Iterator(pixels.opened(raw)):
            if len(images) == MAX_FRAMES:
                raise ValueError(f"it has more than {MAX_FRAMES:,} frames")
            images.append(frame.convert("RGB").convert(pixels.MODES[columns.channels]))
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise _undecodable(name, "a GIF or an animated PNG", error) from None
    return images


def _decoded_film(raw: bytes, columns: Columns, name: str) -> list[Image.Image]:
    """The frames of a film, by PyAV."""
    try:
        import av
    except ImportError:
        raise DataError(
            f"{name} is a film, and PyAV is not installed, which reads it; `pip install"
            " 'sextant[video]'`, or give the clip as a GIF or a folder of frames"
        ) from None
    form = "gray" if columns.channels == 1 else "rgb24"
    images: list[Image.Image] = []
    try:
        with av.open(io.BytesIO(raw), mode="r") as container:
            for frame in container.decode(video=0):
                if len(images) == MAX_FRAMES or frame.width * frame.height > pixels.MAX_PIXELS:
                    raise ValueError(
                        f"it has more than {MAX_FRAMES:,} frames, or frames of more than"
                        f" {pixels.MAX_PIXELS:,} pixels"
                    )
                images.append(Image.fromarray(frame.to_ndarray(format=form)))
    except av.FFmpegError as error:  # its message has the number of the error and no file
        raise _undecodable(name, "a film", DataError(error.strerror)) from None
    except Exception as error:  # PyAV raises errors of many types, and IndexError without a picture
        raise _undecodable(name, "a film", error) from None
    return images


def _undecodable(name: str, sort: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:SHOWN] or type(error).__name__
    if isinstance(error, IndexError):  # of PyAV, for a file of sound alone
        reason = "it has no frames"
    elif "cannot identify" in reason:  # Pillow names an object in memory
        reason = "damaged, or of an unknown form"
    return DataError(f"{name} cannot be decoded as {sort} ({reason}); replace it, or remove it")


def _film(images: Sequence[Image.Image], columns: Columns, name: str) -> Film:
    """Frames cut to their largest centred square and scaled; raises DataError for two sizes."""
    if not images:
        raise DataError(f"{name} has no frame; replace it, or remove it")
    width, height = images[0].size
    for number, image in enumerate(images):
        if image.size != (width, height):
            raise DataError(
                f"{name} has frames of two sizes: the first is {width} x {height} pixels, frame"
                f" {number + 1} of them {image.size[0]} x {image.size[1]}; bring them to one"
            )
    size = columns.size or width
    frames = np.empty((len(images), size, size, columns.channels), np.uint8)
    for place, square in enumerate(_squares(images, size)):
        frames[place] = np.asarray(square).reshape(size, size, columns.channels)
    return Film(frames, width, height)


def _squares(images: Sequence[Image.Image], size: int) -> Iterator[Image.Image]:
    width, height = images[0].size
    if (width, height) == (size, size):
        yield from images
        return
    short = min(width, height)
    left = (width - short) / 2
    top = (height - short) / 2
    box = (left, top, left + short, top + short)
    for image in images:
        yield image.resize((size, size), Image.Resampling.BICUBIC, box=box)
