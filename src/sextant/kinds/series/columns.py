"""The block `columns` of conf/dataset/<name>.yaml for a series: roles and file format.

A series has one row per trading day, with prices and optionally a volume. The target price of the
next day is forecast from a window of the most recent days.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ...strict import Day, Strict

# Only by dates: a shuffled split would train on days that come after those it is scored on.
SPLITS = ("dates",)

# Columns that `rows.table` adds for the expectations: days since 1970-01-01, days since the
# previous row, and the weekday (Monday is 0). The first is not called `day`, because Great
# Expectations ignores case in column names and many files have a column `Day`.
DERIVED = ("day_number", "gap", "weekday")

Positive = Annotated[float, Field(gt=0)]


class Unadjusted(Strict):
    """A price column that was not adjusted for a stock split.

    Its values before the day `before` are `factor` times what the other price columns imply.
    """

    column: str
    before: Day
    factor: Annotated[float, Field(gt=1)]


class Columns(Strict):
    """The block `columns` of a series.

    `target` is the price to forecast and `base` the latest price that is known when the forecast
    is made; the forecast is a log return over it. `prices` lists all price columns, in `unit`,
    which the figures name. `high` and `low` bound the other prices of the same day, where the
    series has them. `window` is the number of days that one forecast needs.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None
    date: str
    date_format: str
    target: str
    base: str
    prices: Annotated[list[str], Field(min_length=1)]
    unit: str
    high: str | None
    low: str | None
    volume: str | None
    unadjusted: Unadjusted | None
    window: Annotated[int, Field(ge=8)]

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
