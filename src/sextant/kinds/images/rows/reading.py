"""The pictures of a data set from its files, and what a rule of the conf leaves out of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ....errors import DataError
from ....terminal import progress
from ..columns import Arrays, Columns, Idx, Pixels
from .array_files import array_pictures, idx_pictures
from .folders import folder_pictures
from .pictures import Picture, Raw, counted, listed
from .pixel_tables import table_pictures
from .squares import is_decodable


def read(folder: Path, columns: Columns) -> Raw:
    """Return one row a picture: `path`, the class, `test`, `key` and `raw`; by path from folders.

    `raw` is the file's bytes, or from arrays and tables uint8 (height, width[, channels]). Nothing
    is decoded yet, unless undecodable pictures are to be left out.
    Raises DataError for a file that is missing, cannot be opened, or has a path outside its folder.
    """
    files = columns.files
    aside: Counter[str] = Counter()
    if isinstance(files, Idx):
        pictures = idx_pictures(folder, files)
    elif isinstance(files, Arrays):
        pictures = array_pictures(folder, files, columns.white)
    elif isinstance(files, Pixels):
        pictures = table_pictures(folder, files, columns)
    else:
        pictures = folder_pictures(folder, files, columns, aside)
    if not pictures:
        remark = ""
        if aside:
            remark = f" ({counted(aside)} in it)"
        raise DataError(
            f"{folder} has no pictures in the folders of `columns.files`{remark}; run `make pull`,"
            " or correct `columns.files` in the conf"
        )
    left_out = {}
    if "undecodable" in columns.leave_out:
        left_out["undecodable"] = _undecodable(pictures, columns)
    if "repeated" in columns.leave_out:
        left_out["repeated"] = _repeated(pictures)
    paths = set().union(*left_out.values())
    remaining = [picture for picture in pictures if picture.path not in paths]
    names = ["path", columns.target, "test", "key", "raw"]
    return Raw(pd.DataFrame(remaining, columns=names), left_out, dict(aside))


def passed_over(raw: Raw) -> dict[str, object]:
    """Return what reading left out, as JSON: paths by rule of conf, the numbers of other files."""
    counts: dict[str, object] = {rule: paths for rule, paths in raw.left_out.items() if paths}
    if raw.aside:
        counts["no pictures"] = raw.aside
    return counts


def _undecodable(pictures: Sequence[Picture], columns: Columns) -> list[str]:
    """The paths of the pictures that cannot be decoded; raises DataError for too many of them."""
    paths = []
    for picture in progress(pictures, "decoding", "pictures"):
        if not is_decodable(picture.raw, columns):
            paths.append(picture.path)
    if len(paths) > columns.undecodable_share * len(pictures):
        raise DataError(
            f"{len(paths):,} of {len(pictures):,} pictures cannot be decoded: {listed(paths)};"
            f" expected a share of at most {columns.undecodable_share:g}; pull them again, or"
            " change `undecodable_share` in the conf"
        )
    return paths


def _repeated(pictures: Sequence[Picture]) -> list[str]:
    """The paths of the pictures for training that are also among those for testing."""
    test_keys = {picture.key for picture in pictures if picture.test} - {None}
    return [picture.path for picture in pictures if not picture.test and picture.key in test_keys]
