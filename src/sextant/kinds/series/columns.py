"""What each column of a series is, and how its files are written."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from ...strict import Day, Strict

if TYPE_CHECKING:
    pass


SPLITS = ("dates",)  # a shuffled split would train on the days after those that it scores
# What the expectations see besides: days since 1970, days since the row before, Monday = 0. Not `day`, which Great
# Expectations could not tell from the `Day` of many a file.
DERIVED = ("day_number", "gap", "weekday")


Positive = Annotated[float, Field(gt=0)]


class Unadjusted(Strict):
    """A price that is not adjusted for a split: before the day `before` it is `factor` times the others."""

    column: str
    before: Day
    factor: Annotated[float, Field(gt=1)]


class Columns(Strict):
    """What each column of a series is, and how its files are written.

    `target` is the price that is asked for, `base` the best price known the day before, `prices` are all of them, in
    `unit`, which the figures name.
    `high` and `low` bound the others of their day, where the series has such.
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
    def names_are_prices(self) -> Self:
        split = self.unadjusted.column if self.unadjusted else None
        for name in (self.target, self.base, self.high, self.low, split):
            if name is not None and name not in self.prices:
                raise ValueError(f"`{name}` is none of `prices`: {', '.join(self.prices)}")
        return self

    @property
    def numbers(self) -> list[str]:
        return [*self.prices, *([self.volume] if self.volume else [])]

    @property
    def upstream(self) -> list[str]:
        return [self.date, *self.numbers]

    @property
    def all(self) -> list[str]:
        return [*self.upstream, *DERIVED]
