"""Series as rows: read, repaired, split by date into four parts, and written.

Input rows are the `window` most recent days or more; each day that completes a window gets a
forecast of the next day. A part contains the days that are scored, preceded by one window of
history rows, which are marked in the column `context`.
"""

import json
import re
import warnings
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import DataError
from ..parts import CONTEXT, PARTS, scored
from ..splits import DateSplit
from ..tables import check_columns, data_files
from .columns import Columns

# The column that marks rows whose price was divided by the factor of a stock split.
REPAIRED = "repaired"
# How far a price may lie above High or below Low, in the unit of the prices. Both are rounded to
# the cent, and the repair of a stock split rounds once more.
SLACK = 0.02


# --- read ---------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """All files of `folder` as one frame in upstream columns.

    Files are ordered by the day in their first row. The order of rows inside a file is kept, so
    that the expectations can check it. Raises DataError for an empty folder, for a file that is
    empty or unreadable, and for a missing column.
    """
    frames = []
    for path in data_files(folder):
        rows = read_rows(path, columns)
        check_columns(rows, columns.upstream, path.name)
        first_day = _iso_days(rows[columns.date], columns).head(1).fillna("").tolist()
        frames.append((first_day, rows))
    frames.sort(key=lambda pair: pair[0])
    return pd.concat([rows for _, rows in frames], ignore_index=True)


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """One file of days with all its columns: Parquet, JSON records, or text in the upstream format.

    Raises DataError for a file that is missing, empty or not a table.
    """
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            # Not pandas.read_json, which parses dates by its own rules.
            return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        rows = _read_text(path, columns)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a file of days") from None
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path.name} is empty; expected a table with {', '.join(columns.upstream)}"
        ) from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path.name} has rows with more fields than its header; put numbers with a thousands"
            " separator in quotes"
        ) from None
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(
            f"{path.name} is not a table with delimiter {columns.delimiter!r}: {error}; correct it,"
            " or name another file"
        ) from None
    for name in rows.columns.intersection(columns.numbers):
        numbers = pd.to_numeric(_without_thousands(rows[name], columns), errors="coerce")
        # A column with a value that is not a number stays text, so that the expectations report it.
        if (numbers.notna() | rows[name].isna()).all():
            rows[name] = numbers
    return rows


def _read_text(path: Path, columns: Columns) -> pd.DataFrame:
    with warnings.catch_warnings():
        # pandas only warns of a row with too many fields, and drops the surplus.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            path,
            sep=columns.delimiter,
            index_col=False,
            dtype={columns.date: str},
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
        )


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The raw rows and the DERIVED columns, for the expectations."""
    days = pd.to_datetime(_iso_days(raw[columns.date], columns))
    day_number = (days - pd.Timestamp(0)).dt.days
    return raw.assign(day_number=day_number, gap=day_number.diff(), weekday=days.dt.day_of_week)


def _iso_days(column: pd.Series, columns: Columns) -> pd.Series:
    """Days as ISO text, from the upstream format, ISO text or datetimes; missing for anything
    else.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.dt.strftime("%Y-%m-%d")
    text = column.astype(object).map(_day_text)
    days = pd.to_datetime(text, format=columns.date_format, errors="coerce")
    days = days.fillna(pd.to_datetime(text, format="%Y-%m-%d", errors="coerce"))
    return days.dt.strftime("%Y-%m-%d")


def _day_text(value: object) -> str:
    text = str(value)
    if isinstance(value, date):  # or its subclass datetime, whose text ends with a time
        return text[:10]
    return text


def to_numbers(column: pd.Series, columns: Columns) -> pd.Series:
    """Numbers as float64, from numbers or from text; NaN for anything else."""
    return pd.to_numeric(_without_thousands(column, columns), errors="coerce").astype(float)


def _without_thousands(column: pd.Series, columns: Columns) -> pd.Series:
    """Numbers in text without their thousands separators.

    A separator is removed only between groups of three digits: 767,25 must not become 76725.
    """
    if pd.api.types.is_numeric_dtype(column) or columns.thousands is None:
        return column
    text = column.astype(str).str.strip().astype(object)
    separator = re.escape(columns.thousands)
    grouped = text.str.fullmatch(rf"[+-]?\d{{1,3}}({separator}\d{{3}})+(\.\d+)?")
    return text.mask(grouped, text.str.replace(columns.thousands, "", regex=False))


# --- repair -------------------------------------------------------------------------------------


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Days as ISO text, numbers as float64, and the unadjusted price divided by its factor.

    Repaired rows are marked in the column `repaired`, because one factor for all days is an
    approximation. Only prices far above the other prices of their day are divided, so repairing
    twice changes nothing.

    Raises DataError for days that repeat or are not in ascending order, a value that is not a
    number, a price that is not positive, a negative volume, High below Low, and after the repair
    for a price that lies outside Low to High.
    """
    days = _checked_days(raw[columns.date], columns)
    rows = pd.DataFrame({columns.date: days}, index=raw.index)
    for name in columns.numbers:
        rows[name] = _checked_numbers(raw[name], name, columns)
    if columns.high and columns.low:
        high, low = rows[columns.high], rows[columns.low]
        _refuse(high < low, high, f"`{columns.high}`, below its `{columns.low}`")
    rows = _adjusted(rows, columns)
    _check_bounds(rows, columns)
    return rows


def _checked_days(column: pd.Series, columns: Columns) -> pd.Series:
    days = _iso_days(column, columns)
    name = columns.date
    _refuse(days.isna(), column, f"`{name}`; expected a day as {columns.date_format}")
    previous = days.shift()
    _refuse(days == previous, days, f"`{name}` for a second time; expected each day once")
    _refuse(days < previous, days, f"`{name}` after a later day; expected the oldest day first")
    return days.astype(str)


def _checked_numbers(column: pd.Series, name: str, columns: Columns) -> pd.Series:
    numbers = to_numbers(column, columns)
    unusable = numbers.isna() | np.isinf(numbers)
    _refuse(unusable, column, f"`{name}`; expected a number with a decimal point")
    if name == columns.volume:
        _refuse(numbers < 0, numbers, f"`{name}`; expected a volume of 0 or more")
    else:
        _refuse(numbers <= 0, numbers, f"`{name}`; expected a price above 0")
    return numbers


def _check_bounds(rows: pd.DataFrame, columns: Columns) -> None:
    for name in columns.prices:
        if columns.high:
            above = rows[name] - rows[columns.high] > SLACK
            _refuse(above, rows[name], f"`{name}`, above its `{columns.high}`")
        if columns.low:
            below = rows[columns.low] - rows[name] > SLACK
            _refuse(below, rows[name], f"`{name}`, below its `{columns.low}`")


def _refuse(wrong: pd.Series, values: pd.Series, where: str) -> None:
    """Raise DataError for the first row that is `wrong`."""
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    value = values.iloc[row]
    text = repr(value) if isinstance(value, str) else str(value)
    raise DataError(f"row {row + 1} has {text} in {where}; correct the row")


def _adjusted(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    split = columns.unadjusted
    if split is None:
        return rows.assign(**{REPAIRED: False})
    other_prices = [name for name in columns.prices if name != split.column]
    highest = rows[other_prices].max(axis=1)
    # The square root of the factor separates the two cases: an unadjusted price is about `factor`
    # times the others, an adjusted one about as high as they are.
    unadjusted = (rows[columns.date] < split.before) & (
        rows[split.column] > highest * split.factor**0.5
    )
    divided = (rows[split.column] / split.factor).round(2)
    prices = rows[split.column].mask(unadjusted, divided)
    return rows.assign(**{split.column: prices, REPAIRED: unadjusted})


# --- parts --------------------------------------------------------------------------------------


def split(rows: pd.DataFrame, columns: Columns, split: DateSplit) -> dict[str, pd.DataFrame]:
    """Four parts by the dates of the split, each preceded by one window of history rows.

    The first window of the series is the history of train. The part of a day never changes as the
    series grows.
    """
    days = rows[columns.date]
    val_start = int((days < split.val_from).sum())
    gate_start = int((days < split.gate_from).sum())
    test_start = int((days < split.test_from).sum())
    train_start = min(columns.window, val_start)
    bounds = [train_start, val_start, gate_start, test_start, len(rows)]
    parts = {}
    for name, start, end in zip(PARTS, bounds[:-1], bounds[1:], strict=True):
        history_start = max(start - columns.window, 0)
        part = rows.iloc[history_start:end].reset_index(drop=True)
        is_history = np.arange(len(part)) < start - history_start
        parts[name] = part.assign(**{CONTEXT: is_history})
    return parts


def check_parts(parts: Mapping[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a part has no day to score, or less history than a window."""
    for name, rows in parts.items():
        days = len(scored(rows))
        history = len(rows) - days
        if history < columns.window or days == 0:
            raise DataError(
                f"part {name} has {days} days to score after {history} days of history; expected 1"
                f" or more after {columns.window}; add days, or change `split` in the conf"
            )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part that `write` wrote."""
    return pd.read_parquet(path.with_suffix(".parquet"))


def forecast_days(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """One row per complete window of `rows`, in order; each is a forecast to make.

    `after` is the last day of the window and `base` its base price. `date` is the next day and
    `next` its target price; both are missing after the last row. Of a part these are the days
    that are scored.
    """
    days = rows[columns.date]
    forecasts = pd.DataFrame(
        {
            "after": days,
            "base": rows[columns.base].astype(float),
            "date": days.shift(-1),
            "next": rows[columns.target].astype(float).shift(-1),
        }
    )
    forecasts = forecasts.iloc[columns.window - 1 :]
    if CONTEXT in rows:
        # A window ends on the last row of a part too, but the day after it is in the next part.
        forecasts = forecasts.iloc[: len(scored(rows))]
    return forecasts.reset_index(drop=True)


# --- profile ------------------------------------------------------------------------------------


def profile(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Statistics of the numbers in train, the first and last day of each part, and the repairs."""
    statistics = {name: _statistics(parts["train"][name]) for name in columns.numbers}
    days = {}
    for name, part in parts.items():
        part_days = scored(part)[columns.date]
        days[name] = [part_days.min(), part_days.max()]
    return {"columns": statistics, "days": days, "repairs": _repairs(parts, columns)}


def _statistics(numbers: pd.Series) -> dict[str, float]:
    statistics = {
        "min": numbers.min(),
        "median": numbers.median(),
        "mean": numbers.mean(),
        "max": numbers.max(),
        "std": numbers.std(),
    }
    # 9 decimals: the last digits of a float64 differ between processors.
    return {name: round(float(value), 9) for name, value in statistics.items()}


def _repairs(parts: Mapping[str, pd.DataFrame], columns: Columns) -> list[str]:
    rows = pd.concat(list(parts.values())).drop_duplicates(columns.date)
    repaired = int(rows[REPAIRED].sum())
    split = columns.unadjusted
    if not repaired or split is None:
        return []
    return [
        f"`{split.column}` of {repaired:,} days before {split.before} was not adjusted for the"
        f" split: divided by {split.factor:g}, an approximation"
    ]
