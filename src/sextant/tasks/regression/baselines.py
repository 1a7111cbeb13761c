"""Baselines of regression: the mean, a linear model, and boosted trees of tables.

Each has an interval of 90 %. Those of the linear model and of the trees are calibrated on val, as
that of the net is.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

from ... import trees
from .metrics import TAIL, as_answers, margin, pinball

if TYPE_CHECKING:
    from ... import contracts
    from .metrics import TargetColumn

RIDGE = (
    1.0  # weight of the L2 penalty, as of logistic regression: not tuned, it keeps the fit unique
)

# rows -> value, lower and upper end, (rows,) each
Interval: TypeAlias = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray, np.ndarray]]


class Table(trees.Encoder, Protocol):
    """What the baselines read of the encoder of a table."""

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Standardised features, (rows, features) in float64."""


def mean(train: pd.DataFrame, columns: "TargetColumn") -> "contracts.Answer":
    """Predict the mean of `train` for every row, with its 5 % and 95 % quantiles as interval."""
    target = train[columns.target].to_numpy(np.float64)
    middle = target.mean()
    low, high = np.quantile(target, (TAIL, 1 - TAIL))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        ones = np.ones(len(rows))
        return as_answers(middle * ones, low * ones, high * ones).set_axis(rows.index)

    return answer


def linear(
    train: pd.DataFrame, columns: "TargetColumn", encoder: Table, val: pd.DataFrame
) -> "contracts.Answer":
    """Fit ridge regression on flat features; its interval is as wide for every row."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=RIDGE)
    model.fit(encoder.flat(train), train[columns.target].to_numpy(np.float64))

    def interval(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value = model.predict(encoder.flat(rows))
        return value, value, value

    return _calibrated(interval, columns, val)


def gradient_boosting(
    train: pd.DataFrame, columns: "TargetColumn", encoder: Table, val: pd.DataFrame
) -> "contracts.Answer":
    """Fit gradient-boosted trees: for the mean, and for each end of the interval.

    Val chooses the size of each, by its own loss.
    """
    x = trees.features(encoder, train)
    y = train[columns.target].to_numpy(np.float64)
    val_x = trees.features(encoder, val)
    val_y = val[columns.target].to_numpy(np.float64)
    is_categorical = trees.is_categorical(encoder)

    def fitted(level: float | None) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        def build(leaves: int, count: int) -> Any:
            return HistGradientBoostingRegressor(
                loss="squared_error" if level is None else "quantile",
                quantile=level,
                max_leaf_nodes=leaves,
                max_iter=count,
                categorical_features=is_categorical,
                early_stopping=False,
                random_state=0,
            )

        def loss(model: Any) -> float:
            errors = val_y - model.predict(val_x)
            return float((errors**2).mean()) if level is None else pinball(errors, level)

        return trees.grown(build, x, y, loss)

    middle = fitted(None)
    low = fitted(TAIL)
    high = fitted(1 - TAIL)

    def interval(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        features = trees.features(encoder, rows)
        return middle.predict(features), low.predict(features), high.predict(features)

    return _calibrated(interval, columns, val)


def _calibrated(
    interval: Interval, columns: "TargetColumn", val: pd.DataFrame
) -> "contracts.Answer":
    """The baseline that answers an interval, with a margin that makes it hold 90 % on val."""
    _, low, high = interval(val)
    wider = margin(low, high, val[columns.target].to_numpy(np.float64))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        value, lower, upper = interval(rows)
        return as_answers(value, lower - wider, upper + wider).set_axis(rows.index)

    return answer


BASELINES: "dict[str, contracts.Fit]" = {
    "mean": mean,
    "linear": linear,
    "gradient_boosting": gradient_boosting,
}
