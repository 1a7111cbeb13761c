"""Text as numbers, by the marks that stand in the conf.

Each cell is read by itself, so a number never depends on what else is in its file.
"""

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ..errors import DataError
from .formats import place

if TYPE_CHECKING:
    import pandas as pd

# Not in lower case, in which m may be metres and t tonnes.
MAGNITUDES = {"K": 1e3, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
MINUS = "\u2212"  # the typographical minus sign, which spreadsheets and web pages write
CURRENCY = "$€£¥₹₩₽₺₴₪₫฿"
BLANKS = " \u00a0\u202f"  # as marks of thousands; the last two do not break a line
# The square of a larger number is no float64, nor is the deviation of a column that has one.
LARGEST = 1e150
# A number without any mark but the decimal point.
PLAIN = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


class Marks(Protocol):
    """What the numbers of a file look like; see formats.Format."""

    @property
    def decimal(self) -> str: ...

    @property
    def thousands(self) -> str | None: ...


def number_pattern(marks: Marks) -> re.Pattern[str]:
    """A pattern of one number: its digits between a sign, a currency sign and a unit.

    The sign stands before or after the digits, or parentheses around them. Groups: open, sign,
    second (a sign after the currency), digits, exponent, unit, after, close.
    """
    decimal = re.escape(marks.decimal)
    whole = "[0-9]+"  # \d would match the digits of every script
    if marks.thousands is not None:
        # Only between groups of three digits: with the mark "," the text 767,25 is no number.
        group = f"[{_thousands(marks)}]"
        whole = rf"[0-9]{{1,3}}(?:{group}[0-9]{{3}})+|[0-9]+"
    digits = rf"(?:{whole})(?:{decimal}[0-9]*)?|{decimal}[0-9]+"
    currency = rf"[{CURRENCY}]?\s*"
    return re.compile(
        rf"(?P<open>\()?\s*(?P<sign>[+-])?\s*{currency}(?P<second>[+-])?(?P<digits>{digits})"
        rf"(?P<exponent>[eE][+-]?[0-9]+)?\s*(?P<unit>[KkMBT%])?\s*{currency}(?P<after>-)?\s*"
        r"(?P<close>\))?"
    )


def _thousands(marks: Marks) -> str:
    """The characters that mark thousands, for a set in a pattern."""
    if marks.thousands == " ":
        return BLANKS
    return re.escape(marks.thousands or "")


def parse(text: str, marks: Marks, pattern: re.Pattern[str]) -> float | None:
    """The number that a text is, None if it is none; `pattern` is that of the marks.

    1.69M is 1,690,000; 5 % is 0.05; (1,234.50) and 5- are negative, as accountants write.
    """
    match = pattern.fullmatch(text.strip().replace(MINUS, "-"))
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    signs = (match["open"], match["sign"], match["second"], match["after"])
    currencies = sum(character in CURRENCY for character in text)
    if sum(sign is not None for sign in signs) > 1 or currencies > 1:
        return None
    digits = match["digits"]
    if marks.thousands is not None:
        digits = re.sub(f"[{_thousands(marks)}]", "", digits)
    value = float(digits.replace(marks.decimal, ".") + (match["exponent"] or ""))
    unit = match["unit"]
    if unit == "%":
        value /= 100
    elif unit:
        value *= MAGNITUDES[unit]
    is_negative = match["open"] is not None or "-" in signs
    return -value if is_negative else value


def to_numbers(column: "pd.Series", name: str, marks: Marks) -> "pd.Series":
    """A column as float64, NaN where a value is missing.

    Raises DataError for the first value that is no finite number, with its place.
    """
    numbers, is_wrong = numbers_or_faults(column, marks)
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        cell = column.iloc[row]
        expected = "a finite number"
        if np.isfinite(numbers.iloc[row]):
            expected = f"a number of at most {LARGEST:g}"
        raise DataError(
            f"{place(column, row)} has {_quoted(cell)} in `{name}`; expected {expected};"
            f" correct the row{_other_marks(cell, marks)}, or add the mark of a missing value to"
            " `unknown`"
        )
    return numbers


def numbers_or_faults(column: "pd.Series", marks: Marks) -> "tuple[pd.Series, np.ndarray]":
    """A column as float64, NaN where there is no number, and whether each value is a fault.

    Numbers that have a type are taken as they are; a truth value, a day, a number above LARGEST and
    text that is no number are faults; a missing value is none.
    """
    import pandas as pd

    is_typed = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if is_typed:
        values = column.to_numpy(float, na_value=np.nan)
        numbers = pd.Series(values, index=column.index, name=column.name)
        return numbers, np.abs(values) > LARGEST
    values = np.full(len(column), np.nan)
    is_wrong = np.zeros(len(column), bool)
    is_left = column.notna().to_numpy()
    if marks.decimal == "." and isinstance(column.dtype, pd.StringDtype):
        # Most cells are plain numbers, which this reads many times faster than `parse`.
        is_plain = column.str.fullmatch(PLAIN).fillna(False).to_numpy(bool)
        values[is_plain] = column[is_plain].to_numpy(object).astype(float)
        is_wrong = np.abs(values) > LARGEST
        is_left = is_left & ~is_plain
    pattern = number_pattern(marks)
    for row in np.flatnonzero(is_left):
        cell = column.iloc[row]
        value = parse(cell, marks, pattern) if isinstance(cell, str) else _typed(cell)
        is_wrong[row] = value is None or not abs(value) <= LARGEST
        values[row] = np.nan if value is None else value
    return pd.Series(values, index=column.index, name=column.name), is_wrong


class _Marks(NamedTuple):
    """Marks that a number may have been written with."""

    decimal: str
    thousands: str | None


def _other_marks(cell: object, marks: Marks) -> str:
    """What to set in the conf if a text is a number by other marks."""
    if not isinstance(cell, str) or parse(cell, marks, number_pattern(marks)) is not None:
        return ""  # no text, or a number that is too large by any marks
    with_thousands = _Marks(marks.decimal, "." if marks.decimal == "," else ",")
    if parse(cell, with_thousands, number_pattern(with_thousands)) is not None:
        return f', or set `thousands: "{with_thousands.thousands}"` in the conf'
    other_decimal = _Marks("." if marks.decimal == "," else ",", None)
    if parse(cell, other_decimal, number_pattern(other_decimal)) is not None:
        return f', or set `decimal: "{other_decimal.decimal}"` in the conf'
    return ""


def _typed(cell: object) -> float | None:
    """A number of a workbook or of JSON; a truth value and a day are none."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | np.number):
        return None
    return float(cell)


def _quoted(value: object) -> str:
    """A value for a message; a NumPy number without the name of its type."""
    return repr(value.item() if isinstance(value, np.generic) else value)
