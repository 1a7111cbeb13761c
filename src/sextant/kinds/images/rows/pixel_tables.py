"""Pictures in tables with a column for each pixel."""

import fnmatch
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ... import arrays
from ...formats import Format, place, read_table
from ...levels import text_of
from ...numbers import to_numbers
from ...parts import Label
from ..columns import Columns, Pixels
from .array_files import paired
from .pictures import Picture, listed


def table_pictures(folder: Path, files: Pixels, columns: Columns) -> list[Picture]:
    """The pictures of tables, a row each."""
    pictures = []
    for test, names in ((False, files.train), (True, files.test)):
        for name in names:
            path = folder / name
            rows = _plain_rows(path, files)
            if rows is None:
                rows = read_table(path, files, [columns.target, files.pixels]).rows
            if columns.target not in rows:
                raise DataError(
                    f"{name} lacks column {columns.target}; found {listed(list(map(str, rows)))};"
                    " correct `target` in the conf"
                )
            labels: list[Label] = []
            for position, value in enumerate(rows[columns.target]):
                text = text_of(value)
                if text is None:
                    where = place(rows, position)
                    raise DataError(f"{where} has no `{columns.target}`; correct it")
                labels.append(text)
            images = table_images(rows, files, name, columns.white)
            pictures += paired(name, images, name, labels, test)
    return pictures


def _plain_rows(path: Path, files: Pixels) -> pd.DataFrame | None:
    """The rows of a text file in which each pixel is a plain number, and nothing is missing.

    None if there is anything else in it, which `read_table` reads, or refuses by its line. MNIST as
    CSV, 47 million cells, takes a twentieth of the time and of the memory here.
    """
    form = files.model_dump(include=set(Format.model_fields))
    is_text = path.suffix.lower() in (".csv", ".tsv", ".txt") and len(files.delimiter) == 1
    if not is_text or form != Format(delimiter=files.delimiter).model_dump():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            line = stream.readline().strip()
        header = [name.strip().strip('"').strip() for name in line.split(files.delimiter)]
        is_pixel = [fnmatch.fnmatchcase(name, files.pixels) for name in header]
        dtypes = {}
        for name, is_number in zip(header, is_pixel, strict=True):
            dtypes[name] = np.float32 if is_number else str
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pandas cuts rows that are too long, with a warning
            rows = pd.read_csv(
                path,
                sep=files.delimiter,
                header=None,
                names=header,
                skiprows=1,
                index_col=False,
                dtype=dtypes,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except (ValueError, OSError, Warning):
        return None
    texts = rows.loc[:, [not is_number for is_number in is_pixel]]
    numbers = rows.loc[:, is_pixel]
    has_gaps = texts.isna().any(axis=None) or not np.isfinite(numbers.to_numpy()).all()
    if has_gaps or rows.empty or not any(is_pixel):
        return None
    for column in texts:
        if texts[column].str.contains('^\\s*$|[\n\r"]').any():
            return None
        rows[column] = texts[column].str.strip()
    return rows


def table_images(rows: pd.DataFrame, files: Pixels, name: str, white: float | None) -> np.ndarray:
    """The pictures of a table as uint8 (rows, height, width[, channels])."""
    names = _pixel_names(rows, files)
    shape = _pixel_shape(len(names), files, name)
    values = np.empty((len(rows), len(names)), np.float32)
    with np.errstate(over="ignore"):  # what exceeds a float32 is refused as infinite
        for i, column in enumerate(names):
            values[:, i] = _numbers(rows[column], column, files)
    if (values == np.rint(values)).all() and np.abs(values).max(initial=0) < 2**31:
        values = values.astype(np.int32)  # whole numbers do not end at 1
    array = values.reshape(len(rows), *shape)
    if len(shape) == 3:
        array = arrays.channels_last(array, name)
    return arrays.as_8_bits(array, name, white)


def _numbers(column: pd.Series, name: str, files: Pixels) -> np.ndarray:
    """A column of pixels; raises DataError for a cell that is no finite number."""
    if files.decimal == "." and files.thousands is None:
        # A hundred times as fast, for columns of plain numbers, as nearly all are.
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
        if np.isfinite(numbers).all():
            return numbers
    numbers = to_numbers(column, name, files).to_numpy(float)
    if np.isnan(numbers).any():
        where = place(column, int(np.flatnonzero(np.isnan(numbers))[0]))
        raise DataError(f"{where} has no `{name}`; expected a pixel; correct it")
    return numbers


def _pixel_names(rows: pd.DataFrame, files: Pixels) -> list[str]:
    """The columns of the pixels in their order."""
    names = [str(name) for name in rows if fnmatch.fnmatchcase(str(name), files.pixels)]
    if not names:
        raise DataError(
            f"no column is like {files.pixels}; found {listed(list(map(str, rows)))}; correct"
            " `columns.files.pixels` in the conf"
        )
    numbers = [re.search(r"\d+$", name) for name in names]
    if all(numbers):
        order = np.argsort([int(match[0]) for match in numbers if match], kind="stable")
        names = [names[i] for i in order]
    return names


def _pixel_shape(number: int, files: Pixels, name: str) -> list[int]:
    shape = files.shape
    if shape is None:
        shape = [math.isqrt(number)] * 2
    if math.prod(shape) != number:
        raise DataError(
            f"{name} has {number:,} columns like {files.pixels}; expected"
            f" {' x '.join(map(str, shape))}; set `columns.files.shape` in the conf"
        )
    return shape
