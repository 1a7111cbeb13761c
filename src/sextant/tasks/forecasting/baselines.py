"""Baselines of forecasting: the previous base price, the previous target, and an AR(5).

The bounds of each are the 5 % and 95 % quantiles of its log errors on `train`, at each day ahead.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from ...kinds.series.rows import forecast_days
from .metrics import COVERAGE, as_answers, days_ahead, joined

if TYPE_CHECKING:
    from ... import contracts
    from ...kinds.series.columns import Columns

LAGS = 5

# (rows, days ahead) -> one value per forecast day
Value: TypeAlias = Callable[[pd.DataFrame, int], np.ndarray]


def previous_close(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """Repeat the latest price that is known, the base (Close): a forecast without skill."""

    def value(rows: pd.DataFrame, ahead: int) -> np.ndarray:
        return forecast_days(rows, columns)["base"].to_numpy()

    return _with_bounds(value, train, columns)


def previous_open(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """Repeat the target of the day before (Open).

    On a plot, this persistence looks as good as many published nets.
    """

    def value(rows: pd.DataFrame, ahead: int) -> np.ndarray:
        return _at_forecast_days(rows, columns, rows[columns.target].to_numpy(float))

    return _with_bounds(value, train, columns)


def ar5(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """Predict the log return of the target from its five previous ones, by least squares.

    Further ahead, the return over all days up to that one is predicted directly.
    """
    x = _lagged(train, columns)
    log_target = np.log(train[columns.target].to_numpy(float))
    coefficients = {}
    for ahead in days_ahead(columns):
        y = log_target[LAGS + ahead :] - log_target[LAGS:-ahead]
        coefficients[ahead] = np.linalg.lstsq(x[:-ahead], y, rcond=None)[0]

    def value(rows: pd.DataFrame, ahead: int) -> np.ndarray:
        returns = np.concatenate([np.zeros(LAGS), _lagged(rows, columns) @ coefficients[ahead]])
        values = rows[columns.target].to_numpy(float) * np.exp(returns)
        return _at_forecast_days(rows, columns, values)

    return _with_bounds(value, train, columns)


BASELINES: "dict[str, contracts.Fit]" = {
    "previous_close": previous_close,
    "previous_open": previous_open,
    "ar5": ar5,
}


def _lagged(rows: pd.DataFrame, columns: "Columns") -> np.ndarray:
    """The regressors of an AR(LAGS) on log returns, (rows - LAGS, 1 + LAGS).

    They are a 1 and the last LAGS log returns at each row from row LAGS on.
    """
    returns = np.diff(np.log(rows[columns.target].to_numpy(float)))
    lagged = np.lib.stride_tricks.sliding_window_view(returns, LAGS)
    return np.column_stack([np.ones(len(lagged)), lagged])


def _at_forecast_days(rows: pd.DataFrame, columns: "Columns", values: np.ndarray) -> np.ndarray:
    """The entries of `values`, (rows,), at the rows that complete a window, (forecast days,)."""
    first = columns.window - 1
    return values[first : first + len(forecast_days(rows, columns))]


def _with_bounds(value: Value, train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """The baseline that answers `value(rows, ahead)`, with bounds from its errors on `train`."""
    tail = (1 - COVERAGE) / 2
    bounds = {}
    for ahead in days_ahead(columns):
        truth = forecast_days(train, columns, ahead)["next"].to_numpy()
        # NaN if the day so far ahead is not in `train`.
        log_errors = np.log(truth / value(train, ahead))
        bounds[ahead] = np.nanquantile(log_errors, (tail, 1 - tail))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        after = forecast_days(rows, columns)["after"]
        values, lower, upper = [], [], []
        for ahead, (low, high) in bounds.items():
            of_day = value(rows, ahead)
            values.append(of_day)
            lower.append(of_day * np.exp(low))
            upper.append(of_day * np.exp(high))
        return as_answers(after, joined(values), joined(lower), joined(upper), columns)

    return answer
