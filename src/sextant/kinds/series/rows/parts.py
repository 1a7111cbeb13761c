"""Four parts of a series by date: split, checked and summed up.

A part contains the days that are scored, preceded by one window of history rows, which are marked
in the column `context`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ....errors import DataError
from ...parts import CONTEXT, PARTS, scored, statistics
from ...splits import DateSplit
from ..columns import Columns
from .repairing import REPAIRED


def split(rows: pd.DataFrame, columns: Columns, split: DateSplit) -> dict[str, pd.DataFrame]:
    """Four parts by the dates of the split, each preceded by one window of history rows.

    The first window of the series is the history of train. The part of a day never changes as the
    series grows.
    """
    days = rows[columns.date]
    val_start = int((days < split.val_from).sum())
    gate_start = int((days < split.gate_from).sum())
    test_start = int((days < split.test_from).sum())
    train_start = min(columns.window, val_start)
    bounds = [train_start, val_start, gate_start, test_start, len(rows)]
    parts = {}
    for name, start, end in zip(PARTS, bounds[:-1], bounds[1:], strict=True):
        history_start = max(start - columns.window, 0)
        part = rows.iloc[history_start:end].reset_index(drop=True)
        is_history = np.arange(len(part)) < start - history_start
        parts[name] = part.assign(**{CONTEXT: is_history})
    return parts


def check_parts(parts: Mapping[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a part has no day to score, or less history than a window."""
    for name, rows in parts.items():
        days = len(scored(rows))
        history = len(rows) - days
        if history < columns.window or days == 0:
            raise DataError(
                f"part {name} has {days} days to score after {history} days of history; expected 1"
                f" or more after {columns.window}; add days, or change `split` in the conf"
            )


def forecast_days(rows: pd.DataFrame, columns: Columns, ahead: int = 1) -> pd.DataFrame:
    """One row per complete window of `rows`, in order; each is a forecast to make.

    `after` is the last day of the window and `base` its base price. `date` is the day that lies
    `ahead` trading days later and `next` its target price; both are missing if that day is not in
    `rows`, so that no part reads a target of the next one. Of a part, the days one ahead are those
    that are scored.
    """
    days = rows[columns.date]
    forecasts = pd.DataFrame(
        {
            "after": days,
            "base": rows[columns.base].astype(float),
            "date": days.shift(-ahead),
            "next": rows[columns.target].astype(float).shift(-ahead),
        }
    )
    forecasts = forecasts.iloc[columns.window - 1 :]
    if CONTEXT in rows:
        # A window ends on the last row of a part too, but the day after it is in the next part.
        forecasts = forecasts.iloc[: len(scored(rows))]
    return forecasts.reset_index(drop=True)


MONTH = 20  # trading days


def monitored(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, pd.Series]:
    """Return the log returns of the prices, volatility, the range of a day, changes of the volume
    and the calendar days from row to row.

    Volatility is the standard deviation of the target's log return over a month.
    """
    rows = parts["train"]
    values: dict[str, pd.Series] = {}
    for name in columns.prices:
        values[f"return of {name}"] = _log_change(rows[name])
    returns = values[f"return of {columns.target}"]
    values[f"volatility of {columns.target}"] = returns.rolling(MONTH).std().iloc[MONTH:].round(9)
    if columns.high and columns.low:
        spread = rows[columns.high] / rows[columns.low]
        values["range of a day"] = _log(spread).round(9)
    if columns.volume is not None:
        values[f"change of {columns.volume}"] = _log_change(rows[columns.volume].clip(lower=1))
    days = pd.to_datetime(rows[columns.date]).diff().dt.days.iloc[1:]
    values["days to the next row"] = days.astype(np.float64)
    return values


def _log_change(numbers: pd.Series) -> pd.Series:
    """The log of each number over the one before it, to nine digits."""
    return _log(numbers).diff().iloc[1:].round(9)


def _log(numbers: pd.Series) -> pd.Series:
    return pd.Series(np.log(numbers.to_numpy(np.float64)), index=numbers.index)


def profile(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Statistics of the numbers in train, the first and last day of each part, and the repairs."""
    numbers = {name: statistics(parts["train"][name]) for name in columns.numbers}
    days = {}
    for name, part in parts.items():
        part_days = scored(part)[columns.date]
        days[name] = [part_days.min(), part_days.max()]
    return {"columns": numbers, "days": days, "repairs": _repairs(parts, columns)}


def _repairs(parts: Mapping[str, pd.DataFrame], columns: Columns) -> list[str]:
    rows = pd.concat(list(parts.values())).drop_duplicates(columns.date)
    repaired = int(rows[REPAIRED].sum())
    split = columns.unadjusted
    if not repaired or split is None:
        return []
    return [
        f"`{split.column}` of {repaired:,} days before {split.before} was not adjusted for the"
        f" split: divided by {split.factor:g}, an approximation"
    ]
