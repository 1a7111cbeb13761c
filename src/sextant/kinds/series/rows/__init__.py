"""Series as rows: read, repaired, split by date into four parts, and written.

Input rows are the `window` most recent days or more; each day that completes a window gets a
forecast of the next day. A part contains the days that are scored, preceded by one window of
history rows, which are marked in the column `context`.

Layout and order are put right on reading: the series that conf chooses, without the rows that its
rules leave out, the oldest day first. So the expectations look at what is left.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ....strict import advice
from ...formats import FILE, read_table, trimmed
from ...levels import text_of
from ...numbers import numbers_or_faults
from ...parts import CONTEXT, PARTS, scored
from ...splits import DateSplit
from ...tables import (
    Finding,
    check_columns,
    data_files,
    first_place,
    is_from_file,
    numbered,
)
from ..columns import UNIX, Columns

# The column that marks rows whose price was divided by the factor of a stock split.
REPAIRED = "repaired"
# How far a price may lie above High or below Low, in the unit of the prices. Both are rounded to
# the cent, and the repair of a stock split rounds once more.
SLACK = 0.02

LEFT_OUT = "left_out"  # the attribute of raw rows with the number of rows by why they are left out
UNORDERED = "unordered"  # the attribute of raw rows with the files whose days go up and down

# A series in a file with several is taken for one if it has, on average, so many days or more.
LEAST_DAYS = 2
HEADER_ROWS = 5  # at most so many rows before the first day may be a header of several lines
SHOWN = 5  # values in a message
# A price that changes by this factor overnight has hardly ever done so by trade. Splits of 2 to 1
# and more lie above it, also if the price moved by a tenth on the same day.
LARGEST_JUMP = 1.75

# Milliseconds taken for seconds, and the reverse, give days outside of these bounds.
LATEST_SECOND = 1.67e10  # in the year 2499
EARLIEST_MILLISECOND = 1e10  # in April 1970

# A time of day and a time zone after a day, as 2022-01-03 16:00:00-05:00, 2022-01-03T00:00Z or
# 1/3/2022 4:00 PM EST. A zone alone needs a colon, or the end of 2022-01-03 would be one.
TIME = r"\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?(?:\s*[AaPp]\.?[Mm]\.?)?"
OFFSET = r"[+-]\d{2}(?::?\d{2}){0,2}"
ZONE = rf"\s*(?:[A-Z]{{1,5}}(?:{OFFSET})?|{OFFSET})?(?:\s*[\[(][^\])]*[\])])?"
WITH_TIME = re.compile(rf"(?P<day>.+?)(?:T|,?\s+)(?P<time>{TIME})(?P<zone>{ZONE})")
WITH_ZONE = re.compile(r"(?P<day>.*\d)(?:Z|[+-]\d{2}:\d{2})")
ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
FIRST_DAY, LAST_DAY = "1678-01-01", "2261-12-31"  # of the times that pandas holds


# --- read ---------------------------------------------------------------------------------------


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
        _refuse_missing(cells, name, "expected the name of a series in each row")
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


# --- days ---------------------------------------------------------------------------------------


def checked_days(column: pd.Series, columns: Columns, iso: bool = True) -> pd.Series:
    """Days as ISO text; raises DataError for the first that is missing or not as conf says.

    With `iso`, days may also be ISO text, as this package writes them.
    """
    name = columns.date
    _refuse_missing(column, name, "expected a day in each row")
    days = _iso_days(column, columns, iso)
    wrong = days.isna()
    if wrong.any():
        expected = f"`{name}`; expected a day as {columns.date_format}"
        _refuse(wrong, column, f"{expected}{_format_advice(wrong, column, columns)}")
    return days


def _format_advice(wrong: pd.Series, column: pd.Series, columns: Columns) -> str:
    """What may be wrong in the conf if many days do not fit its format; "" if that is unknown.

    The first rows may belong to the header, or the day stand before the month.
    """
    leading = int(wrong.to_numpy().argmin())
    if is_from_file(wrong) and 0 < leading == wrong.sum() <= HEADER_ROWS:
        return (
            f" (the first {leading} rows have none: if they are part of the header, as in the three"
            f" header rows of yfinance, set `skip_after: {leading}` in the conf)"
        )
    swapped = columns.date_format.translate(str.maketrans("dm", "md"))
    if swapped != columns.date_format and columns.date_format not in UNIX:
        other = columns.model_copy(update={"date_format": swapped})
        if _iso_days(column, other, iso=False).notna().all():
            return f" (all rows have a day as {swapped})"
    return ""


def _iso_days(column: pd.Series, columns: Columns, iso: bool = True) -> pd.Series:
    """Days as ISO text, from the upstream format, ISO text or datetimes; missing for anything
    else.

    A day is the one that is written: no time zone moves it.
    """
    if column.dtype.kind == "M":
        return column.dt.strftime("%Y-%m-%d")
    # In rows without a file, which this package or a program wrote, ISO text goes first.
    iso_first = iso and not is_from_file(column)
    days = {}
    for value in column.unique():
        day = _day(value, columns.date_format, iso, iso_first)
        is_possible = day is not None and FIRST_DAY <= day <= LAST_DAY
        days[value] = day if is_possible else None
    return column.map(days).astype("str")


def _day(value: object, date_format: str, iso: bool, iso_first: bool) -> str | None:
    if isinstance(value, date):  # or its subclass datetime, whose text goes on with a time
        return None if value is pd.NaT else value.isoformat()[:10]
    text = str(value).strip()
    if iso_first and ISO.fullmatch(text):
        return _parsed(text, "%Y-%m-%d")
    if date_format in UNIX:
        day = _unix_day(text, UNIX[date_format])
    else:
        day = _written_day(text, date_format)
    if day is None and iso:
        return _written_day(text, "%Y-%m-%d")
    return day


def _written_day(text: str, date_format: str) -> str | None:
    """The day in a text: by the whole format, or by that of the day, a time and zone after it."""
    candidates = [(text, date_format)]
    match = WITH_TIME.fullmatch(text)
    if match:
        without_zone = re.sub(r"\s*%[zZ]$", "", date_format)
        candidates.append((text[: match.start("zone")].strip(), without_zone))
    match = match or WITH_ZONE.fullmatch(text)
    if match:
        candidates.append((match["day"], date_format))
    for candidate, candidate_format in candidates:
        day = _parsed(candidate, candidate_format)
        if day is not None:
            return day
    return None


def _parsed(text: str, date_format: str) -> str | None:
    try:
        return datetime.strptime(text, date_format).date().isoformat()
    except ValueError:
        return None


def _unix_day(text: str, units: int) -> str | None:
    """The day in UTC of a number of seconds, or of `units` in a second, since 1970."""
    if not re.fullmatch(r"-?\d+(\.\d+)?", text):
        return None
    number = float(text)
    seconds = number / units
    if abs(seconds) > LATEST_SECOND or (units > 1 and 0 < abs(number) < EARLIEST_MILLISECOND):
        return None
    return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).date().isoformat()


# --- the table ----------------------------------------------------------------------------------


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The raw rows with numbers and the DERIVED columns, for the expectations.

    A column with a value that is not a number stays text, so that the expectations report it.
    """
    rows = raw.copy()
    for name in columns.numbers:
        numbers, is_wrong = numbers_or_faults(raw[name], columns)
        if not is_wrong.any():
            rows[name] = _whole(numbers, raw[name])
    days = pd.to_datetime(_iso_days(raw[columns.date], columns))
    day_number = (days - pd.Timestamp(0)).dt.days
    return rows.assign(day_number=day_number, gap=day_number.diff(), weekday=days.dt.day_of_week)


def _whole(numbers: pd.Series, written: pd.Series) -> pd.Series:
    """Numbers as int64 if each is written without a decimal point, otherwise as they are."""
    if numbers.isna().any() or len(numbers) == 0:
        return numbers
    if written.dtype.kind in "fiu":
        return written
    has_point = written.astype("str").str.contains(r"[.eE%KMBTkmbt]", regex=True)
    if has_point.any() or (numbers % 1 != 0).any():
        return numbers
    return numbers.astype(np.int64)


def findings(raw: pd.DataFrame, columns: Columns) -> list[Finding]:
    """Expectations of every series: prices are adjusted for splits, and days are in order."""
    return [_split_finding(raw, columns), _order_finding(raw)]


def _split_finding(raw: pd.DataFrame, columns: Columns) -> Finding:
    repaired = columns.unadjusted.column if columns.unadjusted else None
    names = [name for name in columns.prices if name != repaired]
    examples = []
    jumps = np.zeros(len(raw), bool)
    for name in names:
        prices, _ = numbers_or_faults(raw[name], columns)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = (prices / prices.shift()).to_numpy()
            is_jump = (np.maximum(ratio, 1 / ratio) > LARGEST_JUMP) & (ratio > 0)
        jumps |= is_jump
        for row in np.flatnonzero(is_jump):
            day = raw[columns.date].iloc[row]
            before, after = prices.iloc[row - 1], prices.iloc[row]
            examples.append(f"`{name}` from {before:g} to {after:g} on {day}")
    return Finding(
        expectation="expect_prices_to_be_adjusted_for_splits",
        kwargs={"prices": names, "max_value": LARGEST_JUMP},
        severity="warning",
        unit="days",
        checked=len(raw),
        unexpected=int(jumps.sum()),
        examples=examples,
        why=(
            "a price that is halved or multiplied overnight is mostly not adjusted for a stock"
            " split; take adjusted prices, or name the column, the day and the factor in"
            " `unadjusted`"
        ),
    )


def _order_finding(raw: pd.DataFrame) -> Finding:
    unordered: Sequence[str] = raw.attrs.get(UNORDERED, [])
    return Finding(
        expectation="expect_days_to_be_in_order",
        kwargs={},
        severity="warning",
        unit="files",
        checked=raw.index.get_level_values(FILE).nunique(),
        unexpected=len(unordered),
        examples=list(unordered),
        why=(
            "the rows were sorted by day, since the days of a file went up and down; look for a"
            " day with a typing error"
        ),
    )


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
    days = _ordered_days(raw[columns.date], columns)
    rows = pd.DataFrame({columns.date: days}, index=raw.index)
    for name in columns.numbers:
        rows[name] = _checked_numbers(raw[name], name, columns)
    if columns.high and columns.low:
        high, low = rows[columns.high], rows[columns.low]
        _refuse(high < low, high, f"`{columns.high}`, below its `{columns.low}`")
    rows = _adjusted(rows, columns)
    _check_bounds(rows, columns)
    return rows


def _ordered_days(column: pd.Series, columns: Columns) -> pd.Series:
    days = checked_days(column, columns)
    name = columns.date
    previous = days.shift()
    _refuse(
        days == previous,
        days,
        f"`{name}` for a second time; expected each day once",
        "correct the row, or say in `repeated` in the conf which row of a day stays",
    )
    _refuse(days < previous, days, f"`{name}` after a later day; expected the oldest day first")
    return days.astype(str)


def to_numbers(column: pd.Series, columns: Columns) -> pd.Series:
    """Numbers as float64, from numbers or from text; NaN for anything else."""
    return numbers_or_faults(column, columns)[0]


def _checked_numbers(column: pd.Series, name: str, columns: Columns) -> pd.Series:
    numbers, is_wrong = numbers_or_faults(column, columns)
    expected = "expected a number"
    if columns.decimal == ".":
        expected = "expected a number with a decimal point"
    advice = "correct the row, or name the mark of a missing value in `unknown` in the conf"
    _refuse(is_wrong, column, f"`{name}`; {expected}", advice)
    action = "correct the row, or remove it"
    if name == columns.volume:
        action += ", or set `volume: null` in the conf"
    _refuse_missing(numbers, name, expected, action)
    if name == columns.volume:
        _refuse(numbers < 0, numbers, f"`{name}`; expected a volume of 0 or more")
    else:
        _refuse(
            numbers == 0,
            numbers,
            f"`{name}`; expected a price above 0",
            "correct the row, or set `zeros: leave_out` in the conf",
        )
        _refuse(numbers < 0, numbers, f"`{name}`; expected a price above 0")
    return numbers


def _check_bounds(rows: pd.DataFrame, columns: Columns) -> None:
    for name in columns.prices:
        if columns.high:
            above = rows[name] - rows[columns.high] > SLACK
            _refuse(above, rows[name], f"`{name}`, above its `{columns.high}`")
        if columns.low:
            below = rows[columns.low] - rows[name] > SLACK
            _refuse(below, rows[name], f"`{name}`, below its `{columns.low}`")


def _refuse_missing(
    values: pd.Series, name: str, expected: str, action: str = "correct the row, or remove it"
) -> None:
    """Raise DataError for the first row without a value."""
    missing = values.isna().to_numpy()
    if missing.any():
        raise DataError(f"{first_place(values, missing)} has no `{name}`; {expected}; {action}")


def _refuse(
    wrong: pd.Series | np.ndarray, values: pd.Series, where: str, action: str = "correct the row"
) -> None:
    """Raise DataError for the first row that is `wrong`."""
    mask = np.asarray(wrong, bool)
    if not mask.any():
        return
    value = values.iloc[int(mask.argmax())]
    text = repr(value) if isinstance(value, str) else str(value)
    raise DataError(f"{first_place(values, mask)} has {text} in {where}; {action}")


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
