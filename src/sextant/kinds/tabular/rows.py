"""Tables as rows: read, repaired, split into four parts and written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...errors import DataError
from ...files import RECEIPT
from ..parts import PARTS
from ..splits import parts_by_hash

if TYPE_CHECKING:
    pass
from ..parts import check_labelled_parts, first_row
from ..tables import read_table
from .columns import Columns

# --- from raw files to four parts -------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """All files of `folder` as one frame in upstream columns; only the empty cell and `unknown` are missing values.

    A column with letters among its numbers stays text, so that the expectations can name it.
    Raises DataError for an empty or unreadable file and for a column that is not there.
    """
    files = sorted(path for path in folder.glob("*") if path.name != RECEIPT)
    if not files:
        raise DataError(f"{folder} holds no file; `make pull` brings them")
    return pd.concat([_read_file(path, columns) for path in files], ignore_index=True)


def _read_file(path: Path, columns: Columns) -> pd.DataFrame:
    rows = read_rows(path, columns)
    missing = [name for name in columns.all if name not in rows.columns]
    if missing:
        raise DataError(
            f"{path.name} lacks column {', '.join(missing)}; found {', '.join(map(str, rows.columns))};"
            " correct the file, or name the columns in its conf as the file does"
        )
    return rows


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """One file of rows, whatever columns it has: Parquet, JSON records, or text as `columns` says."""
    return read_table(path, columns.delimiter, columns.names, columns.unknown, columns.all)


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """What the expectations look at: the rows as they came."""
    return raw


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Rows whose numbers are numbers and whose categories are of one type; the upstream columns stay as they are.

    Raises DataError for letters or infinity in a number and for a row without a label.
    """
    rows = raw[[name for name in raw.columns if name in columns.all]].copy()
    for name in columns.numeric:
        rows[name] = to_numbers(rows[name], name)
    for name in columns.categorical:
        if not pd.api.types.is_numeric_dtype(rows[name]) or pd.api.types.is_bool_dtype(rows[name]):
            rows[name] = to_levels(rows[name])
    unlabelled = int(rows[columns.target].isna().sum()) if columns.target else 0
    if unlabelled:
        raise DataError(
            f"{unlabelled} rows have no `{columns.target}`; label them or take them out of the file"
        )
    return rows


def to_numbers(column: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.isinf(numbers.to_numpy(float)) | (numbers.isna() & column.notna())
    if wrong.any():
        row = first_row(wrong)
        raise DataError(
            f"row {row} has {column.tolist()[row - 1]!r} in `{name}`; expected a finite number; correct the row"
        )
    return numbers


def to_levels(column: pd.Series) -> pd.Series:
    """Categories as text, missing as None; 1.0 is written 1."""

    def text(value: Any) -> str | None:
        if pd.isna(value):
            return None
        return (
            str(int(value))
            if isinstance(value, float | np.floating) and value.is_integer()
            else str(value)
        )

    return pd.Series([text(value) for value in column], index=column.index, dtype=object)


def split(rows: pd.DataFrame, columns: Columns, split: Any) -> dict[str, pd.DataFrame]:
    """Four parts by a salted hash of the key (of the whole row where there is none).

    A row's part depends on nothing but itself, so that it never changes sides as the table grows: a whole number reads
    the same in a column where some are missing, which makes floats of all.
    """
    cells = zip(
        *(to_levels(rows[name]) for name in ([columns.key] if columns.key else rows)), strict=True
    )
    part = parts_by_hash(("\x1f".join(text or "" for text in row) for row in cells), split)
    return {name: rows[part == i].reset_index(drop=True) for i, name in enumerate(PARTS)}


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError where a key lies in two parts, or a part has no row or lacks a class."""
    check_labelled_parts(parts, columns.key, columns.target)


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part written by `write`."""
    return pd.read_parquet(path.with_suffix(".parquet"))


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, Any]:
    """What a reader asks of the training rows: ranges, means, levels."""
    train = parts["train"]
    found: dict[str, Any] = {name: _range(train[name]) for name in columns.numeric}
    for name in [*columns.categorical, *filter(None, [columns.target])]:
        found[name] = {
            str(level): int(n) for level, n in train[name].value_counts().sort_index().items()
        }
    return {"columns": found, "classes": class_labels(train, columns)}


def _range(numbers: pd.Series) -> dict[str, float]:
    return {
        name: round(float(getattr(numbers, name)()), 9)
        for name in ("min", "median", "mean", "max", "std")
    }


def class_labels(rows: pd.DataFrame, columns: Columns) -> list[Any]:
    return sorted(rows[columns.target].unique().tolist()) if columns.target else []
