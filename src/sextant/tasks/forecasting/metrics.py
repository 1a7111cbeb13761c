"""Metrics of forecasting: predict the next value of a series, with a 90 % prediction interval.

A net gives the location and scale of the log return of the next value over the base, the latest
price that is known. What is scored are prices.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import DataError

if TYPE_CHECKING:
    from ...kinds.series.columns import Columns
    from ...kinds.series.encoder import Batch, Encoder

METRICS: dict[str, str | float] = {
    "rmse": "down",
    "mae": "down",
    "pinball": "down",
    "coverage_90": 0.9,
    "skill": "up",
}
OUTPUTS = ("location", "scale")  # of the log return, (days,) each
COVERAGE = 0.9
SIGNIFICANCE = 0.05  # of the Diebold-Mariano test in the verdict
WEEK = 5  # trading days
LOWER, UPPER = "lower_90", "upper_90"  # columns of an answer


class Aligned(NamedTuple):
    """Forecasts beside the truth, (days,) each, in the unit of the series."""

    truth: np.ndarray
    base: np.ndarray  # the latest price that was known
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """By how much the value was too high."""
        return self.value - self.truth

    @property
    def covered(self) -> np.ndarray:
        """Whether the truth lies within the interval, in bool."""
        return (self.truth >= self.lower) & (self.truth <= self.upper)


# --- calibration --------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """Fit on val by how much the location is shrunk, and how wide the interval is.

    `weight`, 0 to 1, is the slope of the log returns on the location: without skill it is near 0
    and the forecast shrinks to the base. Source: Mincer and Zarnowitz, "The Evaluation of Economic
    Forecasts", 1969. `width` is the number of scales to either side that hold 90 % of the log
    returns, by split conformal prediction; see `conformal`.
    """
    location = _array(outputs["location"])
    scale = _array(outputs["scale"])
    target = _array(batch.target)
    # The smallest divisor keeps a location of all zeros from giving NaN.
    slope = float(location @ target) / max(float(location @ location), 1e-300)
    weight = round(min(max(slope, 0.0), 1.0), 9)
    width = conformal(np.abs(target - weight * location) / scale)
    return {"weight": weight, "width": round(width, 9)}


def conformal(scores: np.ndarray) -> float:
    """Return the ceil((n + 1) * 0.9)-th smallest of n scores.

    A further score lies below it with a probability of at least 0.9, as far as it is exchangeable
    with these. The days of one half-year and of the next are so only in part. Source: Vovk,
    Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al., JASA 2018.
    """
    rank = min(int(np.ceil((len(scores) + 1) * COVERAGE)), len(scores))
    return float(np.sort(scores)[rank - 1])


# --- answers ------------------------------------------------------------------------------------


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: "Encoder",
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """Return one answer per window; see `as_answers` for the columns."""
    forecasts = encoder.forecast_days(rows)
    value, lower, upper = _prices(
        _array(outputs["location"]),
        _array(outputs["scale"]),
        forecasts["base"].to_numpy(),
        calibration,
    )
    return as_answers(forecasts["after"], value, lower, upper, encoder.columns)


def as_answers(
    after: pd.Series, value: np.ndarray, lower: np.ndarray, upper: np.ndarray, columns: "Columns"
) -> pd.DataFrame:
    """Return answers, of a model or a baseline.

    The columns are `after`, the last day that is known to the forecast, the value (`next_open`
    if the target is Open), and the bounds `lower_90` and `upper_90`.
    """
    answers = {
        "after": after.to_numpy(),
        value_column(columns): value,
        LOWER: lower,
        UPPER: upper,
    }
    return pd.DataFrame(answers)


def value_column(columns: "Columns") -> str:
    """The column of an answer that has the forecast value: `next_open` if the target is Open."""
    return f"next_{columns.target.lower()}"


def aligned(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> Aligned:
    """Return the forecasts of the days in `rows` whose truth is known, matched by day.

    Raises DataError for such a day without an answer. The forecast after the last day of a series
    has no truth yet and is left out.
    """
    days = encoder.forecast_days(rows).dropna(subset="next")
    missing = days["after"][~days["after"].isin(answers["after"])]
    if len(missing):
        raise DataError(
            f"{len(missing)} of {len(days)} days have no answer, the first is the day after"
            f" {missing.iloc[0]}; expected one for each day that {encoder.columns.window} days"
            " precede: a model with a longer window cannot be compared on these rows"
        )
    matched = answers.set_index("after").loc[days["after"]]
    return Aligned(
        truth=days["next"].to_numpy(float),
        base=days["base"].to_numpy(float),
        value=matched[value_column(encoder.columns)].to_numpy(float),
        lower=matched[LOWER].to_numpy(float),
        upper=matched[UPPER].to_numpy(float),
    )


def _prices(
    location: np.ndarray, scale: np.ndarray, base: np.ndarray, calibration: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, lower and upper bound as prices, from calibrated log returns over the base."""
    middle = calibration["weight"] * location
    half = calibration["width"] * scale
    return base * np.exp(middle), base * np.exp(middle - half), base * np.exp(middle + half)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> dict[str, float]:
    """Return the metrics of the days in `rows` whose truth is known; see `scores`."""
    return scores(*aligned(answers, rows, encoder))


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder"
) -> intervals.Sample:
    """Return the Sample of RMSE: the squared error of each day, grouped by weeks.

    Volatile days come in clusters, so that single days would give an interval that is too narrow.
    """
    forecasts = aligned(answers, rows, encoder)
    weeks = np.arange(len(forecasts.truth)) // WEEK
    return intervals.root_mean((forecasts.truth - forecasts.value) ** 2, weeks)


def watch(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """Return the metrics on val during training, calibrated on val itself.

    Without it, an epoch with a worse scale would lose to one whose answers are worse.
    """
    base = _array(batch.base)
    truth = base * np.exp(_array(batch.target))
    calibration = calibrate(outputs, batch)
    location = _array(outputs["location"])
    scale = _array(outputs["scale"])
    return scores(truth, base, *_prices(location, scale, base, calibration))


def scores(
    truth: np.ndarray, base: np.ndarray, value: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> dict[str, float]:
    """Return the metrics of forecasts, in float64 and in the unit of the series.

    `pinball` is the mean quantile loss of the two bounds and the value, as the 5 %, 95 % and 50 %
    quantiles; `skill` is 1 - rmse / (rmse of the base).
    """
    rmse = float(np.sqrt(np.mean((truth - value) ** 2)))
    base_rmse = float(np.sqrt(np.mean((truth - base) ** 2)))
    tail = (1 - COVERAGE) / 2
    losses = [
        _pinball(truth - lower, tail),
        _pinball(truth - value, 0.5),
        _pinball(truth - upper, 1 - tail),
    ]
    return {
        "rmse": rmse,
        "mae": float(np.abs(truth - value).mean()),
        "pinball": float(np.mean(losses)),
        "coverage_90": float(((truth >= lower) & (truth <= upper)).mean()),
        "skill": 1 - rmse / base_rmse if base_rmse else 0.0,
    }


def _pinball(error: np.ndarray, level: float) -> float:
    """The mean quantile loss: `level` times a positive error, `level - 1` times a negative one."""
    return float(np.maximum(level * error, (level - 1) * error).mean())


# --- verdict ------------------------------------------------------------------------------------


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> str:
    """Return in two sentences whether there is skill, and how many values the interval contains."""
    forecasts = aligned(answers, rows, encoder)
    truth, base = forecasts.truth, forecasts.base
    metrics = scores(*forecasts)
    base_rmse = scores(truth, base, base, base, base)["rmse"]
    previous = f"the previous {encoder.columns.base}"
    n = len(truth)
    pair = f"RMSE {metrics['rmse']:.2f} against {base_rmse:.2f} for {previous} over {n:,} days"
    if metrics["skill"] <= 0:
        sentence = f"No skill: {pair}; {previous} is at least as good a forecast."
    else:
        p = diebold_mariano(truth - forecasts.value, truth - base)
        heading = "Skill" if p < SIGNIFICANCE else "No significant skill"
        sentence = f"{heading}: {pair}, {metrics['skill']:.1%} lower, Diebold-Mariano p = {p:.2g}."
    covered = int(forecasts.covered.sum())
    return f"{sentence} The 90 % interval contains {covered:,} of {n:,} values."


def diebold_mariano(errors: np.ndarray, base_errors: np.ndarray) -> float:
    """Return the p-value that the squared `errors` are smaller than those of the base by chance.

    The test is one-sided, with the variance of Newey and West over n^(1/3) lags and a Student-t
    distribution with n - 1 degrees of freedom. Source: Diebold and Mariano 1995; Harvey, Leybourne
    and Newbold 1997.
    """
    from scipy.stats import t  # a second to import, which predict does not need

    gain = base_errors**2 - errors**2
    n = len(gain)
    centred = gain - gain.mean()
    lags = int(np.cbrt(n))  # exact for cubes: 125 ** (1 / 3) is just below 5
    variance = 0.0
    for lag in range(lags + 1):
        # Bartlett weights; each lag but 0 stands for two entries of the covariance matrix.
        weight = 1 if lag == 0 else 2 * (1 - lag / (lags + 1))
        variance += weight * float(centred[lag:] @ centred[: n - lag]) / n
    if variance <= 0:
        return 1.0
    return float(t.sf(gain.mean() / (variance / (n - 1)) ** 0.5, n - 1))
