"""Pictures decoded: each is cut to its largest centred square and scaled to `size` pixels.

That is done in training and when a picture is answered, so the aspect ratio is kept.
"""

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image

from ....errors import DataError
from ... import pixels
from ..columns import Columns
from .pictures import Content


def square(raw: Content, columns: Columns, name: str) -> np.ndarray:
    """Return the largest centred square of a picture, scaled: uint8 (size, size, channels).

    Raises DataError, beginning with `name`, for a picture that cannot be decoded or is too small.
    """
    try:
        image, _ = pixels.decoded(raw, columns.channels, columns.ground, columns.white)
    except ValueError as error:
        raise Undecodable(
            f"{name} cannot be decoded as a picture ({error}); replace it, or remove it"
        ) from None
    width, height = image.size
    short = min(width, height)
    if short < columns.smallest:
        raise DataError(
            f"{name} is {width} x {height} pixels; expected at least {columns.smallest} on the"
            " short side; replace it, or remove it"
        )
    left = (width - short) / 2
    top = (height - short) / 2
    scaled = image.resize(
        (columns.size, columns.size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
    )
    return np.asarray(scaled).reshape(columns.size, columns.size, columns.channels)


class Undecodable(DataError):
    """A picture that cannot be decoded."""


def is_decodable(raw: Content, columns: Columns) -> bool:
    """Whether the content of a picture can be decoded as conf says."""
    try:
        pixels.decoded(raw, columns.channels, columns.ground, columns.white)
    except ValueError:
        return False
    return True


def png(image: np.ndarray) -> bytes:
    """Return an image as a PNG file, which decodes to the same pixels."""
    file = io.BytesIO()
    is_grey = image.shape[2:] == (1,)
    Image.fromarray(image[..., 0] if is_grey else image).save(file, "PNG")
    return file.getvalue()


def to_base64(rows: pd.DataFrame) -> list[str]:
    """Return each picture's file in base64; a prepared square as PNG if there is no file."""
    contents = rows["raw"] if "raw" in rows else rows["image"]
    return [base64.b64encode(file_of(content)).decode() for content in contents]


def file_of(content: Content) -> bytes:
    """The file of a picture; a PNG of one that comes from an array."""
    return png(content) if isinstance(content, np.ndarray) else content
