"""Baselines of forecasting: the last known price, the last target, and an AR(5) on the target's log returns.

Each is `fit(train, columns) -> answer`, and `answer(rows)` gives what a model of this task gives. Its bounds are the
5 % and 95 % quantiles of its own log errors on `train`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ...kinds.series.rows import forecast_days
from .metrics import COVERAGE, as_answers

Answer = Callable[[pd.DataFrame], pd.DataFrame]
LAGS = 5


def previous_close(train: pd.DataFrame, columns: Any) -> Answer:
    """The best price known: the base price of the day before (Close). What a forecast without skill comes to."""
    return _bounded(lambda rows: forecast_days(rows, columns)["base"].to_numpy(), train, columns)


def previous_open(train: pd.DataFrame, columns: Any) -> Answer:
    """The target of the day before (Open): persistence, which looks as good on a plot as many a published net."""
    return _bounded(
        lambda rows: _at_known(rows, columns, rows[columns.target].to_numpy(float)), train, columns
    )


def ar5(train: pd.DataFrame, columns: Any) -> Answer:
    """Least squares of the target's log return on its five last ones, with an intercept."""
    x, y = _lagged(train, columns)
    coefficients = np.linalg.lstsq(x[:-1], y, rcond=None)[0]

    def value(rows: pd.DataFrame) -> np.ndarray:
        steps = np.concatenate([np.zeros(LAGS), _lagged(rows, columns)[0] @ coefficients])
        return _at_known(rows, columns, rows[columns.target].to_numpy(float) * np.exp(steps))

    return _bounded(value, train, columns)


BASELINES: dict[str, Callable[[pd.DataFrame, Any], Answer]] = {
    "previous_close": previous_close,
    "previous_open": previous_open,
    "ar5": ar5,
}


def _lagged(rows: pd.DataFrame, columns: Any) -> tuple[np.ndarray, np.ndarray]:
    """1 and the five last log returns, of the rows from the sixth on; the return after each but the last."""
    returns = np.diff(np.log(rows[columns.target].to_numpy(float)))
    last = np.lib.stride_tricks.sliding_window_view(returns, LAGS)
    return np.column_stack([np.ones(len(last)), last]), returns[LAGS:]


def _at_known(rows: pd.DataFrame, columns: Any, values: np.ndarray) -> np.ndarray:
    """Those of `values`, one a row, at the days that are asked about."""
    first = columns.window - 1
    return values[first : first + len(forecast_days(rows, columns))]


def _bounded(
    value: Callable[[pd.DataFrame], np.ndarray], train: pd.DataFrame, columns: Any
) -> Answer:
    came = forecast_days(train, columns)["next"].to_numpy()
    tail = (1 - COVERAGE) / 2
    low, high = np.nanquantile(np.log(came / value(train)), (tail, 1 - tail))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        found = value(rows)
        return as_answers(
            forecast_days(rows, columns)["after"],
            found,
            found * np.exp(low),
            found * np.exp(high),
            columns,
        )

    return answer
