"""The rows of a series from its files, or as input, the oldest day first."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ....strict import advice
from ...formats import FILE, read_table, trimmed
from ...levels import text_of
from ...numbers import numbers_or_faults
from ...tables import check_columns, data_files, numbered
from ..columns import Columns
from .days import checked_days
from .faults import refuse_missing

LEFT_OUT = "left_out"  # the attribute of raw rows with the number of rows by why they are left out
UNORDERED = "unordered"  # the attribute of raw rows with the files whose days go up and down
# A series in a file with several is taken for one if it has, on average, so many days or more.
LEAST_DAYS = 2
SHOWN = 5  # values in a message


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """The series in the files of `folder`, the oldest day first, in upstream columns as written.

    Files are ordered by their earliest day, and `repeated` takes the rows of a day in the order of
    the files. Raises DataError for an empty folder, for a file that is empty or does not fit its
    format, for a missing column, for a row whose day is missing or not as conf says, and for
    several series where conf chooses none.
    """
    tables = []
    counts: dict[str, int] = {}
    for path in data_files(folder):
        rows, empty = read_table(path, columns, columns.upstream)
        check_columns(rows, [*columns.upstream, *columns.only], path.name)
        _count(counts, "empty rows", empty)
        tables.append(rows)
    rows = _chosen(pd.concat(tables), columns, counts)
    days = checked_days(rows[columns.date], columns, iso=False)
    first_days = days.groupby(level=FILE, observed=True).min()
    unordered = []
    for file, days_of_file in days.groupby(level=FILE, observed=True):
        if not _in_one_direction(days_of_file):
            unordered.append(str(file))
    if unordered and "%y" in columns.date_format:
        # Sorted, the days before 1969 would come last without a word.
        raise DataError(
            f"{unordered[0]} has days that go up and down, with years of two digits, of which 69 to"
            " 99 are 1969 to 1999; order the rows by day, or write years of four digits"
        )
    # Stable, so that files with the same first day stay in the order of their names.
    order = np.argsort(first_days[rows.index.get_level_values(FILE)].to_numpy(str), kind="stable")
    raw = _arranged(rows.iloc[order], columns, counts)
    raw.attrs = {LEFT_OUT: counts, UNORDERED: unordered}
    return raw


def _in_one_direction(days: pd.Series) -> bool:
    return bool(days.is_monotonic_increasing or days.is_monotonic_decreasing)


def passed_over(raw: pd.DataFrame) -> dict[str, int]:
    """How many rows `read` left out, by the reason."""
    counts: dict[str, int] = raw.attrs.get(LEFT_OUT, {})
    return counts


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """One file of days with all its columns; text is in the upstream format.

    Raises DataError for a file that is missing, empty or not a table.
    """
    return read_table(path, columns, columns.upstream).rows


def arranged(frame: pd.DataFrame, columns: Columns) -> tuple[pd.DataFrame, dict[str, int]]:
    """Input rows as `read` arranges those of files, and how many were left out, by the reason.

    Rows without a file get an index that counts them, because messages number the rows as they
    came. Raises DataError as `read` does.
    """
    rows = numbered(trimmed(frame, columns))
    counts: dict[str, int] = {}
    is_empty = rows.isna().all(axis=1)
    _count(counts, "empty rows", int(is_empty.sum()))
    rows = _chosen(rows[~is_empty], columns, counts)
    return _arranged(rows, columns, counts), counts


def _count(left_out: dict[str, int], reason: str, rows: int) -> None:
    if rows:
        left_out[reason] = left_out.get(reason, 0) + rows


def _chosen(rows: pd.DataFrame, columns: Columns, left_out: dict[str, int]) -> pd.DataFrame:
    """The rows of the series that conf chooses with `only`; all rows if they have no such column.

    Raises DataError if there is none.
    """
    for name, value in columns.only.items():
        if name not in rows or rows.empty:
            continue
        cells = rows[name].map(text_of)
        refuse_missing(cells, name, "expected the name of a series in each row")
        is_chosen = cells == value
        if not is_chosen.any():
            present = [str(cell) for cell in cells.dropna().unique()]
            raise DataError(
                f"no row has `{name}` {value}, which `only` in the conf names;"
                f" {advice(value, present[:SHOWN])}"
            )
        _count(left_out, f"rows of another `{name}`", int((~is_chosen).sum()))
        rows = rows[is_chosen]
    return rows


def _arranged(rows: pd.DataFrame, columns: Columns, left_out: dict[str, int]) -> pd.DataFrame:
    """One row per day, the oldest first, without the days that a rule leaves out."""
    days = checked_days(rows[columns.date], columns)
    _check_single(rows, days, columns)
    unusable = _without_prices(rows, columns)
    _count(left_out, "days without prices", int(unusable.sum()))
    if columns.zeros == "leave_out":
        zero = _with_zero(rows, columns) & ~unusable
        _count(left_out, "days with a price of 0", int(zero.sum()))
        unusable = unusable | zero
    rows = rows[~unusable]
    days = days[~unusable]
    if columns.repeated != "refuse":
        repeated = days.duplicated(keep=columns.repeated).to_numpy()
        _count(left_out, "rows of a day that has another", int(repeated.sum()))
        rows = rows[~repeated]
        days = days[~repeated]
    # Stable, so that of two rows of a day the first one stays the first.
    order = np.argsort(days.to_numpy(str), kind="stable")
    return rows.iloc[order]


def _without_prices(rows: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Whether a day has no price at all, and no volume but 0, as providers mark a day off."""
    empty: np.ndarray = rows[columns.prices].isna().all(axis=1).to_numpy()
    if columns.volume is None:
        return empty
    volume, is_wrong = numbers_or_faults(rows[columns.volume], columns)
    return empty & ~is_wrong & (volume.fillna(0) == 0).to_numpy()


def _with_zero(rows: pd.DataFrame, columns: Columns) -> np.ndarray:
    zero = np.zeros(len(rows), bool)
    for name in columns.prices:
        zero |= (numbers_or_faults(rows[name], columns)[0] == 0).to_numpy()
    return zero


def _check_single(rows: pd.DataFrame, days: pd.Series, columns: Columns) -> None:
    """Raise DataError for several series in one, which a further column distinguishes.

    Days that are there twice for another reason stay so if the rows are told apart by that column.
    """
    repeated = int(days.duplicated().sum())
    if not repeated:
        return
    roles = [*columns.upstream, *columns.only]
    for name in rows.columns.difference(roles, sort=False):
        cells = rows[name].map(text_of)
        values = cells.dropna().unique()
        if len(values) < 2 or len(values) * LEAST_DAYS > len(rows) or cells.isna().any():
            continue
        left = pd.DataFrame({"day": days, "value": cells}).duplicated().sum()
        if left * 10 <= repeated:
            names = ", ".join(map(str, values[:SHOWN]))
            more = ", …" if len(values) > SHOWN else ""
            raise DataError(
                f"{len(values):,} series in one: `{name}` is {names}{more}; choose one in the"
                f" conf, as `only: {{{name}: {values[0]}}}` in `columns`"
            )
