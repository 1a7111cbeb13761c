"""The block `columns` of conf/dataset/<name>.yaml for a series: roles and file format.

A series has one row per trading day, with prices and optionally a volume. The target price of the
next day is forecast from a window of the most recent days.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ...strict import Day, Strict
from ..formats import Format

# Only by dates: a shuffled split would train on days that come after those it is scored on.
SPLITS = ("dates",)

# Columns that `rows.table` adds for the expectations: days since 1970-01-01, days since the
# previous row, and the weekday (Monday is 0). The first is not called `day`, because Great
# Expectations ignores case in column names and many files have a column `Day`.
DERIVED = ("day_number", "gap", "weekday")

# Words in place of a date format: seconds or milliseconds since 1970-01-01 in UTC.
UNIX = {"unix": 1, "unix_ms": 1000}  # units in a second
DIRECTIVES = "aAwdbBmyYHIpMSfzZjUWcxXGuV%"  # of Python's strptime
YEARS = "yYGcx"  # those that give the year

Positive = Annotated[float, Field(gt=0)]


def _known_date_format(text: str) -> str:
    """A word of UNIX, or a format that strptime knows, with a year."""
    if text in UNIX:
        return text
    directives = re.findall(r"%(.?)", text, re.DOTALL)
    if not directives:
        raise ValueError(
            "it has no directive; expected a format such as %Y-%m-%d, or unix or unix_ms"
        )
    for directive in directives:
        if not directive or directive not in DIRECTIVES:
            raise ValueError(
                f"strptime of Python has no directive %{directive}; expected a format such as"
                " %Y-%m-%d, or unix or unix_ms"
            )
        if directive != "%" and directives.count(directive) > 1:
            raise ValueError(f"it has %{directive} twice; expected each part of a date once")
    if not set(directives) & set(YEARS):
        raise ValueError("it has no year; expected %Y, or %y for a year of two digits")
    return text


def _as_text(value: object) -> object:
    """A number that YAML has read from `only: {id: 7}`, as the text that the file has."""
    if isinstance(value, dict):
        return {key: _number_as_text(cell) for key, cell in value.items()}
    return value


def _number_as_text(cell: object) -> object:
    is_number = isinstance(cell, int | float) and not isinstance(cell, bool)
    return str(cell) if is_number else cell


DateFormat = Annotated[str, AfterValidator(_known_date_format)]
Only = Annotated[dict[str, str], BeforeValidator(_as_text)]


class Unadjusted(Strict):
    """A price column that was not adjusted for a stock split.

    Its values before the day `before` are `factor` times what the other price columns imply.
    """

    column: str
    before: Day
    factor: Annotated[float, Field(gt=1)]


class Columns(Format):
    """The block `columns` of a series: the keys of Format, and these.

    `target` is the price to forecast and `base` the latest price that is known when the forecast
    is made; the forecast is a log return over it. `prices` lists all price columns, in `unit`,
    which the figures name. `high` and `low` bound the other prices of the same day, where the
    series has them. `window` is the number of days that one forecast needs.

    `date_format` is one of Python's strptime, `unix` or `unix_ms`. A time and a time zone may
    follow the day in a file: the day is the one that is written.
    `only` chooses one of the series in a file, as `{Name: AAPL}`: the rows whose columns have these
    values. `repeated` says which row of a day stays if there are several, by their order in the
    files; `zeros` says whether days with a price of 0, as some providers write holidays, are
    refused or left out.

    `horizon` is no key of a data set's conf, since models of one data set may differ in it: the
    task forecasting sets it from the net's argument of this name. It is the number of days ahead
    that are forecast.
    """

    date: str
    date_format: DateFormat = "%Y-%m-%d"
    target: str
    base: str
    prices: Annotated[list[str], Field(min_length=1)]
    unit: str
    high: str | None = None
    low: str | None = None
    volume: str | None = None
    unadjusted: Unadjusted | None = None
    window: Annotated[int, Field(ge=8, le=10_000)]
    only: Only = {}
    repeated: Literal["refuse", "first", "last"] = "refuse"
    zeros: Literal["refuse", "leave_out"] = "refuse"
    horizon: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def roles_are_prices(self) -> Self:
        roles = {"target": self.target, "base": self.base, "high": self.high, "low": self.low}
        if self.unadjusted:
            roles["unadjusted.column"] = self.unadjusted.column
        for role, name in roles.items():
            if name is not None and name not in self.prices:
                raise ValueError(
                    f"`{role}` is `{name}`; expected one of `prices`: {', '.join(self.prices)}"
                )
        return self

    @property
    def numbers(self) -> list[str]:
        """The numeric columns: all prices, then the volume."""
        if self.volume is None:
            return list(self.prices)
        return [*self.prices, self.volume]

    @property
    def upstream(self) -> list[str]:
        """The columns that every file must have, and that a caller sends."""
        return [self.date, *self.numbers]

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations check."""
        return [*self.upstream, *DERIVED]
