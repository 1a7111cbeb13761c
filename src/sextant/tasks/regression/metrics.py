"""Metrics of regression: predict a number of a row, with an interval that holds it in 90 %."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import UsageError

METRICS: dict[str, str | float] = {
    "rmse": "down",
    "mae": "down",
    "r2": "up",
    "pinball": "down",
    "coverage_90": 0.9,
}
OUTPUTS = ("location", "lower", "upper")  # (rows,) each, in the unit of the target
COVERAGE = 0.9
EXAMPLES = 3  # classes in a message
TAIL = (1 - COVERAGE) / 2  # the share of rows below the interval, and above it


class TargetColumn(Protocol):
    """What regression reads of `columns`."""

    @property
    def target(self) -> str:
        """The name of the column of numbers that is predicted."""


class Encoder(Protocol):
    """What regression reads of an encoder."""

    @property
    def columns(self) -> TargetColumn: ...

    @property
    def classes(self) -> Sequence[object]:
        """The classes of the target; empty if it is a number."""


class Batch(Protocol):
    """What regression reads of a batch."""

    @property
    def target(self) -> Tensor:
        """The numbers, (rows,) in float64."""


def check(encoder: Encoder) -> None:
    """Raise UsageError if the target of the rows is a class and no number."""
    if encoder.classes:
        some = ", ".join(map(str, encoder.classes[:EXAMPLES]))
        raise UsageError(
            f"`{encoder.columns.target}` is a class, such as {some}; choose task classification in"
            " params.yaml, or, if it is an amount, write `target_type: number` in `columns` of the"
            " data set's conf"
        )


# --- calibration --------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """Fit on val what is added at both ends of the net's interval; see `margin`."""
    lower = _array(outputs["lower"])
    upper = _array(outputs["upper"])
    return {"margin": margin(lower, upper, _array(batch.target))}


def margin(lower: np.ndarray, upper: np.ndarray, truth: np.ndarray) -> float:
    """Return what has to be added at both ends of n intervals so that they hold 90 %; all (rows,).

    It is the ceil((n + 1) * 0.9)-th smallest of the distances by which the truth lies outside. They
    are negative inside, and so may the result be. The interval of a further row then holds it with
    a probability of at least 0.9, as far as that row is exchangeable with these. Source: Romano,
    Patterson and Candès, "Conformalized Quantile Regression", NeurIPS 2019.
    """
    outside = np.maximum(lower - truth, truth - upper)
    rank = min(int(np.ceil((len(outside) + 1) * COVERAGE)), len(outside))
    return rounded(float(np.sort(outside)[rank - 1]))


def rounded(value: float) -> float:
    """A number with ten significant digits: the last of a float64 differ between processors."""
    return float(f"{value:.10g}")


# --- answers ------------------------------------------------------------------------------------


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Encoder,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """Return one answer per row; see `as_answers` for the columns."""
    return as_answers(*_calibrated(outputs, calibration))


def as_answers(value: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> pd.DataFrame:
    """Return answers, of a model or a baseline, in the unit of the target.

    `prediction` is the expected number; `lower` and `upper` are the ends of the interval that holds
    the true one in 90 %. The interval is widened where it does not hold the prediction.
    """
    columns = {
        "prediction": value,
        "lower": np.minimum(lower, value),
        "upper": np.maximum(upper, value),
    }
    return pd.DataFrame(columns)


def _calibrated(
    outputs: Mapping[str, Tensor], calibration: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, lower and upper end, (rows,) in float64."""
    lower = _array(outputs["lower"]) - calibration["margin"]
    upper = _array(outputs["upper"]) + calibration["margin"]
    return _array(outputs["location"]), lower, upper


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """Return the metrics of the answers to `rows`; see `scores`."""
    return scores(answers, truth_of(rows, encoder))


def truth_of(rows: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """The true numbers of rows, (rows,) in float64."""
    return rows[encoder.columns.target].to_numpy(np.float64)


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "rmse"
) -> intervals.Sample:
    """Return the Sample of a metric; of RMSE, the squared error of each row."""
    truth = truth_of(rows, encoder)
    errors = truth - answers["prediction"].to_numpy(np.float64)
    if metric == "mae":
        return intervals.mean(np.abs(errors))
    if metric == "pinball":
        below = truth - answers["lower"].to_numpy(np.float64)
        above = truth - answers["upper"].to_numpy(np.float64)
        losses = [_losses(below, TAIL), _losses(errors, 0.5), _losses(above, 1 - TAIL)]
        return intervals.mean(np.mean(losses, axis=0))
    if metric == "r2":

        def r2(weights: np.ndarray) -> float:
            mean = weights @ truth / weights.sum()
            spread = float(weights @ (truth - mean) ** 2)
            return 1 - float(weights @ errors**2) / spread if spread else 0.0

        return intervals.Sample(r2, np.arange(len(truth)))
    return intervals.root_mean(errors**2)


def watch(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """Return the metrics on val during training, calibrated on val itself."""
    calibrated = _calibrated(outputs, calibrate(outputs, batch))
    return scores(as_answers(*calibrated), _array(batch.target))


def scores(answers: pd.DataFrame, truth: np.ndarray) -> dict[str, float]:
    """Return the metrics of answers, in float64 and, but for r2, in the unit of the target.

    `r2` is 1 - the mean squared error over the variance of `truth`, 0 if it does not vary.
    `pinball` is the mean quantile loss of lower, prediction and upper as the 5 %, 50 % and 95 %
    quantiles.
    """
    value = answers["prediction"].to_numpy(np.float64)
    lower = answers["lower"].to_numpy(np.float64)
    upper = answers["upper"].to_numpy(np.float64)
    mean_square = float(np.mean((truth - value) ** 2))
    variance = float(np.var(truth))
    losses = [
        pinball(truth - lower, TAIL),
        pinball(truth - value, 0.5),
        pinball(truth - upper, 1 - TAIL),
    ]
    return {
        "rmse": mean_square**0.5,
        "mae": float(np.abs(truth - value).mean()),
        "r2": 1 - mean_square / variance if variance else 0.0,
        "pinball": float(np.mean(losses)),
        "coverage_90": float(((truth >= lower) & (truth <= upper)).mean()),
    }


def pinball(error: np.ndarray, level: float) -> float:
    """The mean quantile loss: `level` times a positive error, `level - 1` times a negative one."""
    return float(_losses(error, level).mean())


def _losses(error: np.ndarray, level: float) -> np.ndarray:
    """The quantile loss of each error, (rows,)."""
    return np.maximum(level * error, (level - 1) * error)


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> str:
    """Return in a sentence how far off the predictions are, and how many the intervals hold."""
    truth = truth_of(rows, encoder)
    metrics = scores(answers, truth)
    covered = round(metrics["coverage_90"] * len(truth))
    width = float((answers["upper"] - answers["lower"]).median())
    return (
        f"A prediction of `{encoder.columns.target}` is off by {metrics['mae']:.4g} on average."
        f" The 90 % interval, {width:.4g} wide in the middle, holds {covered:,} of {len(truth):,}"
        " values."
    )
