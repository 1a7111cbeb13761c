"""The rows of a series repaired: numbers checked, and a price before a stock split adjusted."""

import pandas as pd

from ...numbers import numbers_or_faults
from ..columns import Columns
from .days import checked_days
from .faults import refuse, refuse_missing

# The column that marks rows whose price was divided by the factor of a stock split.
REPAIRED = "repaired"
# How far a price may lie above High or below Low, in the unit of the prices. Both are rounded to
# the cent, and the repair of a stock split rounds once more.
SLACK = 0.02


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
        refuse(high < low, high, f"`{columns.high}`, below its `{columns.low}`")
    rows = _adjusted(rows, columns)
    _check_bounds(rows, columns)
    return rows


def _ordered_days(column: pd.Series, columns: Columns) -> pd.Series:
    days = checked_days(column, columns)
    name = columns.date
    previous = days.shift()
    refuse(
        days == previous,
        days,
        f"`{name}` for a second time; expected each day once",
        "correct the row, or say in `repeated` in the conf which row of a day stays",
    )
    refuse(days < previous, days, f"`{name}` after a later day; expected the oldest day first")
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
    refuse(is_wrong, column, f"`{name}`; {expected}", advice)
    action = "correct the row, or remove it"
    if name == columns.volume:
        action += ", or set `volume: null` in the conf"
    refuse_missing(numbers, name, "expected a number", action)
    if name == columns.volume:
        refuse(numbers < 0, numbers, f"`{name}`; expected a volume of 0 or more")
    else:
        refuse(
            numbers == 0,
            numbers,
            f"`{name}`; expected a price above 0",
            "correct the row, or set `zeros: leave_out` in the conf",
        )
        refuse(numbers < 0, numbers, f"`{name}`; expected a price above 0")
    return numbers


def _check_bounds(rows: pd.DataFrame, columns: Columns) -> None:
    for name in columns.prices:
        if columns.high:
            above = rows[name] - rows[columns.high] > SLACK
            refuse(above, rows[name], f"`{name}`, above its `{columns.high}`")
        if columns.low:
            below = rows[columns.low] - rows[name] > SLACK
            refuse(below, rows[name], f"`{name}`, below its `{columns.low}`")


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
