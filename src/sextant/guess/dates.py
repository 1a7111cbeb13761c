"""In which format the days of a column are written."""

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

DAYS = (
    "%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y",
    "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%y-%m-%d",
    "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%Y%m%d",
)  # fmt: skip
TIMES = ("", " %H:%M:%S", "T%H:%M:%S", " %H:%M", "T%H:%M", " %H:%M:%S.%f", "T%H:%M:%S.%f",
         " %I:%M %p", " %I:%M:%S %p")  # fmt: skip
ZONES = ("", "%z", " %z", "Z")
MAY_BE_A_DAY = re.compile(
    r"\d{8}|\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}([ T].{4,30})?|(\d{1,2}[ -])?[A-Za-z]{3,9}[ -].{2,40}"
)
# By directive, a pattern that matches all that strptime accepts in the locale C, and more. In a
# format, a blank matches any white space.
DIRECTIVES = {
    "%Y%m%d": r"\d{6,8}",
    "%Y": r"\d{4}",
    "%y": r"\d{2}",
    **dict.fromkeys(("%m", "%d", "%H", "%I", "%M", "%S"), r"\s?\d{1,2}"),
    **dict.fromkeys(("%b", "%B"), r"\D+"),
    "%f": r"\d{1,6}",
    "%p": "[ap]m",
    "%z": r"(Z|[+-].+)",
    " ": r"\s*",
}
DIRECTIVE = re.compile("|".join(DIRECTIVES))
FIRST_YEAR, LAST_YEAR = 1800, 2100
SAMPLE = 200  # values that are tried
IN_ORDER = 0.95  # the share of neighbours from which on days are in order
FIRST_SECOND, LAST_SECOND = 315_532_800, 2_524_608_000  # 1980 and 2050


class DateFormat(NamedTuple):
    """A format of days, and another one that fits as well, such as day before month."""

    format: str
    other: str | None


def date_format(values: Sequence[str]) -> DateFormat | None:
    """The format of all the values, which are not empty; None if they are no days.

    Where two formats fit, such as 1/2/2020, the one in which the values are in order is taken.
    """
    texts = list(dict.fromkeys(values))
    tried = texts[:: max(1, len(texts) // SAMPLE)]
    if not tried or not _may_be_a_day(tried[0]):
        return None
    fitting = [format_ for format_ in _candidates(tried[0]) if _all_fit(tried, format_)]
    if not fitting:
        return None
    orders = {format_: _in_order(tried, format_) for format_ in fitting}
    fitting.sort(key=lambda format_: -orders[format_])
    best = fitting[0]
    is_clear = orders[best] > IN_ORDER and len(fitting) > 1 and orders[fitting[1]] < orders[best]
    return DateFormat(best, None if is_clear or len(fitting) == 1 else fitting[1])


def is_unix_seconds(values: Sequence[str], units: int = 1) -> bool:
    """Whether all values are seconds since 1970, or `units` of them, from 1980 to 2050."""
    for value in values:
        seconds = int(value) / units if value.isdecimal() and len(value) < 15 else 0
        if not FIRST_SECOND < seconds < LAST_SECOND:
            return False
    return bool(values)


def _may_be_a_day(text: str) -> bool:
    """A quick look that spares the many formats: digits with marks between them, or a month."""
    return MAY_BE_A_DAY.fullmatch(text) is not None and sum(map(str.isdigit, text)) >= 4


def _candidates(text: str) -> list[str]:
    """The formats that may fit the text.

    There are 660, and strptime compiles a format anew unless it is among the last five: trying each
    of them on each column would take most of the time of `make new`.
    """
    formats = []
    for day in DAYS:
        start = _pattern(day).match(text)
        if not start:
            continue
        for time in TIMES:
            middle = _pattern(time).match(text, start.end())
            if not middle:
                continue
            for zone in ZONES if time else ("",):
                if _pattern(zone).fullmatch(text, middle.end()):
                    formats.append(f"{day}{time}{zone}")
    return formats


@functools.cache
def _pattern(format_: str) -> re.Pattern[str]:
    """The pattern of a part of a format, which matches at least what strptime accepts."""
    return re.compile(DIRECTIVE.sub(lambda match: DIRECTIVES[match[0]], format_), re.IGNORECASE)


def _all_fit(values: Sequence[str], format_: str) -> bool:
    return all(_parsed(value, format_) is not None for value in values)


def _parsed(value: str, format_: str) -> datetime | None:
    try:
        day = datetime.strptime(value, format_)
    except ValueError:
        return None
    return day if FIRST_YEAR <= day.year <= LAST_YEAR else None


def _in_order(values: Sequence[str], format_: str) -> float:
    """The share of neighbours that are in order, ascending or descending, from 0.5 to 1."""
    days = []
    for value in values:
        day = _parsed(value, format_)
        assert day is not None
        days.append(day.replace(tzinfo=None))
    if len(days) < 2:
        return 1.0
    rising = 0
    for earlier, later in zip(days[:-1], days[1:], strict=True):
        rising += earlier <= later
    share = rising / (len(days) - 1)
    return max(share, 1 - share)


def day_part(format_: str) -> str:
    """The part of a format that gives the day, without time and zone."""
    for time in TIMES[1:]:
        place = format_.find(time)
        if place > 0:
            return format_[:place]
    return format_
