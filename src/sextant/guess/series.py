"""A series: which columns are the day, the prices and the volume, and where the parts begin."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..errors import UsageError
from ..strict import advice
from .facts import Facts

OPEN = re.compile(r"(.*[\W_])?open(ing)?([\W_].*)?|eröffnung", re.IGNORECASE)
HIGH = re.compile(r"(.*[\W_])?high(est)?([\W_].*)?|hoch|tageshoch", re.IGNORECASE)
LOW = re.compile(r"(.*[\W_])?low(est)?([\W_].*)?|tief|tagestief", re.IGNORECASE)
CLOSE = re.compile(
    r"(.*[\W_])?(close|last|price|settle|rate)([\W_].*)?|schluss(kurs)?|kurs", re.IGNORECASE
)
ADJUSTED = re.compile(r"adj.*", re.IGNORECASE)
VOLUME = re.compile(r"vol\.?|(.*[\W_])?volume([\W_].*)?|volumen|stücke?", re.IGNORECASE)
DAY = re.compile(
    r"(.*[\W_])?(date|day|time|datetime|timestamp|datum|period|month)|unnamed: 0|tag", re.IGNORECASE
)
SYMBOL = re.compile(
    r"(.*[\W_])?(symbol|ticker|name|stock|series|currency|pair|code)", re.IGNORECASE
)
TEST_NAME = re.compile(r"(.*[\W_])?(test|holdout)([\W_].*)?", re.IGNORECASE)
SLACK = 0.02  # how far a price may lie outside of High to Low: both are rounded to the cent
LEAST_DAYS = 60
WINDOW = 40
PART = 0.1  # the share of the days in val, in gate and in test


@dataclass
class Series:
    """The columns of a series and its parts; the days are ISO text."""

    date: str
    target: str
    base: str
    prices: list[str]
    high: str | None = None
    low: str | None = None
    volume: str | None = None
    # A price before a stock split: column, first adjusted day, factor.
    unadjusted: tuple[str, str, float] | None = None
    only: dict[str, str] = field(default_factory=dict)
    repeated: str | None = None
    zeros: str | None = None
    window: int = WINDOW
    days: int = 0
    starts: tuple[str, str, str] = ("", "", "")  # of val, gate and test
    level: float = 0.0  # the median of the target
    ignored: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def looks_like_series(columns: Sequence[Facts], target: str | None) -> bool:
    """Whether a table has one row a day, or one for each day and name, and prices.

    A table of cases can have a day too. So the prices have to be named as such, or to be all there
    is.
    """
    day = day_column(columns)
    if day is None or day.missing > 0.1 * day.rows:
        return False
    if day.distinct < 0.98 * len(day.texts) and symbol_column(columns, day) is None:
        return False
    prices = [column for column in columns if _is_price(column)]
    named = [column.name for column in prices if is_price_name(column.name)]
    few = len(columns) <= 3 and len(prices) == 1
    if target is not None:
        return target in named or (few and prices[0].name == target)
    return bool(named) or few


def day_column(columns: Sequence[Facts]) -> Facts | None:
    """The column of the days: one with days in it, the one that is named so first."""
    days = [column for column in columns if column.date]
    named = [column for column in days if DAY.fullmatch(column.name)]
    return next(iter([*named, *days]), None)


def symbol_column(columns: Sequence[Facts], day: Facts) -> Facts | None:
    """The column that tells several series in one file apart: each has a day once."""
    for column in columns:
        is_text = not column.is_number and not column.date
        if not is_text or column.missing or not 1 < column.distinct <= column.rows / 2:
            continue
        pairs = pd.DataFrame({"symbol": column.texts, "day": day.texts})
        if not pairs.duplicated().any() and SYMBOL.fullmatch(column.name):
            return column
    return None


def is_price_name(name: str) -> bool:
    """Whether a column is named as prices are."""
    return any(pattern.fullmatch(name) for pattern in (OPEN, HIGH, LOW, CLOSE))


def _is_price(column: Facts) -> bool:
    if not column.is_number or column.date or column.is_code or VOLUME.fullmatch(column.name):
        return False
    traded = column.values[column.values != 0]  # some sources write holidays as 0
    return len(traded) > 0.5 * column.rows and bool((traded > 0).all())


def series(
    columns: Sequence[Facts],
    days: pd.Series,
    files: pd.Series,
    chosen: Mapping[str, str],
) -> Series:
    """The series in a table.

    `days` are the days as ISO text, and `files` the name of the file of each row. `chosen` may have
    `target` and `date`. Raises UsageError for a table without days or prices, or with too few days.
    """
    by_name = {column.name: column for column in columns}
    date = by_name[chosen["date"]] if "date" in chosen else day_column(columns)
    if date is None:
        raise UsageError("no column has a day in each row; name it with DATE=…")
    target = chosen.get("target")
    prices = [column.name for column in columns if _is_price(column)]
    if target is not None and target not in by_name:
        raise UsageError(f"TARGET={target}: no such column; {advice(target, by_name)}")
    if target is not None and target not in prices:
        raise UsageError(
            f"TARGET={target}: a series is forecast from numbers above 0, and this column has"
            f" {', '.join(by_name[target].examples) or 'none'}"
        )
    if not prices:
        raise UsageError("no column has numbers above 0, as prices are; KIND=tabular reads a table")
    guess = _roles(by_name, date.name, prices, target)
    guess.days = int(days.nunique())
    if guess.days < LEAST_DAYS:
        raise UsageError(f"the series has {guess.days} days; expected at least {LEAST_DAYS}")
    _set_rules(guess, by_name, days)
    _check_bounds(guess, by_name, days)
    guess.starts = starts(days, files)
    guess.window = min(WINDOW, max(8, guess.days // 10))
    guess.level = float(by_name[guess.target].values.median())
    for name in by_name:
        used = [guess.date, *guess.prices, guess.volume, *guess.only]
        if name not in used and name not in guess.ignored:
            guess.ignored[name] = "no price"
    return guess


def _roles(
    by_name: Mapping[str, Facts], day: str, prices: Sequence[str], target: str | None
) -> Series:
    opening = _first(OPEN, prices)
    high = _first(HIGH, prices)
    low = _first(LOW, prices)
    close = _first(CLOSE, prices)
    chosen = target or close or opening or prices[0]
    base = chosen
    if chosen == opening and close is not None:
        base = close  # the latest price that is known before the market opens
    kept = [name for name in prices if name in (opening, high, low, close, chosen)]
    other_columns = [name for name in by_name if name != day]
    guess = Series(day, chosen, base, kept, high, low, _first(VOLUME, other_columns))
    if target is None:
        guess.doubts.append(f"target `{chosen}` (TARGET=… forecasts another column)")
    if guess.volume is not None and not _is_volume(by_name[guess.volume]):
        guess.ignored[guess.volume] = "no volume on some days"
        guess.volume = None
    return guess


def _first(pattern: re.Pattern[str], names: Sequence[str]) -> str | None:
    for name in names:
        if pattern.fullmatch(name) and not ADJUSTED.match(name):
            return name
    return None


def _is_volume(column: Facts) -> bool:
    return column.is_number and column.missing == 0 and bool((column.values >= 0).all())


def _set_rules(guess: Series, by_name: Mapping[str, Facts], days: pd.Series) -> None:
    """The rules for days that stand twice, and for days with a price of 0."""
    if days.duplicated().any():
        guess.repeated = "last"
        guess.doubts.append(
            f"{int(days.duplicated().sum()):,} days stand twice: the last row stays"
        )
    zeros = 0
    for name in guess.prices:
        zeros = max(zeros, int((by_name[name].values == 0).sum()))
    if zeros:
        guess.zeros = "leave_out"
        guess.doubts.append(f"{zeros:,} days have a price of 0: left out")


# --- prices within High and Low -----------------------------------------------------------------


def _check_bounds(guess: Series, by_name: Mapping[str, Facts], days: pd.Series) -> None:
    """Leave out a price that lies outside of High to Low, or find from when on it is adjusted."""
    if guess.high is None or guess.low is None:
        guess.high = guess.low = None
        return
    table = pd.DataFrame({name: by_name[name].values for name in guess.prices}).dropna()
    table = table[(table > 0).all(axis=1)]
    high = table[guess.high]
    low = table[guess.low]
    if (high < low).any():
        guess.doubts.append(f"`{guess.high}` is below `{guess.low}` on some days: no bounds")
        guess.high = guess.low = None
        return
    for name in list(guess.prices):
        outside = (table[name] > high + SLACK) | (table[name] < low - SLACK)
        if name in (guess.high, guess.low) or not outside.any():
            continue
        split = split_of(table[name], high, low, days[table.index])
        if split is not None and guess.unadjusted is None:
            guess.unadjusted = (name, *split)
            guess.doubts.append(
                f"`{name}` is {split[1]:g} times the other prices before {split[0]}: not adjusted"
                " for a split, so divided"
            )
            continue
        _leave_out(guess, name, int(outside.sum()))


def _leave_out(guess: Series, name: str, count: int) -> None:
    """Leave out a price; if it is the target, leave out the bounds."""
    if guess.target == name:
        guess.high = guess.low = None
        return
    guess.prices.remove(name)
    guess.ignored[name] = f"outside of its bounds on {count:,} days"
    if guess.base == name:
        guess.base = guess.target


def split_of(
    price: pd.Series, high: pd.Series, low: pd.Series, days: pd.Series
) -> tuple[str, float] | None:
    """The first day on which a price is adjusted for a stock split, and the factor before it."""
    outside = price > high * 1.2
    if not outside.any():
        return None
    before = days <= days[outside].max()
    later = days[~before]
    if not outside[before].all() or later.empty:
        return None
    factor = _factor(price[before], high[before], low[before])
    return None if factor is None else (str(later.min()), factor)


def _factor(price: pd.Series, high: pd.Series, low: pd.Series) -> float | None:
    """The factor with the fewest digits by which every price comes between Low and High."""
    least = float((price / (high + SLACK / 2)).max())
    most = float((price / (low - SLACK / 2)).min())
    for digits in range(5):
        factor = float(np.ceil(least * 10**digits) / 10**digits)
        if 1 < factor <= most:
            return factor
    return None


# --- parts --------------------------------------------------------------------------------------


def starts(days: pd.Series, files: pd.Series) -> tuple[str, str, str]:
    """The first days of val, gate and test; a file that is named `test` is the test part."""
    ordered = sorted(days.dropna().unique())
    part = max(1, round(len(ordered) * PART))
    test = len(ordered) - part
    is_reserved = files.map(lambda file: TEST_NAME.fullmatch(str(file)) is not None)
    reserved = days[is_reserved.to_numpy()]
    if len(reserved) and ordered[2 * part] < reserved.min() and len(reserved) < len(days) / 2:
        test = ordered.index(reserved.min())
    return str(ordered[test - 2 * part]), str(ordered[test - part]), str(ordered[test])
