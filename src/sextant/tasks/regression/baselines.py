"""Baselines of regression: the mean, a linear model, and boosted trees of tables.

Each has an interval of 90 %, which but for the mean is calibrated on val, as that of the net is.
The mean and the linear model answer quantiles too, to stand beside nets that answer a density; so
do the further ones: a polynomial, nearest neighbors, and boosted trees of each quantile.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

from ... import trees
from .metrics import LEVELS, TAIL, as_answers, crps_of_rows, margin, pinball

if TYPE_CHECKING:
    from ... import contracts
    from .metrics import TargetColumn

RIDGE = (
    1.0  # weight of the L2 penalty, as of logistic regression: not tuned, it keeps the fit unique
)

RIDGES = (1e-6, 1e-4, 1e-2, 1.0)  # of the polynomial, whose columns may follow from one another
NEIGHBORS = (5, 10, 20, 30, 50, 100)

# rows -> value, lower and upper end, (rows,) each
Interval: TypeAlias = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray, np.ndarray]]
# rows -> value, (rows,), and quantiles at LEVELS, (rows, levels)
Distribution: TypeAlias = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]


class Table(trees.Encoder, Protocol):
    """What the baselines read of the encoder of a table."""

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Standardised features, (rows, features) in float64."""


def mean(train: pd.DataFrame, columns: "TargetColumn") -> "contracts.Answer":
    """Predict the mean of `train` for every row, with its 5 % and 95 % quantiles as interval."""
    target = train[columns.target].to_numpy(np.float64)
    middle = target.mean()
    low, high = np.quantile(target, (TAIL, 1 - TAIL))
    quantiles = np.quantile(target, LEVELS)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        ones = np.ones(len(rows))
        every = np.outer(ones, quantiles)
        return as_answers(middle * ones, low * ones, high * ones, every).set_axis(rows.index)

    return answer


def linear(
    train: pd.DataFrame, columns: "TargetColumn", encoder: Table, val: pd.DataFrame
) -> "contracts.Answer":
    """Fit ridge regression on flat features; its interval is as wide for every row."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=RIDGE)
    model.fit(encoder.flat(train), train[columns.target].to_numpy(np.float64))
    return _with_residuals(lambda rows: model.predict(encoder.flat(rows)), columns, val)


def polynomial(
    train: pd.DataFrame,
    columns: "TargetColumn",
    encoder: Table,
    val: pd.DataFrame,
    *,
    degree: int = 2,
) -> "contracts.Answer":
    """Fit ridge regression on all products of up to `degree` flat features.

    Val chooses the penalty. The interval is as wide for every row.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    y = train[columns.target].to_numpy(np.float64)
    val_y = val[columns.target].to_numpy(np.float64)
    best: tuple[float, Any] = (np.inf, None)
    for alpha in RIDGES:
        products = PolynomialFeatures(degree, include_bias=False)
        model = make_pipeline(products, Ridge(alpha=alpha, solver="svd"))
        model.fit(encoder.flat(train), y)
        loss = float(((val_y - model.predict(encoder.flat(val))) ** 2).mean())
        if loss < best[0]:
            best = (loss, model)
    _, chosen = best
    return _with_residuals(lambda rows: chosen.predict(encoder.flat(rows)), columns, val)


def nearest_neighbors(
    train: pd.DataFrame, columns: "TargetColumn", encoder: Table, val: pd.DataFrame
) -> "contracts.Answer":
    """Answer the mean and the quantiles of the nearest rows by flat features.

    Val chooses how many, by the ranked probability score.
    """
    from sklearn.neighbors import NearestNeighbors

    y = train[columns.target].to_numpy(np.float64)
    val_y = val[columns.target].to_numpy(np.float64)
    search = NearestNeighbors().fit(encoder.flat(train))

    def distribution(count: int) -> Distribution:
        def of_rows(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
            targets = y[search.kneighbors(encoder.flat(rows), count, return_distance=False)]
            return targets.mean(1), np.quantile(targets, LEVELS, axis=1).T

        return of_rows

    best: tuple[float, int] = (np.inf, 1)
    for count in NEIGHBORS:
        if count <= len(y):
            value, quantiles = distribution(count)(val)
            answers = as_answers(value, value, value, quantiles)
            best = min(best, (float(crps_of_rows(answers, val_y).mean()), count))
    return _with_quantiles(distribution(best[1]), columns, val)


def boosted_quantiles(
    train: pd.DataFrame, columns: "TargetColumn", encoder: Table, val: pd.DataFrame
) -> "contracts.Answer":
    """Fit gradient-boosted trees for the mean, and for each quantile.

    Val chooses the size of those of the mean, and of those of the median, which all quantiles have.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    x = trees.features(encoder, train)
    y = train[columns.target].to_numpy(np.float64)
    val_x = trees.features(encoder, val)
    val_y = val[columns.target].to_numpy(np.float64)
    settings: dict[str, Any] = {
        "categorical_features": trees.is_categorical(encoder),
        "early_stopping": False,
        "random_state": 0,
    }

    def build(leaves: int, count: int) -> Any:
        return HistGradientBoostingRegressor(max_leaf_nodes=leaves, max_iter=count, **settings)

    def build_median(leaves: int, count: int) -> Any:
        return build(leaves, count).set_params(loss="quantile", quantile=0.5)

    middle = trees.grown(
        build, x, y, lambda model: float(((val_y - model.predict(val_x)) ** 2).mean())
    )
    median = trees.grown(
        build_median, x, y, lambda model: pinball(val_y - model.predict(val_x), 0.5)
    )
    of_levels = []
    for level in LEVELS:
        model = build_median(median.max_leaf_nodes, median.max_iter).set_params(quantile=level)
        of_levels.append(model.fit(x, y))

    def distribution(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        features = trees.features(encoder, rows)
        quantiles = np.stack([model.predict(features) for model in of_levels], 1)
        return middle.predict(features), np.sort(quantiles, 1)  # nothing keeps them from crossing

    return _with_quantiles(distribution, columns, val)


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


def _with_residuals(
    predict: Callable[[pd.DataFrame], np.ndarray], columns: "TargetColumn", val: pd.DataFrame
) -> "contracts.Answer":
    """The baseline whose quantiles are its predictions plus those of its residuals on val."""
    residuals = val[columns.target].to_numpy(np.float64) - predict(val)
    zeros = np.zeros(len(val))
    wider = margin(zeros, zeros, residuals)
    of_residuals = np.quantile(residuals, LEVELS)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        value = predict(rows)
        quantiles = value[:, None] + of_residuals
        return as_answers(value, value - wider, value + wider, quantiles).set_axis(rows.index)

    return answer


def _with_quantiles(
    distribution: Distribution, columns: "TargetColumn", val: pd.DataFrame
) -> "contracts.Answer":
    """The baseline that answers quantiles, the outer ones with a margin calibrated on val."""
    _, on_val = distribution(val)
    wider = margin(on_val[:, 0], on_val[:, -1], val[columns.target].to_numpy(np.float64))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        value, quantiles = distribution(rows)
        lower = quantiles[:, 0] - wider
        upper = quantiles[:, -1] + wider
        return as_answers(value, lower, upper, quantiles).set_axis(rows.index)

    return answer


BASELINES: "dict[str, contracts.Fit]" = {
    "mean": mean,
    "linear": linear,
    "gradient_boosting": gradient_boosting,
}
FURTHER: "dict[str, contracts.Fit]" = {
    "polynomial": polynomial,
    "nearest_neighbors": nearest_neighbors,
    "boosted_quantiles": boosted_quantiles,
}
