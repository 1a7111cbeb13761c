"""todo: how rows are read, repaired, split into four parts and written."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ...formats import Format, read_table
from ...parts import PARTS, first_row
from ...splits import SEPARATOR, HashSplit, parts_by_hash
from ...tables import check_columns, data_files
from ..columns import Columns


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """All files of `folder` as one frame; raises DataError if a column is missing."""
    frames = []
    for path in data_files(folder):
        rows = read_rows(path, columns)
        check_columns(rows, columns.all, path.name)
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """One file of rows, whatever columns it has; the cells of a text file are texts."""
    return read_table(path, Format(), columns.all).rows


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The table that the expectations check."""
    return raw[columns.all]


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The rows as numbers; raises DataError for a value that is not a finite number."""
    rows = raw[columns.all].apply(pd.to_numeric, errors="coerce")
    finite = np.isfinite(rows.to_numpy(np.float64)).all(axis=1)
    if not finite.all():
        row = first_row(~finite)
        raise DataError(f"row {row} has a value that is not a finite number; correct the row")
    return rows


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Four parts, by a salted hash of the whole row."""
    keys = [SEPARATOR.join(map(str, row)) for row in rows.itertuples(index=False)]
    part = parts_by_hash(keys, split)
    return {name: rows[part == i].reset_index(drop=True) for i, name in enumerate(PARTS)}


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a part cannot be scored."""
    for name, rows in parts.items():
        if rows.empty:
            raise DataError(f"part {name} has no row; add rows, or change `split` in the conf")


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """A summary of the training rows for readers of the report, as JSON."""
    means = parts["train"].mean().round(9)
    return {"columns": {name: {"mean": float(means[name])} for name in columns.all}}


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part that `write` wrote."""
    return pd.read_parquet(path.with_suffix(".parquet"))
