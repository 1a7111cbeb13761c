"""The table of a series for the expectations, and expectations of every series."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...formats import FILE
from ...numbers import numbers_or_faults
from ...tables import Finding
from ..columns import Columns
from .days import iso_days
from .reading import UNORDERED

# A price that changes by this factor overnight has hardly ever done so by trade. Splits of 2 to 1
# and more lie above it, also if the price moved by a tenth on the same day.
LARGEST_JUMP = 1.75


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The raw rows with numbers and the DERIVED columns, for the expectations.

    A column with a value that is not a number stays text, so that the expectations report it.
    """
    rows = raw.copy()
    for name in columns.numbers:
        numbers, is_wrong = numbers_or_faults(raw[name], columns)
        if not is_wrong.any():
            rows[name] = _whole(numbers, raw[name])
    days = pd.to_datetime(iso_days(raw[columns.date], columns))
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
