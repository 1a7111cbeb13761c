"""Metrics of forecasting: predict the next value of a series, with a 90 % prediction interval.

A net gives the location and scale of the log return of the next value over the base, the latest
price that is known. What is scored are prices.

A net with a `horizon` above 1 gives them for each of the following days. Each day ahead has a
calibration, an interval and scores of its own; a metric is the mean over the days ahead.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import DataError, UsageError

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
OUTPUTS = ("location", "scale")  # of the log return, (days,) or (days, horizon) each
BY_DAY = ("rmse", "coverage_90")  # the metrics that are also reported for each day ahead
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


# --- the horizon --------------------------------------------------------------------------------


def roles(columns: "Columns", train: pd.DataFrame, net: Mapping[str, object]) -> "Columns":
    """Return the block `columns` with the `horizon` of the net, 1 if it has none.

    Raises UsageError if the conf of the data set has one.
    """
    if columns.horizon != 1:
        raise UsageError(
            "`horizon` is no key of `columns`; set it in `net` in conf/model/, since models of one"
            " data set may forecast differently far"
        )
    horizon = net.get("horizon", 1)
    return columns if horizon == 1 else columns.model_copy(update={"horizon": horizon})


def check(encoder: "Encoder", counts: Mapping[str, int]) -> None:
    """Raise UsageError for a horizon that is longer than a part; `counts` are the parts' days."""
    horizon = encoder.columns.horizon
    for part, days in counts.items():
        if days < horizon:
            raise UsageError(
                f"`horizon` of the net is {horizon}, and part {part} has {days} days, so that it"
                f" has no truth {horizon} days ahead; expected at most {min(counts.values())}, or"
                " change `split` in the conf of the data set"
            )


def days_ahead(columns: "Columns") -> range:
    """The days ahead that are forecast: 1 to the horizon."""
    return range(1, columns.horizon + 1)


def by_day(tensor: Tensor) -> list[np.ndarray]:
    """Split outputs or targets, (days,) or (days, horizon), into one array for each day ahead."""
    array = _array(tensor)
    return [array] if array.ndim == 1 else list(array.T)


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Join what `by_day` split: (days,) from one array, (days, horizon) from several."""
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)


def _suffix(ahead: int, horizon: int) -> str:
    """The end of the names that belong to one day ahead; empty if there is but one."""
    return "" if horizon == 1 else f"_{ahead}"


# --- calibration --------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """Fit on val by how much the location is shrunk, and how wide the interval is.

    With a horizon above 1, each day ahead has both: `weight_1`, `width_1`, `weight_2`, … Days whose
    truth lies beyond the part are left out.

    `weight`, 0 to 1, is the slope of the log returns on the location: without skill it is near 0
    and the forecast shrinks to the base. Source: Mincer and Zarnowitz, "The Evaluation of Economic
    Forecasts", 1969. `width` is the number of scales to either side that hold 90 % of the log
    returns, by split conformal prediction; see `conformal`.
    """
    calibration = {}
    targets = by_day(batch.target)
    scales = by_day(outputs["scale"])
    for i, location in enumerate(by_day(outputs["location"])):
        weight, width = _calibrated(location, scales[i], targets[i])
        suffix = _suffix(i + 1, len(targets))
        calibration[f"weight{suffix}"] = weight
        calibration[f"width{suffix}"] = width
    return calibration


def _calibrated(location: np.ndarray, scale: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Weight and width of one day ahead; see `calibrate`."""
    is_known = np.isfinite(target)
    if not is_known.all():
        location, scale, target = location[is_known], scale[is_known], target[is_known]
    # The smallest divisor keeps a location of all zeros from giving NaN.
    slope = float(location @ target) / max(float(location @ location), 1e-300)
    weight = round(min(max(slope, 0.0), 1.0), 9)
    width = conformal(np.abs(target - weight * location) / scale)
    return weight, round(width, 9)


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
    prices = _prices(outputs, forecasts["base"].to_numpy(), calibration)
    value, lower, upper = map(joined, prices)
    return as_answers(forecasts["after"], value, lower, upper, encoder.columns)


def as_answers(
    after: pd.Series, value: np.ndarray, lower: np.ndarray, upper: np.ndarray, columns: "Columns"
) -> pd.DataFrame:
    """Return answers, of a model or a baseline; values and bounds are (days,) or (days, horizon).

    The columns are `after`, the last day that is known to the forecast, the value (`next_open`
    if the target is Open), and the bounds `lower_90` and `upper_90`. With a horizon above 1 they
    are `open_1`, `lower_90_1`, `upper_90_1`, `open_2`, …: 1 is the next trading day.
    """
    answers = {"after": after.to_numpy()}
    for ahead in days_ahead(columns):
        names = answer_columns(columns, ahead)
        for name, values in zip(names, (value, lower, upper), strict=True):
            answers[name] = values if columns.horizon == 1 else values[:, ahead - 1]
    return pd.DataFrame(answers)


def answer_columns(columns: "Columns", ahead: int = 1) -> tuple[str, str, str]:
    """The columns of an answer that have value, lower and upper bound so many days ahead."""
    target = columns.target.lower()
    value = f"next_{target}" if columns.horizon == 1 else f"{target}_{ahead}"
    suffix = _suffix(ahead, columns.horizon)
    return value, f"{LOWER}{suffix}", f"{UPPER}{suffix}"


def aligned(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder", ahead: int = 1
) -> Aligned:
    """Return the forecasts so many days ahead whose truth is in `rows`, matched by day.

    Raises DataError for such a day without an answer, and for answers of another horizon. The
    forecast after the last day of a series has no truth yet and is left out.
    """
    columns = encoder.columns
    value, lower, upper = answer_columns(columns, ahead)
    if value not in answers:
        raise DataError(
            f"the answers have no column `{value}`, but {', '.join(map(str, answers))}; expected"
            f" forecasts of 1 to {columns.horizon} days ahead: a model with another `horizon`"
            " cannot be compared"
        )
    days = encoder.forecast_days(rows, ahead).dropna(subset="next")
    missing = days["after"][~days["after"].isin(answers["after"])]
    if len(missing):
        raise DataError(
            f"{len(missing)} of {len(days)} days have no answer, the first is the day after"
            f" {missing.iloc[0]}; expected one for each day that {columns.window} days"
            " precede: a model with a longer window cannot be compared on these rows"
        )
    matched = answers.set_index("after").loc[days["after"]]
    return Aligned(
        truth=days["next"].to_numpy(float),
        base=days["base"].to_numpy(float),
        value=matched[value].to_numpy(float),
        lower=matched[lower].to_numpy(float),
        upper=matched[upper].to_numpy(float),
    )


def _prices(
    outputs: Mapping[str, Tensor], base: np.ndarray, calibration: Mapping[str, float]
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Values, lower and upper bounds as prices, from calibrated log returns over the base.

    Each list has an array of (days,) for each day ahead.
    """
    values, lowers, uppers = [], [], []
    scales = by_day(outputs["scale"])
    for i, location in enumerate(by_day(outputs["location"])):
        suffix = _suffix(i + 1, len(scales))
        middle = calibration[f"weight{suffix}"] * location
        half = calibration[f"width{suffix}"] * scales[i]
        values.append(base * np.exp(middle))
        lowers.append(base * np.exp(middle - half))
        uppers.append(base * np.exp(middle + half))
    return values, lowers, uppers


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> dict[str, float]:
    """Return the metrics of the days in `rows` whose truth is known; see `scores`.

    With a horizon above 1 these are means over the days ahead, followed by those of BY_DAY for each
    of them: `rmse_1`, `rmse_2`, …
    """
    by_ahead = scores_by_day(answers, rows, encoder)
    if len(by_ahead) == 1:
        return by_ahead[0]
    means = _means(by_ahead)
    for name in BY_DAY:
        for ahead, of_day in enumerate(by_ahead, start=1):
            means[f"{name}_{ahead}"] = of_day[name]
    return means


def scores_by_day(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder"
) -> list[dict[str, float]]:
    """Return the metrics of each day ahead, over the days whose truth is in `rows`."""
    by_ahead = []
    for ahead in days_ahead(encoder.columns):
        by_ahead.append(scores(*aligned(answers, rows, encoder, ahead)))
    return by_ahead


def _means(by_ahead: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the days ahead."""
    means = {}
    for name in METRICS:
        means[name] = float(np.mean([of_day[name] for of_day in by_ahead]))
    return means


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder", metric: str = "rmse"
) -> intervals.Sample:
    """Return the Sample of a metric; of RMSE, the squared error of each day, grouped by weeks.

    Volatile days come in clusters, so that single days would give an interval that is too narrow.
    With a horizon above 1, a group has a week or as many days as the horizon, whichever is longer:
    returns of several days overlap.
    """
    by_ahead = []
    for ahead in days_ahead(encoder.columns):
        by_ahead.append(_score_of_days(aligned(answers, rows, encoder, ahead), metric))
    days = len(by_ahead[0].groups)
    groups = np.arange(days) // max(WEEK, encoder.columns.horizon)
    if len(by_ahead) == 1:
        return intervals.Sample(by_ahead[0].score, groups)

    def mean_score(weights: np.ndarray) -> float:
        scores = []
        for of_day in by_ahead:  # the last days have no truth further ahead
            drawn = weights[: len(of_day.groups)]
            if not drawn.any():
                return float("nan")
            scores.append(of_day.score(drawn))
        return float(np.mean(scores))

    return intervals.Sample(mean_score, groups)


def _score_of_days(forecasts: Aligned, metric: str) -> intervals.Sample:
    """The Sample of a metric over the days of one distance, each a group."""
    truth, value = forecasts.truth, forecasts.value
    if metric == "mae":
        return intervals.mean(np.abs(truth - value))
    if metric == "pinball":
        return intervals.mean(np.mean(_pinball_losses(forecasts), axis=0))
    rmse = intervals.root_mean((truth - value) ** 2)
    if metric == "rmse":
        return rmse
    base_rmse = intervals.root_mean((truth - forecasts.base) ** 2)

    def skill(weights: np.ndarray) -> float:
        of_base = base_rmse.score(weights)
        return 1 - rmse.score(weights) / of_base if of_base else 0.0

    return intervals.Sample(skill, rmse.groups)


def _pinball_losses(forecasts: Aligned) -> list[np.ndarray]:
    """The quantile losses of each day of lower bound, value and upper bound, (days,) each."""
    tail = (1 - COVERAGE) / 2
    truth = forecasts.truth
    return [
        _losses(truth - forecasts.lower, tail),
        _losses(truth - forecasts.value, 0.5),
        _losses(truth - forecasts.upper, 1 - tail),
    ]


def watch(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """Return the metrics on val during training, calibrated on val itself.

    Without it, an epoch with a worse scale would lose to one whose answers are worse.
    """
    base = _array(batch.base)
    prices = _prices(outputs, base, calibrate(outputs, batch))
    by_ahead = []
    for target, value, lower, upper in zip(by_day(batch.target), *prices, strict=True):
        forecasts = np.stack([base * np.exp(target), base, value, lower, upper])
        by_ahead.append(scores(*forecasts[:, np.isfinite(target)]))
    return by_ahead[0] if len(by_ahead) == 1 else _means(by_ahead)


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
    """The mean quantile loss; see `_losses`."""
    return float(_losses(error, level).mean())


def _losses(error: np.ndarray, level: float) -> np.ndarray:
    """The quantile loss: `level` times a positive error, `level - 1` times a negative one."""
    return np.asarray(np.maximum(level * error, (level - 1) * error))


# --- verdict ------------------------------------------------------------------------------------


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> str:
    """Return in two sentences whether there is skill, and how many values the interval contains."""
    if encoder.columns.horizon > 1:
        return _verdict_by_day(answers, rows, encoder)
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


def _verdict_by_day(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> str:
    """The verdict of a horizon above 1: on the mean over the days ahead.

    The p-value is the smallest one of the days ahead times their number (Bonferroni).
    """
    horizon = encoder.columns.horizon
    by_ahead, base_by_ahead, p_values, shares = [], [], [], []
    for ahead in days_ahead(encoder.columns):
        forecasts = aligned(answers, rows, encoder, ahead)
        truth, base = forecasts.truth, forecasts.base
        by_ahead.append(scores(*forecasts))
        base_by_ahead.append(scores(truth, base, base, base, base))
        p_values.append(diebold_mariano(truth - forecasts.value, truth - base, ahead))
        shares.append(f"{forecasts.covered.mean():.2f}")
    metrics = _means(by_ahead)
    base_rmse = _means(base_by_ahead)["rmse"]
    previous = f"the previous {encoder.columns.base}"
    pair = (
        f"mean RMSE {metrics['rmse']:.2f} against {base_rmse:.2f} for {previous}, 1 to {horizon}"
        " days ahead"
    )
    if metrics["skill"] <= 0:
        sentence = f"No skill: {pair}; {previous} is at least as good a forecast."
    else:
        p = min(1.0, horizon * min(p_values))
        heading = "Skill" if p < SIGNIFICANCE else "No significant skill"
        sentence = (
            f"{heading}: {pair}, {metrics['skill']:.1%} lower in the mean, Diebold-Mariano p ="
            f" {p:.2g} of the best day ahead, times {horizon}."
        )
    return (
        f"{sentence} The 90 % interval contains {', '.join(shares)} of the values, 1 to {horizon}"
        " days ahead."
    )


def diebold_mariano(errors: np.ndarray, base_errors: np.ndarray, ahead: int = 1) -> float:
    """Return the p-value that the squared `errors` are smaller than those of the base by chance.

    The test is one-sided, with the variance of Newey and West over n^(1/3) lags and a Student-t
    distribution with n - 1 degrees of freedom. Forecasts h days `ahead` overlap, so that their
    errors are correlated over h - 1 lags, which the variance has at least. Source: Diebold and
    Mariano 1995; Harvey, Leybourne and Newbold 1997.
    """
    from scipy.stats import t  # a second to import, which predict does not need

    gain = base_errors**2 - errors**2
    n = len(gain)
    centred = gain - gain.mean()
    # The cube root is exact for cubes: 125 ** (1 / 3) is just below 5.
    lags = min(max(int(np.cbrt(n)), ahead - 1), n - 1)
    variance = 0.0
    for lag in range(lags + 1):
        # Bartlett weights; each lag but 0 stands for two entries of the covariance matrix.
        weight = 1 if lag == 0 else 2 * (1 - lag / (lags + 1))
        variance += weight * float(centred[lag:] @ centred[: n - lag]) / n
    if variance <= 0:
        return 1.0
    return float(t.sf(gain.mean() / (variance / (n - 1)) ** 0.5, n - 1))
