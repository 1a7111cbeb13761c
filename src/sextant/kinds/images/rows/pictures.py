"""What reading gives: the pictures of a data set, and what was left out of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from ...parts import Label

LISTED = 10  # paths that a message lists

# The content of a picture: the bytes of its file; uint8 (height, width[, channels]) from an array.
Content: TypeAlias = bytes | np.ndarray


class Picture(NamedTuple):
    """One row of `Raw.pictures`."""

    path: str
    label: Label
    test: bool  # whether the source reserves it for testing
    key: str | None  # None: the index does not list it
    raw: Content


class Raw(NamedTuple):
    """The pictures of a folder.

    pictures: one row each: `path`, the class, `test`, `key` and `raw`.
    left_out: by rule of `leave_out`, the paths of the pictures that it leaves out.
    aside: by sort, the number of files that are no pictures.
    """

    pictures: pd.DataFrame
    left_out: dict[str, list[str]]
    aside: dict[str, int]


def counted(aside: Mapping[str, int]) -> str:
    """Numbers of files by sort for a message, such as `2 system, 1 text`."""
    return ", ".join(f"{count:,} {sort}" for sort, count in sorted(aside.items()))


def listed(paths: Sequence[str]) -> str:
    """Paths for a message, the first LISTED of them."""
    text = ", ".join(paths[:LISTED])
    return f"{text}, …" if len(paths) > LISTED else text
