"""The twin of a series: prices that walk, with a planted signal."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ...strict import Day, Strict

if TYPE_CHECKING:
    pass
from .columns import Columns, Positive

# --- the twin: a generator whose numbers stand in conf ----------------------------------------------------------------


class TwinFile(Strict):
    """One of the files that the twin is written to; the days up to and with `until`."""

    file: str
    until: Day


class Walk(Strict):
    """A log return with Student-t noise: `sd` a day; few `freedom` degrees make rare days large."""

    sd: Positive
    freedom: Annotated[float, Field(gt=2)]


class Era(Strict):
    """The volume from the day `since` on: lognormal with this median."""

    since: Day
    median: Positive


class Twin(Strict):
    """The stand-in of a share's prices: a random walk by night and by day, with a part of the night that can be known.

    The night's return is the sum of `echo[k]` times the day's return k days before, and noise. The persistence of
    the volatility is that of an AR(1) process of its logarithm with deviation `spread`.
    `eras` change the volume's level, as splits and fashions do; `unadjusted` (of the columns) is written as upstream.
    """

    seed: int
    first: Day
    closed: list[Day]
    files: Annotated[list[TwinFile], Field(min_length=1)]
    start: Positive
    drift: float
    day: Walk
    night: Walk
    echo: list[float]
    spread: Annotated[float, Field(ge=0)]
    persistence: Annotated[float, Field(ge=0, lt=1)]
    wick: Positive
    volume_sd: Positive
    eras: Annotated[list[Era], Field(min_length=1)]

    @model_validator(mode="after")
    def files_and_eras_follow_each_other(self) -> Self:
        for what, days in (
            ("files", [one.until for one in self.files]),
            ("eras", [one.since for one in self.eras]),
        ):
            if sorted(set(days)) != days:
                raise ValueError(
                    f"`{what}` lie at {', '.join(days)}; expected the oldest first, each day once"
                )
        if not self.eras[0].since <= self.first <= self.files[0].until:
            raise ValueError(
                f"`first` is {self.first}; expected it between the first of `eras` ({self.eras[0].since}) and the"
                f" end of the first of `files` ({self.files[0].until})"
            )
        return self


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin in the upstream format: quoted thousands, M/D/YYYY, CRLF, no line end after the last row."""
    rows = _drawn(twin, columns)
    folder.mkdir(parents=True, exist_ok=True)
    since = ""
    for file in twin.files:
        part = rows[(rows[columns.date] > since) & (rows[columns.date] <= file.until)]
        lines = [columns.delimiter.join(columns.upstream), *_lines(part, columns)]
        (folder / file.file).write_bytes("\r\n".join(lines).encode())
        since = file.until


def _drawn(twin: Twin, columns: Columns) -> pd.DataFrame:
    rng = np.random.default_rng(twin.seed)
    closed = set(twin.closed)
    days = [
        day
        for day in pd.bdate_range(twin.first, twin.files[-1].until).strftime("%Y-%m-%d")
        if day not in closed
    ]
    n = len(days)
    calm = _persistent(rng.standard_normal(n), twin.persistence) * twin.spread
    volatility = np.exp(calm - calm.mean())
    by_day, noise = (
        walk.sd * volatility * _student(rng, walk.freedom, n) for walk in (twin.day, twin.night)
    )
    by_night = noise + twin.drift
    for lag, weight in enumerate(twin.echo, start=1):
        by_night[lag:] += weight * by_day[:-lag]
    by_night[0] = 0.0
    close = np.log(twin.start) + np.cumsum(by_night + by_day)
    open_ = close - by_day
    up, down = (rng.exponential(twin.wick, n) * volatility for _ in range(2))
    high, low = np.maximum(open_, close) + up, np.minimum(open_, close) - down
    prices = {columns.high: high, columns.low: low, columns.base: close}
    rows = pd.DataFrame({columns.date: days})
    for name in columns.prices:
        rows[name] = np.exp(prices.get(name, open_)).round(2)
    if columns.volume:
        level = np.array(
            [next(e.median for e in reversed(twin.eras) if e.since <= day) for day in days]
        )
        wave = _persistent(rng.standard_normal(n), twin.persistence) * twin.volume_sd
        rows[columns.volume] = (level * np.exp(wave) / 100).round().clip(1).astype(int) * 100
    if columns.unadjusted:
        early, name = rows[columns.date] < columns.unadjusted.before, columns.unadjusted.column
        rows[name] = rows[name].mask(early, (rows[name] * columns.unadjusted.factor).round(2))
    return rows


def _persistent(noise: np.ndarray, persistence: float) -> np.ndarray:
    """An AR(1) process of unit variance."""
    found = noise.copy()
    for i in range(1, len(found)):
        found[i] = persistence * found[i - 1] + (1 - persistence**2) ** 0.5 * noise[i]
    return found


def _student(rng: np.random.Generator, freedom: float, n: int) -> np.ndarray:
    """Student-t noise of unit variance."""
    return rng.standard_t(freedom, n) * ((freedom - 2) / freedom) ** 0.5


def _lines(rows: pd.DataFrame, columns: Columns) -> Iterator[str]:
    # No zero padding, which strftime cannot leave out everywhere: 1/3/2012.
    for row in rows.to_dict("records"):
        day = date.fromisoformat(row[columns.date])
        marked = columns.date_format
        for mark, value in (("%m", day.month), ("%d", day.day), ("%Y", day.year)):
            marked = marked.replace(mark, str(value))
        yield columns.delimiter.join(
            [marked, *(_written(row[name], name, columns) for name in columns.numbers)]
        )


def _written(number: float, name: str, columns: Columns) -> str:
    text = f"{number:,.0f}" if name == columns.volume else f"{number:,.2f}".rstrip("0").rstrip(".")
    text = text.replace(",", columns.thousands or "")
    return f'"{text}"' if columns.delimiter in text else text
