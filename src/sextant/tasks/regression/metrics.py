"""Metrics of regression: predict a number of a row, with an interval that holds it in 90 %."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ... import intervals
from ...errors import UsageError
from ...families import blocks

METRICS: dict[str, str | float] = {
    "rmse": "down",
    "mae": "down",
    "r2": "up",
    "pinball": "down",
    "coverage_90": 0.9,
    "crps": "down",
}
OUTPUTS = ("location", "lower", "upper")  # (rows,) each, in the unit of the target
# A net may answer a density too: a mixture of normal distributions that count alike, (rows, parts).
# Its answers have quantiles, and only from these can `crps` be computed.
MIXTURE = ("locations", "scales")
NEEDS = {"crps": MIXTURE}
OPTIONS = {"density": False}  # whether an answer has the density on a grid
LEVELS = np.arange(1, 20) / 20  # of the quantiles in an answer
QUANTILES = tuple(f"q{100 * level:02.0f}" for level in LEVELS)
CELLS = 100  # of the grid of densities
GRID_LEVELS = (1e-5, 1 - 1e-5)  # the quantiles of all rows of val together that the grid reaches
FACTORS = (0.05, 20.0)  # the least and the largest factor of the scales that calibration tries
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
    """Fit on val what makes the net's interval hold 90 %.

    That is the `margin` added at both ends; of a net that answers a density, the `factor` of the
    scales of its parts, so that its quantiles and its density are those of the interval. Then
    `grid_low` and `grid_high` are the ends of the grid of densities.
    """
    if not _is_mixture(outputs):
        lower = _array(outputs["lower"])
        upper = _array(outputs["upper"])
        return {"margin": margin(lower, upper, _array(batch.target))}
    locations, scales = (outputs[name].double() for name in MIXTURE)
    factor = scale_factor(locations, scales, batch.target.double())
    levels = torch.tensor(GRID_LEVELS, dtype=torch.float64)
    every_part = (locations.reshape(1, -1), factor * scales.reshape(1, -1))
    low, high = blocks.mixture_quantiles(*every_part, levels)[0].tolist()
    return {"factor": factor, "grid_low": rounded(low), "grid_high": rounded(high)}


def _is_mixture(outputs: Mapping[str, Tensor]) -> bool:
    return all(name in outputs for name in MIXTURE)


def scale_factor(locations: Tensor, scales: Tensor, truth: Tensor) -> float:
    """Return the factor of the scales by which the intervals of n mixtures hold 90 % of the truth.

    locations and scales (rows, parts), truth (rows). The interval lies between the 5 % and the 95 %
    quantile. As in `margin`, it is made to hold the ceil((n + 1) * 0.9)-th row.
    """
    aim = min(np.ceil((len(truth) + 1) * COVERAGE), len(truth))
    low, high = FACTORS
    for _ in range(blocks.HALVINGS):
        middle = (low * high) ** 0.5
        cdf = blocks.mixture_cdf(locations, middle * scales, truth[:, None])[:, 0]
        held = int(((cdf >= TAIL) & (cdf <= 1 - TAIL)).sum())
        if held < aim:
            low = middle
        else:
            high = middle
    return rounded(high)


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
    density: bool = False,
) -> pd.DataFrame:
    """Return one answer per row; see `as_answers` for the columns.

    With `density`, further columns `density_<number>` have the mean density in each cell of a grid,
    by the number in the middle of the cell. Raises UsageError for a net without one.
    """
    calibrated = _calibrated(outputs, calibration)
    if not density:
        return calibrated
    if not _is_mixture(outputs):
        raise UsageError(
            "this model answers an interval and no density; remove the option `density`"
        )
    return pd.concat([calibrated, _densities(outputs, calibration)], axis=1)


def as_answers(
    value: np.ndarray, lower: np.ndarray, upper: np.ndarray, quantiles: np.ndarray | None = None
) -> pd.DataFrame:
    """Return answers, of a model or a baseline, in the unit of the target.

    `prediction` is the expected number; `lower` and `upper` are the ends of the interval that holds
    the true one in 90 %. The interval is widened where it does not hold the prediction. `q05` to
    `q95`, if there are any, are the `quantiles` at LEVELS, (rows, levels).
    """
    columns = {
        "prediction": value,
        "lower": np.minimum(lower, value),
        "upper": np.maximum(upper, value),
    }
    if quantiles is not None:
        columns |= dict(zip(QUANTILES, quantiles.T, strict=True))
    return pd.DataFrame(columns)


def explained(answers: pd.DataFrame, base: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """Return the predicted numbers, of which the reasons are sought."""
    return answers["prediction"].to_numpy(np.float64)


def _calibrated(outputs: Mapping[str, Tensor], calibration: Mapping[str, float]) -> pd.DataFrame:
    """The answers, with the interval as it was calibrated."""
    value = _array(outputs["location"])
    if _is_mixture(outputs):
        scales = calibration["factor"] * outputs["scales"].double()
        levels = torch.from_numpy(LEVELS)
        quantiles = _array(blocks.mixture_quantiles(outputs["locations"], scales, levels))
        return as_answers(value, quantiles[:, 0], quantiles[:, -1], quantiles)
    lower = _array(outputs["lower"]) - calibration["margin"]
    upper = _array(outputs["upper"]) + calibration["margin"]
    return as_answers(value, lower, upper)


def _densities(outputs: Mapping[str, Tensor], calibration: Mapping[str, float]) -> pd.DataFrame:
    """The mean density of each row in each cell of the grid, (rows, CELLS)."""
    edges = np.linspace(calibration["grid_low"], calibration["grid_high"], CELLS + 1)
    scales = calibration["factor"] * outputs["scales"].double()
    locations = outputs["locations"].double()
    of_rows = torch.from_numpy(edges).expand(len(locations), CELLS + 1)
    masses = blocks.mixture_cdf(locations, scales, of_rows).diff(dim=1).clamp_min(0)
    width = edges[1] - edges[0]
    middles = edges[:-1] + width / 2
    names = [f"density_{middle:.6g}" for middle in middles]
    return pd.DataFrame(_array(masses) / width, columns=names)


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
    if metric == "crps":
        return intervals.mean(crps_of_rows(answers, truth))
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
    return scores(calibrated, _array(batch.target))


def scores(answers: pd.DataFrame, truth: np.ndarray) -> dict[str, float]:
    """Return the metrics of answers, in float64 and, but for r2, in the unit of the target.

    `r2` is 1 - the mean squared error over the variance of `truth`, 0 if it does not vary.
    `pinball` is the mean quantile loss of lower, prediction and upper as the 5 %, 50 % and 95 %
    quantiles. `crps` is the continuous ranked probability score, of answers with quantiles alone.
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
    metrics = {
        "rmse": mean_square**0.5,
        "mae": float(np.abs(truth - value).mean()),
        "r2": 1 - mean_square / variance if variance else 0.0,
        "pinball": float(np.mean(losses)),
        "coverage_90": float(((truth >= lower) & (truth <= upper)).mean()),
    }
    if QUANTILES[0] in answers:
        metrics["crps"] = float(crps_of_rows(answers, truth).mean())
    return metrics


def crps_of_rows(answers: pd.DataFrame, truth: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score of each row, (rows,), from its quantiles.

    It is the integral of twice the quantile loss over all levels (Gneiting and Raftery, "Strictly
    Proper Scoring Rules", JASA 102, 2007), by the trapezoid rule on LEVELS; the loss is 0 at the
    levels 0 and 1. Of a normal distribution this is 0.4 % less than the integral.
    """
    quantiles = answers[list(QUANTILES)].to_numpy(np.float64)
    errors = truth[:, None] - quantiles
    losses = np.maximum(LEVELS * errors, (LEVELS - 1) * errors)
    return np.asarray(2 * losses.sum(1) / (len(LEVELS) + 1))


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
