"""The days of a series as ISO text, from any format that a conf names.

A day is the one that is written: no time zone moves it.
"""

import re
from datetime import date, datetime, timedelta

import pandas as pd

from ...tables import is_from_file
from ..columns import UNIX, Columns
from .faults import refuse, refuse_missing

HEADER_ROWS = 5  # at most so many rows before the first day may be a header of several lines
FIRST_DAY, LAST_DAY = "1678-01-01", "2261-12-31"  # of the times that pandas holds

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


def checked_days(column: pd.Series, columns: Columns, iso: bool = True) -> pd.Series:
    """Days as ISO text; raises DataError for the first that is missing or not as conf says.

    With `iso`, days may also be ISO text, as this package writes them.
    """
    name = columns.date
    refuse_missing(column, name, "expected a day in each row")
    days = iso_days(column, columns, iso)
    wrong = days.isna()
    if wrong.any():
        expected = f"`{name}`; expected a day as {columns.date_format}"
        refuse(wrong, column, f"{expected}{_format_advice(wrong, column, columns)}")
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
        if iso_days(column, other, iso=False).notna().all():
            return f" (all rows have a day as {swapped})"
    return ""


def iso_days(column: pd.Series, columns: Columns, iso: bool = True) -> pd.Series:
    """Days as ISO text, from the upstream format, ISO text or datetimes; missing for the rest."""
    if column.dtype.kind == "M":
        return column.dt.strftime("%Y-%m-%d")
    # In rows without a file, which this package or a program wrote, ISO text goes first.
    iso_first = iso and not is_from_file(column)
    days = {}
    for value in column.unique():
        day = iso_day(value, columns.date_format, iso, iso_first)
        is_possible = day is not None and FIRST_DAY <= day <= LAST_DAY
        days[value] = day if is_possible else None
    return column.map(days).astype("str")


def iso_day(
    value: object, date_format: str, iso: bool = False, iso_first: bool = False
) -> str | None:
    """A day as ISO text; None for what does not fit the format.

    With `iso`, ISO text fits as well; with `iso_first`, it is read before the format is tried.
    """
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
