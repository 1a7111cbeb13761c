"""Tables as rows: read, repaired, split into four parts and written."""

from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import DataError
from ..parts import PARTS, Label, check_labelled_parts, class_labels, first_row
from ..splits import SEPARATOR, HashSplit, parts_by_hash
from ..tables import check_columns, data_files, read_table
from .columns import Columns

# --- from raw files to four parts ---------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """Return all files of `folder` as one frame in upstream columns.

    Only the empty cell and `unknown` are missing values. A numeric column with text in it stays
    text, so that the expectations can report it.
    Raises DataError for an empty or unreadable file and for a missing column.
    """
    frames = []
    for path in data_files(folder):
        rows = read_rows(path, columns)
        check_columns(rows, columns.all, path.name)
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Return one file of rows, whatever columns it has: Parquet, JSON records, or delimited text.

    Raises DataError for a file that does not exist, is empty, or is not a table.
    """
    return read_table(path, columns.delimiter, columns.names, columns.unknown, columns.all)


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the table that the expectations check: the rows as they were read."""
    return raw


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the rows with numeric columns as numbers and each categorical column in one type.

    Columns without a role are dropped; values are never scaled.
    Raises DataError for text or infinity in a numeric column and for a row without a label.
    """
    rows = raw[[name for name in raw.columns if name in columns.all]].copy()
    for name in columns.numeric:
        rows[name] = to_numbers(rows[name], name)
    for name in columns.categorical:
        # A column of numbers stays one, which makes the file smaller; `to_levels` reads both forms.
        is_number = pd.api.types.is_numeric_dtype(rows[name])
        if not is_number or pd.api.types.is_bool_dtype(rows[name]):
            rows[name] = to_levels(rows[name])
    if columns.target is not None:
        unlabelled = int(rows[columns.target].isna().sum())
        if unlabelled:
            raise DataError(
                f"{unlabelled} rows have no `{columns.target}`; label them, or remove them from the"
                " file"
            )
    return rows


def to_numbers(column: pd.Series, name: str) -> pd.Series:
    """Return a column as numbers, NaN if a value is missing.

    Raises DataError for text and infinity.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    is_text = numbers.isna() & column.notna()
    invalid = np.isinf(numbers.to_numpy(float)) | is_text
    if invalid.any():
        row = first_row(invalid)
        raise DataError(
            f"row {row} has {column.tolist()[row - 1]!r} in `{name}`; expected a finite number;"
            " correct the row"
        )
    return numbers


def to_levels(column: pd.Series) -> pd.Series:
    """Return categories as text, missing ones as None."""
    levels = [_level(value) for value in column]
    return pd.Series(levels, index=column.index, dtype=object)


def _level(value: Label | None) -> str | None:
    """The text of a category, None for a missing one.

    pandas turns a column of whole numbers into floats if one is missing, so 1.0 is the level "1".
    """
    if pd.isna(value):
        return None
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    return str(value)


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Return the four parts, by a salted hash of the key, or of the whole row if there is no key.

    The part of a row depends on that row alone, so that it never changes as the table grows: cells
    are hashed as the text of `to_levels`, since a column's type depends on all its rows.
    """
    part_index = parts_by_hash(_keys(rows, columns), split)
    parts = {}
    for index, part in enumerate(PARTS):
        parts[part] = rows[part_index == index].reset_index(drop=True)
    return parts


def _keys(rows: pd.DataFrame, columns: Columns) -> list[str]:
    names = list(rows.columns)
    if columns.key is not None:
        names = [columns.key]
    keys = []
    for cells in zip(*[to_levels(rows[name]) for name in names], strict=True):
        keys.append(SEPARATOR.join(cell or "" for cell in cells))
    return keys


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a key is in two parts, or a part has no row or lacks a class."""
    check_labelled_parts(parts, columns.key, columns.target)


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part to `path`.parquet; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Return a part that `write` wrote."""
    return pd.read_parquet(path.with_suffix(".parquet"))


# --- the profile --------------------------------------------------------------------------------


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Return a summary of the training rows as JSON.

    `columns`: range and moments of each numeric column, counts of each level and class;
    `classes`: the labels.
    """
    train = parts["train"]
    summaries: dict[str, dict[str, float] | dict[str, int]] = {}
    for name in columns.numeric:
        summaries[name] = _range(train[name])
    counted = list(columns.categorical)
    if columns.target is not None:
        counted.append(columns.target)
    for name in counted:
        counts = train[name].value_counts().sort_index()
        summaries[name] = {str(level): int(count) for level, count in counts.items()}
    return {"columns": summaries, "classes": class_labels(train, columns.target)}


def _range(numbers: pd.Series) -> dict[str, float]:
    statistics = {
        "min": numbers.min(),
        "median": numbers.median(),
        "mean": numbers.mean(),
        "max": numbers.max(),
        "std": numbers.std(),
    }
    # The last digits of a float64 differ between processors; profile.json should not.
    return {name: round(float(value), 9) for name, value in statistics.items()}
