"""Baselines of forecasting: the previous base price, the previous target, and an AR(5).

The bounds of each are the 5 % and 95 % quantiles of its log errors on `train`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from ...kinds.series.rows import forecast_days
from .metrics import COVERAGE, as_answers

if TYPE_CHECKING:
    from ... import contracts
    from ...kinds.series.columns import Columns

LAGS = 5

Value: TypeAlias = Callable[[pd.DataFrame], np.ndarray]  # rows -> one value per forecast day


def previous_close(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """Repeat the latest price that is known, the base (Close): a forecast without skill."""

    def value(rows: pd.DataFrame) -> np.ndarray:
        return forecast_days(rows, columns)["base"].to_numpy()

    return _with_bounds(value, train, columns)


def previous_open(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """Repeat the target of the day before (Open).

    On a plot, this persistence looks as good as many published nets.
    """

    def value(rows: pd.DataFrame) -> np.ndarray:
        return _at_forecast_days(rows, columns, rows[columns.target].to_numpy(float))

    return _with_bounds(value, train, columns)


def ar5(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """Predict the log return of the target from its five previous ones, by least squares."""
    x, y = _lagged(train, columns)
    coefficients = np.linalg.lstsq(x[:-1], y, rcond=None)[0]

    def value(rows: pd.DataFrame) -> np.ndarray:
        returns = np.concatenate([np.zeros(LAGS), _lagged(rows, columns)[0] @ coefficients])
        values = rows[columns.target].to_numpy(float) * np.exp(returns)
        return _at_forecast_days(rows, columns, values)

    return _with_bounds(value, train, columns)


BASELINES: "dict[str, contracts.Fit]" = {
    "previous_close": previous_close,
    "previous_open": previous_open,
    "ar5": ar5,
}


def _lagged(rows: pd.DataFrame, columns: "Columns") -> tuple[np.ndarray, np.ndarray]:
    """The regressors and the targets of an AR(LAGS) on log returns.

    The regressors, (rows - LAGS, 1 + LAGS), are a 1 and the last LAGS log returns at each row from
    row LAGS on. The target of each, except the last, is the next log return, (rows - LAGS - 1,).
    """
    returns = np.diff(np.log(rows[columns.target].to_numpy(float)))
    lagged = np.lib.stride_tricks.sliding_window_view(returns, LAGS)
    return np.column_stack([np.ones(len(lagged)), lagged]), returns[LAGS:]


def _at_forecast_days(rows: pd.DataFrame, columns: "Columns", values: np.ndarray) -> np.ndarray:
    """The entries of `values`, (rows,), at the rows that complete a window, (forecast days,)."""
    first = columns.window - 1
    return values[first : first + len(forecast_days(rows, columns))]


def _with_bounds(value: Value, train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """The baseline that answers `value(rows)`, with bounds from its log errors on `train`."""
    truth = forecast_days(train, columns)["next"].to_numpy()
    tail = (1 - COVERAGE) / 2
    # NaN if the day after the last row is not in `train`.
    low, high = np.nanquantile(np.log(truth / value(train)), (tail, 1 - tail))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        after = forecast_days(rows, columns)["after"]
        values = value(rows)
        lower = values * np.exp(low)
        upper = values * np.exp(high)
        return as_answers(after, values, lower, upper, columns)

    return answer
