"""Which marks the numbers of a text have: for decimals, for thousands, and for what is unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..kinds.numbers import number_pattern, parse

# A mark of a missing value among numbers. Among texts some of these can be values: NA is Namibia.
MARKS = (
    "?", "NA", "N/A", "n/a", "na", "#N/A", "#NA", "NaN", "nan", "NAN", "null", "NULL", "Null",
    "None", "none", "nil", "-", "--", "---", ".", "..", "...", "*", "\\N", "missing", "Missing",
    "MISSING", "unknown", "Unknown", "UNKNOWN", "undefined", "#VALUE!", "#DIV/0!", "#REF!",
    "k.A.", "n.a.", "N.A.", "nd", "ND", "inf", "Inf", "-inf", "TBD", "<NA>",
)  # fmt: skip
# Marks that are no values in a column of texts either.
CLEAR = ("?", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "\\N", "<NA>")
ENOUGH = 0.7  # the share of numbers among the texts of a numeric column, without marks
SAMPLE = 400  # different cells of a column that are tried


class Form(NamedTuple):
    """The marks of decimals and thousands."""

    decimal: str
    thousands: str | None


# In the order in which they are preferred where several read the same cells.
FORMS = (
    Form(".", None), Form(".", ","), Form(",", None), Form(",", "."), Form(",", " "),
    Form(".", " "), Form(".", "'"), Form(",", "'"),
)  # fmt: skip


@dataclass
class Marks:
    """Keys of formats.Format (decimal, thousands, unknown), and what is unsure."""

    form: dict[str, object]
    doubts: list[str] = field(default_factory=list)


def marks(columns: Sequence[Sequence[str]], delimiter: str, chosen: Mapping[str, object]) -> Marks:
    """The marks in the columns of a text."""
    samples = []
    for column in columns:
        cells = list(dict.fromkeys(cell for cell in column if cell and cell not in MARKS))
        samples.append(cells[:SAMPLE])
    form, doubt = _form(samples, delimiter, chosen)
    keys: dict[str, object] = {"decimal": form.decimal}
    if form.thousands:
        keys["thousands"] = form.thousands
    doubts = [doubt] if doubt else []
    if "unknown" not in chosen:
        unknown = _unknown(columns, form)
        if unknown:
            keys["unknown"] = unknown
    return Marks(keys, doubts)


def _form(
    samples: Sequence[Sequence[str]], delimiter: str, chosen: Mapping[str, object]
) -> tuple[Form, str]:
    candidates = []
    for form in FORMS:
        fits_decimal = chosen.get("decimal", form.decimal) == form.decimal
        fits_thousands = chosen.get("thousands", form.thousands) == form.thousands
        if fits_decimal and fits_thousands:
            candidates.append(form)
    if not candidates:
        decimal = str(chosen.get("decimal", "."))
        candidates = [Form(decimal, str(chosen["thousands"]))]
    counts = {form: _readable(samples, form) for form in candidates}
    most = max(counts.values())
    fitting = [form for form in candidates if counts[form] == most]
    best = fitting[0]
    if Form(".", ",") in fitting and Form(",", None) in fitting and best == Form(".", ","):
        return _commas(samples, delimiter)
    if best == Form(".", None) and delimiter == ";" and _only_threes(samples, "."):
        return best, "1.234 is read as a decimal (THOUSANDS=. DECIMAL=, if it is 1234)"
    return best, ""


def _commas(samples: Sequence[Sequence[str]], delimiter: str) -> tuple[Form, str]:
    """Whether commas part thousands or decimals, where every one stands before three digits."""
    for column in samples:
        if any(cell.lstrip("+-").startswith("0,") for cell in column):
            return Form(",", None), ""
    return Form(".", ","), "1,234 is read as 1234 (DECIMAL=, if it is a decimal)"


def _only_threes(samples: Sequence[Sequence[str]], mark: str) -> bool:
    """Whether every cell with a mark has exactly three digits after it, in three cells or more."""
    count = 0
    for column in samples:
        for cell in column:
            _, separator, after = cell.rpartition(mark)
            if separator and len(after) != 3:
                return False
            count += bool(separator)
    return count >= 3


def _readable(samples: Sequence[Sequence[str]], form: Form) -> int:
    """How many cells are numbers, in the columns in which nearly all are."""
    pattern = number_pattern(form)
    total = 0
    for column in samples:
        fitting = sum(parse(cell, form, pattern) is not None for cell in column)
        if column and fitting >= ENOUGH * len(column):
            total += fitting
    return total


def _unknown(columns: Sequence[Sequence[str]], form: Form) -> list[str]:
    """The marks of missing values in columns of numbers, and the clear ones in other columns."""
    pattern = number_pattern(form)
    unknown: list[str] = []
    for column in columns:
        distinct = list(dict.fromkeys(column))
        present = [mark for mark in MARKS if mark in distinct]
        if not present:
            continue
        cells = [cell for cell in distinct if cell and cell not in MARKS]
        fitting = sum(parse(cell, form, pattern) is not None for cell in cells)
        is_numeric = bool(cells) and fitting >= ENOUGH * len(cells)
        for mark in present:
            if is_numeric or mark in CLEAR:
                unknown.append(mark)
    return list(dict.fromkeys(unknown))
