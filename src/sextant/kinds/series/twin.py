"""The twin of a series: generated prices on a real calendar, with a planted signal.

Its parameters are the block `twin` of conf/dataset/<name>.yaml.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ...strict import Day, PlainPath, Seed, Strict
from .columns import Columns, Positive


class TwinFile(Strict):
    """One of the files of the twin; it holds the days up to and including `until`."""

    file: PlainPath
    until: Day


class Walk(Strict):
    """A daily log return with Student-t noise: standard deviation `sd`, `freedom` degrees of
    freedom.

    The fewer degrees, the heavier the tails.
    """

    sd: Positive
    freedom: Annotated[float, Field(gt=2)]  # the variance is finite above 2


class Era(Strict):
    """From the day `since` on, the volume is lognormal with this median."""

    since: Day
    median: Positive


class Twin(Strict):
    """A random walk by night and by day, in which part of the night's return is predictable.

    The night's return is drift + noise + the sum over k of `echo[k]` times the return of the day
    k + 1 days before: that sum is the signal. The log volatility is an AR(1) process with
    coefficient `persistence` and standard deviation `spread`. `wick` is the mean of log(High /
    max(Open, Close)), and of its counterpart for Low. `eras` change the level of the volume. The
    column that `columns.unadjusted` names is multiplied by its factor, as it is upstream.
    """

    seed: Seed
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
    def days_ascend(self) -> Self:
        _check_ascending("files", [file.until for file in self.files])
        _check_ascending("eras", [era.since for era in self.eras])
        first_era, first_end = self.eras[0].since, self.files[0].until
        if not first_era <= self.first <= first_end:
            raise ValueError(
                f"`first` is {self.first}; expected a day from {first_era} (the first of `eras`) to"
                f" {first_end} (the end of the first of `files`)"
            )
        return self


def _check_ascending(key: str, days: list[str]) -> None:
    if sorted(set(days)) != days:
        raise ValueError(
            f"the days of `{key}` are {', '.join(days)}; expected the oldest first, each day once"
        )


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin in the upstream format.

    Numbers with thousands separators are quoted, dates are not zero-padded, lines end with CRLF,
    and the last line has no line end.
    """
    rows = _rows(twin, columns)
    folder.mkdir(parents=True, exist_ok=True)
    previous_end = ""
    for file in twin.files:
        days = rows[columns.date]
        part = rows[(days > previous_end) & (days <= file.until)]
        lines = [columns.delimiter.join(columns.upstream)]
        lines += [_line(row, columns) for row in part.to_dict("records")]
        (folder / file.file).write_bytes("\r\n".join(lines).encode())
        previous_end = file.until


# --- generated rows -----------------------------------------------------------------------------


def _rows(twin: Twin, columns: Columns) -> pd.DataFrame:
    """All days of the twin. The order of the random draws must not change: it fixes the bytes."""
    rng = np.random.default_rng(twin.seed)
    closed = set(twin.closed)
    weekdays = pd.bdate_range(twin.first, twin.files[-1].until).strftime("%Y-%m-%d")
    days = [day for day in weekdays if day not in closed]
    log_prices = _log_prices(twin, columns, len(days), rng)
    rows = pd.DataFrame({columns.date: days})
    for name in columns.prices:
        rows[name] = np.exp(log_prices[name]).round(2)
    if columns.volume:
        rows[columns.volume] = _volume(twin, days, rng)
    split = columns.unadjusted
    if split:
        multiplied = (rows[split.column] * split.factor).round(2)
        rows[split.column] = rows[split.column].mask(rows[columns.date] < split.before, multiplied)
    return rows


def _log_prices(
    twin: Twin, columns: Columns, n: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The log of each price column on n days. A column without another role is an opening price."""
    log_volatility = _ar1(rng.standard_normal(n), twin.persistence) * twin.spread
    volatility = np.exp(log_volatility - log_volatility.mean())
    day_return = twin.day.sd * volatility * _student(rng, twin.day.freedom, n)
    night_noise = twin.night.sd * volatility * _student(rng, twin.night.freedom, n)
    night_return = night_noise + twin.drift
    for lag, weight in enumerate(twin.echo, start=1):
        night_return[lag:] += weight * day_return[:-lag]
    night_return[0] = 0.0
    log_close = np.log(twin.start) + np.cumsum(night_return + day_return)
    log_open = log_close - day_return
    wick_above = rng.exponential(twin.wick, n) * volatility
    wick_below = rng.exponential(twin.wick, n) * volatility
    roles = {
        columns.high: np.maximum(log_open, log_close) + wick_above,
        columns.low: np.minimum(log_open, log_close) - wick_below,
        columns.base: log_close,
    }
    return {name: roles.get(name, log_open) for name in columns.prices}


def _volume(twin: Twin, days: list[str], rng: np.random.Generator) -> np.ndarray:
    """The volume of each day, in hundreds as upstream has it."""
    medians = np.array([_median_volume(twin, day) for day in days])
    log_deviation = _ar1(rng.standard_normal(len(days)), twin.persistence) * twin.volume_sd
    volume: np.ndarray = (medians * np.exp(log_deviation) / 100).round().clip(1).astype(int) * 100
    return volume


def _median_volume(twin: Twin, day: str) -> float:
    """The median of the latest era that has begun by `day`."""
    median = twin.eras[0].median
    for era in twin.eras:
        if era.since <= day:
            median = era.median
    return median


def _ar1(noise: np.ndarray, persistence: float) -> np.ndarray:
    """An AR(1) process of unit variance."""
    process = noise.copy()
    for i in range(1, len(process)):
        process[i] = persistence * process[i - 1] + (1 - persistence**2) ** 0.5 * noise[i]
    return process


def _student(rng: np.random.Generator, freedom: float, n: int) -> np.ndarray:
    """Student-t noise of unit variance."""
    return rng.standard_t(freedom, n) * ((freedom - 2) / freedom) ** 0.5


# --- the upstream format ------------------------------------------------------------------------


def _line(row: dict, columns: Columns) -> str:
    """One row as a line of text."""
    fields = [_day_field(row[columns.date], columns.date_format)]
    fields += [_number_field(row[name], name, columns) for name in columns.numbers]
    return columns.delimiter.join(fields)


def _day_field(day: str, date_format: str) -> str:
    """A day as 1/3/2012. Not by strftime, whose flag against zero padding depends on the
    platform.
    """
    moment = date.fromisoformat(day)
    text = date_format.replace("%m", str(moment.month)).replace("%d", str(moment.day))
    return text.replace("%Y", str(moment.year))


def _number_field(number: float, name: str, columns: Columns) -> str:
    """A number with thousands separators, in quotes if it contains the delimiter."""
    if name == columns.volume:
        text = f"{number:,.0f}"
    else:
        text = f"{number:,.2f}".rstrip("0").rstrip(".")
    text = text.replace(",", columns.thousands or "")
    if columns.delimiter in text:
        return f'"{text}"'
    return text
