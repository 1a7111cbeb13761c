"""What comes next? The answers are the next value and the bounds between which it lies nine times in ten."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import DataError

METRICS: dict[str, str | float] = {
    "rmse": "down",
    "mae": "down",
    "pinball": "down",
    "coverage_90": 0.9,
    "skill": "up",
}
OUTPUTS = ("location", "scale")
COVERAGE = 0.9
WEEK = 5  # days of trade
LOWER, UPPER = "lower_90", "upper_90"


def calibrate(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """What val says of `location` and `scale` of the log return r, (days) each.

    `weight`: the share of the location that val bears out, 0 to 1: the slope of r on it, so that a forecast without
    skill shrinks to the known price. (Mincer and Zarnowitz 1969.)
    `width`: how many scales to either side hold nine returns of ten, by split conformal prediction.
    """
    location, scale, target = _arrays(outputs["location"], outputs["scale"], batch.target)
    slope = float(location @ target) / max(float(location @ location), 1e-300)
    weight = round(min(max(slope, 0.0), 1.0), 9)
    return {
        "weight": weight,
        "width": round(conformal(np.abs(target - weight * location) / scale), 9),
    }


def conformal(scores: np.ndarray) -> float:
    """The ceil((n + 1) * 0.9)-th smallest of n scores; a further one lies below it with probability 0.9 or more.

    As far as they are exchangeable, which days of one half year and of the next are in part.
    Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al., JASA 2018.
    """
    rank = min(int(np.ceil((len(scores) + 1) * COVERAGE)), len(scores))
    return float(np.sort(scores)[rank - 1])


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Any,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """One answer a window: the last day that it knows, `after` which the value comes, the value and its bounds."""
    known = encoder.forecast_days(rows)
    location, scale = _arrays(outputs["location"], outputs["scale"])
    value, lower, upper = _values(location, scale, known["base"].to_numpy(), calibration)
    return as_answers(known["after"], value, lower, upper, encoder.columns)


def as_answers(
    after: pd.Series, value: np.ndarray, lower: np.ndarray, upper: np.ndarray, columns: Any
) -> pd.DataFrame:
    """Answers, ours or a baseline's."""
    return pd.DataFrame(
        {"after": after.to_numpy(), asked(columns): value, LOWER: lower, UPPER: upper}
    )


def asked(columns: Any) -> str:
    """The column of an answer that holds the value: `next_open` where the target is Open."""
    return f"next_{columns.target.lower()}"


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> dict[str, float]:
    """The metrics of the task on the days of `rows` that have come, in float64 and in the unit of the series.

    pinball: mean of the quantile losses of value and bounds; skill: 1 - rmse / rmse of the known price.
    """
    truth, base, *given = aligned(answers, rows, encoder)
    return scores(truth, base, *given)


def contributions(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> intervals.Sample:
    """What RMSE is made of: the squared error of each day, drawn with its week, since a wild day is seldom alone."""
    truth, _, value, *_ = aligned(answers, rows, encoder)
    return intervals.root_mean((truth - value) ** 2, np.arange(len(truth)) // WEEK)


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> str:
    """What the metrics come to, in words: whether there is skill, and what the interval held."""
    truth, base, value, lower, upper = aligned(answers, rows, encoder)
    found, floor = (
        scores(truth, base, value, lower, upper),
        scores(truth, base, base, base, base)["rmse"],
    )
    known, n = f"previous {encoder.columns.base}", len(truth)
    pair = f"RMSE {found['rmse']:.2f} against {floor:.2f} of {known} over {n:,} days"
    if found["skill"] <= 0:
        said = f"No skill: {pair}. Nothing here says better what comes next than {known} does."
    else:
        p = diebold_mariano(truth - value, truth - base)
        share = f"{found['skill']:.1%} less, Diebold-Mariano p = {p:.2g}"
        said = (
            f"Skill: {pair}, {share}."
            if p < 0.05
            else f"No skill that can be told from chance: {pair}, {share}."
        )
    held = int(((truth >= lower) & (truth <= upper)).sum())
    return f"{said} The 90 % interval held {held:,} of {n:,} values."


def diebold_mariano(errors: np.ndarray, floor: np.ndarray) -> float:
    """The chance of squared errors that are smaller by this much or more, where there is no difference.

    One-sided; variance by Newey and West with n^(1/3) lags, Student-t with n - 1 degrees. Diebold and Mariano 1995,
    Harvey, Leybourne and Newbold 1997.
    """
    from scipy.stats import t

    gain = floor**2 - errors**2
    n, centred = len(gain), gain - gain.mean()
    lags = int(np.cbrt(n))  # of 125, say, 5, where n ** (1 / 3) is a hair less
    variance = sum(
        (1 if lag == 0 else 2 * (1 - lag / (lags + 1)))
        * float(centred[lag:] @ centred[: n - lag])
        / n
        for lag in range(lags + 1)
    )
    if variance <= 0:
        return 1.0
    return float(t.sf(gain.mean() / (variance / (n - 1)) ** 0.5, n - 1))


def watch(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The metrics on val during training, calibrated on itself, so that epochs are compared as they would answer."""
    location, scale, base, target = _arrays(
        outputs["location"], outputs["scale"], batch.base, batch.target
    )
    return scores(
        base * np.exp(target), base, *_values(location, scale, base, calibrate(outputs, batch))
    )


def aligned(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> tuple[np.ndarray, ...]:
    """Truth, known price, value and both bounds, of the days of `rows` that have come; the answer after the last has
    nothing to be held to. Raises DataError for a day without answer."""
    known = encoder.forecast_days(rows).dropna(subset="next")
    lost = known["after"][~known["after"].isin(answers["after"])]
    if len(lost):
        raise DataError(
            f"{len(lost)} of {len(known)} days have no answer, the first the one after {lost.iloc[0]}; expected one for"
            f" each day after {encoder.columns.window} known ones: a model of a longer window cannot be compared here"
        )
    given = answers.set_index("after").loc[known["after"]]
    names = asked(encoder.columns), LOWER, UPPER
    return *(known[name].to_numpy(float) for name in ("next", "base")), *(
        given[name].to_numpy(float) for name in names
    )


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(x.double().numpy() for x in tensors)


def _values(
    location: np.ndarray, scale: np.ndarray, base: np.ndarray, calibration: Mapping[str, float]
) -> tuple[np.ndarray, ...]:
    """Value, lower and upper bound, in prices."""
    middle, half = calibration["weight"] * location, calibration["width"] * scale
    return tuple(base * np.exp(middle + way * half) for way in (0, -1, 1))


def scores(
    truth: np.ndarray, base: np.ndarray, value: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> dict[str, float]:
    """The metrics of values and bounds, given what came and the price that was known."""
    rmse, floor = (float(np.sqrt(np.mean((truth - x) ** 2))) for x in (value, base))
    tails = (1 - COVERAGE) / 2
    pinball = [
        _pinball(truth - x, level)
        for x, level in ((lower, tails), (value, 0.5), (upper, 1 - tails))
    ]
    return {
        "rmse": rmse,
        "mae": float(np.abs(truth - value).mean()),
        "pinball": float(np.mean(pinball)),
        "coverage_90": float(((truth >= lower) & (truth <= upper)).mean()),
        "skill": 1 - rmse / floor if floor else 0.0,
    }


def _pinball(error: np.ndarray, level: float) -> float:
    """The quantile loss: `level` times an error above 0, `level - 1` times one below."""
    return float(np.maximum(level * error, (level - 1) * error).mean())
