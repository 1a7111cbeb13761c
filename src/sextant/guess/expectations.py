"""Expectations of a data set from what its files have, with slack for the next delivery."""

import math
from collections.abc import Sequence
from typing import TypeAlias

from . import layout
from .facts import Facts

Entry: TypeAlias = dict[str, object]
Section: TypeAlias = tuple[str, list[Entry]]

ROWS_LEFT = 0.8  # of the rows of today that a later file has to have
SHARE_LEFT = 0.5  # of the share of a class, and of the present values, that has to be left
RANGE = 0.25  # of the range of a number that may be added at either end
MOST_LEVELS = 40  # categories that an expectation lists


def text(name: str, file: str, sections: Sequence[Section]) -> str:
    """The content of conf/expectations/<name>.yaml."""
    head = f"# Expectations of {name}, as {file} was when `make new` wrote them, with slack."
    parts = [
        head,
        "# Edit them: each should say what you know of the data, and `why` what a failure means.",
        "# A failed `critical` stops the run; `warning` and `info` print one line each.",
    ]
    for title, entries in sections:
        parts += ["", f"# --- {title} ---"]
        for entry in entries:
            parts += _lines(entry)
    return "\n".join(parts) + "\n"


def _lines(entry: Entry) -> list[str]:
    lines = []
    for key, value in entry.items():
        if isinstance(value, list):
            lines += layout.wrapped(2, key, value)
        else:
            lines.append(layout.line(2, key, layout.block(value)))
    lines[0] = f"-{lines[0][1:]}"
    return lines


def expect(name: str, severity: str, why: str, **arguments: object) -> Entry:
    """An entry of a suite, its keys in the order of the shipped ones."""
    return {"expectation": f"expect_{name}", **arguments, "severity": severity, "why": why}


# --- parts that several kinds share -------------------------------------------------------------


def row_count(rows: int, what: str = "rows") -> Entry:
    """That most of the rows of today are there."""
    return expect(
        "table_row_count_to_be_between",
        "critical",
        f"the file had {rows:,} {what}; far fewer mean a truncated one",
        min_value=max(1, math.floor(rows * ROWS_LEFT)),
    )


def classes(target: str, shares: dict[str, float], values: Sequence[object]) -> list[Entry]:
    """That the classes are those of today, and none has lost half of its share."""
    entries = [
        expect(
            "column_distinct_values_to_equal_set",
            "critical",
            "every class has to occur, and no other",
            column=target,
            value_set=list(values),
        )
    ]
    for value, (level, share) in zip(values, shares.items(), strict=True):
        if len(shares) > 10:
            break
        entries.append(
            expect(
                "column_values_to_be_in_set",
                "warning",
                f"{share:.1%} were {level}; a far smaller share suggests another population",
                column=target,
                value_set=[value],
                mostly=_rounded_share(share * SHARE_LEFT),
            )
        )
    return entries


def range_of(column: Facts) -> Entry:
    """That numbers lie in the range of today, widened by a quarter at either end."""
    low = float(column.values.min())
    high = float(column.values.max())
    width = (high - low) * RANGE
    lowest = low - width
    if low >= 0:
        lowest = max(0.0, lowest)
    return expect(
        "column_values_to_be_between",
        "warning",
        f"from {low:g} to {high:g} so far",
        column=column.name,
        min_value=_rounded(lowest, math.floor),
        max_value=_rounded(high + width, math.ceil),
    )


def presence(column: Facts) -> Entry:
    """That a column has values, with at most twice as many missing as today."""
    if column.missing == 0:
        return expect(
            "column_values_to_not_be_null",
            "warning",
            "no value was missing so far",
            column=column.name,
        )
    present = len(column.texts) / column.rows
    missing = 1 - present
    return expect(
        "column_values_to_not_be_null",
        "warning",
        f"{column.missing:,} of {column.rows:,} values were missing",
        column=column.name,
        mostly=_rounded_share(max(present * SHARE_LEFT, 1 - 2 * missing - 0.05)),
    )


def levels(column: Facts, values: Sequence[object]) -> Entry:
    """That categories are those of today."""
    return expect(
        "column_values_to_be_in_set",
        "warning",
        "another value is a new category, or another spelling of one",
        column=column.name,
        value_set=list(values),
    )


def _rounded_share(share: float) -> float:
    """A share with two digits, rounded down, above 0 and at most 1."""
    digits = 2 - math.floor(math.log10(share)) - 1 if share < 1 else 2
    return max(10.0**-digits, math.floor(share * 10**digits) / 10**digits)


def _rounded(number: float, towards: "object") -> float:
    """A number with two significant digits, rounded away from the values it bounds."""
    if number == 0 or not math.isfinite(number):
        return 0.0
    digits = math.floor(math.log10(abs(number))) - 1
    scale = 10.0**digits
    steps = math.floor(number / scale) if towards is math.floor else math.ceil(number / scale)
    return float(f"{steps * scale:.12g}")


# --- kinds --------------------------------------------------------------------------------------


def pictures(target: str, classes_: Sequence[object], count: int, smallest: int) -> list[Section]:
    """Expectations of pictures."""
    table = [row_count(count, "pictures")]
    of_classes = [
        expect(
            "column_distinct_values_to_equal_set",
            "critical",
            "another name is another class, or a misspelt one",
            column=target,
            value_set=list(classes_),
        )
    ]
    of_pictures = [
        expect(
            "column_values_to_be_in_set",
            "critical",
            "a picture that cannot be decoded was damaged in transfer",
            column="decodable",
            value_set=[True],
        ),
        expect(
            "column_values_to_be_between",
            "critical",
            "a few pixels show nothing",
            column="width",
            min_value=smallest,
        ),
        expect(
            "column_values_to_be_between",
            "critical",
            "a few pixels show nothing",
            column="height",
            min_value=smallest,
        ),
        expect(
            "column_values_to_be_in_set",
            "critical",
            "a picture of one colour shows nothing; many of them were converted wrongly",
            column="plain",
            value_set=[False],
            mostly=0.9,
        ),
        expect(
            "column_median_to_be_between",
            "critical",
            "if nearly all pictures are alike, they are the wrong files",
            column="alike",
            max_value=0.5,
        ),
        expect(
            "column_values_to_be_unique",
            "warning",
            "a picture that occurs twice counts twice",
            column="sha256",
        ),
        expect(
            "column_values_to_be_in_set",
            "warning",
            "pictures that look alike lie in different parts, and make scores too good",
            column="lookalike",
            value_set=[False],
            mostly=0.9,
        ),
    ]
    return [("the table", table), ("classes", of_classes), ("pictures", of_pictures)]


def ratings(
    columns: Sequence[str], values: Sequence[float], count: int, has_titles: bool
) -> list[Section]:
    """Expectations of ratings; `columns` are user, item, rating and title."""
    user, item, rating, title = columns
    rows = [
        row_count(count, "ratings"),
        expect(
            "compound_columns_to_be_unique",
            "warning",
            "who rates something twice counts once",
            column_list=[user, item],
        ),
    ]
    entries = [
        expect(
            "column_values_to_be_in_set",
            "critical",
            "other values are typing errors, or another scale",
            column=rating,
            value_set=list(values),
        )
    ]
    if has_titles:
        entries.append(
            expect(
                "column_values_to_not_be_null",
                "warning",
                "what the catalogue lacks is recommended by its id",
                column=title,
                mostly=0.9,
            )
        )
    return [("the table", rows), ("ratings", entries)]


def series(day: str, prices: Sequence[str], bounds: Sequence[str], count: int) -> list[Section]:
    """Expectations of a series; `bounds` are the columns of the highest and the lowest price."""
    table = [
        row_count(count, "days"),
        expect(
            "column_values_to_be_increasing",
            "critical",
            "in the wrong order, a window would contain future days",
            column="day_number",
        ),
        expect(
            "column_values_to_be_unique", "critical", "a day twice would count twice", column=day
        ),
        expect(
            "column_values_to_be_between",
            "warning",
            "days are missing, but for weekends and holidays",
            column="gap",
            max_value=10,
            mostly=0.99,
        ),
    ]
    of_prices = []
    for name in prices:
        of_prices.append(
            expect(
                "column_values_to_be_between",
                "critical",
                "a price is positive",
                column=name,
                min_value=0,
                strict_min=True,
            )
        )
    if len(bounds) == 2:
        of_prices.append(
            expect(
                "column_pair_values_a_to_be_greater_than_b",
                "critical",
                "the highest price of a day is not below its lowest",
                column_A=bounds[0],
                column_B=bounds[1],
                or_equal=True,
            )
        )
    return [("the table", table), ("prices", of_prices)]


def clips(target: str, classes_: Sequence[object], count: int, frames: int) -> list[Section]:
    """Expectations of clips; without classes if there are none."""
    sections: list[Section] = [("the table", [row_count(count, "clips")])]
    if classes_:
        of_classes = expect(
            "column_distinct_values_to_equal_set",
            "critical",
            "another name is another class, or a misspelt one",
            column=target,
            value_set=list(classes_),
        )
        sections.append(("classes", [of_classes]))
    of_clips = [
        expect(
            "column_values_to_be_in_set",
            "critical",
            "a clip that cannot be read is damaged, too short, or lacks a frame",
            column="readable",
            value_set=[True],
        ),
        expect(
            "column_values_to_be_in_set",
            "critical",
            "a model reads clips of one length",
            column="frames",
            value_set=[frames],
        ),
        expect(
            "column_values_to_be_in_set",
            "warning",
            "a clip in which nothing moves was cut wrongly",
            column="still",
            value_set=[False],
            mostly=0.9,
        ),
        expect(
            "column_values_to_be_unique",
            "warning",
            "a clip that occurs twice counts twice",
            column="sha256",
        ),
    ]
    return [*sections, ("clips", of_clips)]
