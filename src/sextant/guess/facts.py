"""What stands in each column of a table."""

import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..kinds.formats import Format
from ..kinds.numbers import numbers_or_faults
from ..kinds.series.columns import UNIX
from . import dates

EXAMPLES = 3  # values that the summary shows
TRIED = 2000  # texts of a column that are tried as days
LEADING_ZERO = re.compile(r"0\d+")


class Facts(NamedTuple):
    """A column. `texts` and `values` are those of the rows that have one, in their order.

    `values` are NaN unless every text is a number (`is_number`); a truth value is none.
    """

    name: str
    texts: "pd.Series"
    values: "pd.Series"
    rows: int
    distinct: int
    is_number: bool
    is_whole: bool
    is_code: bool  # whole numbers with leading zeros, such as 01
    date: str | None  # the format of days, or `typed` for days of a workbook
    longest: int

    @property
    def missing(self) -> int:
        """The number of rows without a value."""
        return self.rows - len(self.texts)

    @property
    def examples(self) -> list[str]:
        """The first values that differ."""
        return list(dict.fromkeys(self.texts.head(500)))[:EXAMPLES]

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value, and none twice."""
        return self.missing == 0 and self.distinct == self.rows

    @property
    def type(self) -> str:
        """The type of the values in plain words."""
        if self.date:
            return "days"
        if self.is_code:
            return "codes"
        if self.is_number:
            return "whole numbers" if self.is_whole else "numbers"
        return "texts"


def facts(rows: pd.DataFrame, form: Format) -> list[Facts]:
    """The facts of every column, in their order."""
    return [_facts(str(name), rows[name], form) for name in rows.columns]


def _facts(name: str, column: pd.Series, form: Format) -> Facts:
    present = column[column.notna()]
    texts = present.map(text_of).astype(object)
    distinct = int(texts.nunique())
    day = _date(name, present, texts)
    is_truth = bool(present.map(lambda value: isinstance(value, bool | np.bool_)).any())
    values = pd.Series(np.nan, index=present.index, dtype=float)
    is_number = False
    if not day and not is_truth and len(present):
        values, faults = numbers_or_faults(present, form)
        is_number = not bool(np.any(faults))
    is_code = is_number and bool(texts.map(lambda text: bool(LEADING_ZERO.fullmatch(text))).any())
    is_whole = is_number and bool((values == np.floor(values)).all())
    if is_whole:
        # 1.00 and 5 % are amounts, however whole; a workbook has whole numbers as floats.
        is_whole = not bool(texts.str.contains(r"\.0", regex=True).any())
    longest = int(texts.str.len().max()) if len(texts) else 0
    return Facts(
        name,
        texts,
        values,
        len(column),
        distinct,
        is_number,
        is_whole,
        is_code,
        day,
        longest,
    )


def text_of(value: object) -> str:
    """A value as text; a whole number that a library has typed is written without a point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


TIME_NAME = re.compile(r"(.*[\W_])?(time|timestamp|date|unix.*|epoch)", re.IGNORECASE)


def _date(name: str, present: pd.Series, texts: pd.Series) -> str | None:
    if not len(present):
        return None
    if pd.api.types.is_datetime64_any_dtype(present):
        return "typed"
    if all(isinstance(value, date) for value in present.head(TRIED)):
        return "typed"
    step = max(1, len(texts) // TRIED)
    tried = texts.iloc[::step].tolist()
    for unit, units in UNIX.items():
        if TIME_NAME.fullmatch(name) and dates.is_unix_seconds(tried, units):
            return unit
    day_format = dates.date_format(tried)
    return day_format.format if day_format else None


def counts(column: Facts, most: int) -> list[tuple[str, int]]:
    """The most frequent values with their counts, the most frequent first."""
    counted = column.texts.value_counts()
    return [(str(value), int(count)) for value, count in counted.head(most).items()]


def names(columns: Sequence[Facts]) -> list[str]:
    """The names of some columns."""
    return [column.name for column in columns]
