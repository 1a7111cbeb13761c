"""The twin of a set of clips: small signs in IDX files, which reading sets in motion.

Its planted signal is motion: which way the signs move is drawn apart from where they are, and no
single frame shows it.
"""

import gzip
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ...errors import UsageError
from ...strict import Seed, Strict
from .columns import Columns, Digits

LEAST, MOST = 0.6, 1.0  # the range of a shape's brightness


class Twin(Strict):
    """The stand-in of a set of clips made of pictures.

    seed: of all draws.
    pictures: how many, by file.
    side: of a picture, in pixels.
    """

    seed: Seed
    pictures: dict[str, Annotated[int, Field(ge=1, le=1_000_000)]]
    side: Annotated[int, Field(ge=5, le=64)]


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder`: IDX files of pictures of strokes, which `read` makes clips of.

    Raises UsageError for another format.
    """
    files = columns.files
    if not isinstance(files, Digits):
        raise UsageError(
            f"a twin of clips has no files of format `{files.format}`; write `digits`, or"
            " `twin: null`"
        )
    rng = np.random.default_rng(twin.seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*files.train, *files.test]:
        _write_idx(folder / name, shapes(twin.pictures[name], twin.side, rng))


def shapes(count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """White signs of two strokes on black, one upright and one level, uint8 (count, side, side).

    Where the strokes are, and how bright, is random, so that signs differ as digits do; they are a
    seventh of the side thick, and a margin as wide stays black.
    """
    thick = max(1, side // 7)
    inside = slice(thick, side - thick)
    images = np.zeros((count, side, side), np.uint8)
    brightness = 255 * rng.uniform(LEAST, MOST, (count, 2))
    places = rng.integers(thick, side - 2 * thick + 1, (count, 2))
    for image, (upright, level), (along, down) in zip(images, brightness, places, strict=True):
        image[inside, along : along + thick] = upright
        stroke = image[down : down + thick, inside]
        np.maximum(stroke, np.uint8(level), out=stroke)
    return images


def _write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes in the format that rows/ reads."""
    header = bytes([0, 0, 8, array.ndim])
    for length in array.shape:
        header += length.to_bytes(4, "big")
    raw = header + array.tobytes()
    if path.suffix == ".gz":
        raw = gzip.compress(raw, mtime=0)  # without the time, so that the bytes stay the same
    path.write_bytes(raw)
