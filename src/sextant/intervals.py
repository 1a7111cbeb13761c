"""95 % confidence intervals of a score, and of its gain over a baseline.

A task describes its score as a Sample: the score as a function of how often each row was drawn, and
the group of each row. A bootstrap draws whole groups, since rows of one group depend on each other:
the ratings of one user, or the days of one week. Source: Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993, chapter 13 (percentile intervals).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

# Resamples of a bootstrap. Each end of an interval then has a standard error of about 3 % of the
# interval's width; four times as many would halve it and take four times as long.
DRAWS = 500
LEVEL = 0.95  # of an interval, where nothing else is chosen
Z = 1.959964  # the 0.975 quantile of the standard normal distribution

Values = TypeVar("Values", float, np.ndarray)


@dataclass(frozen=True)
class Sample:
    """A score of `rows` rows, in a form that a bootstrap can resample.

    `score` maps weights, (rows,), how often each row was drawn, to the score. `groups`, (rows,),
    numbers the group of each row from 0. `share` is the score if it is the share of ones among
    independent zeros and ones, whose interval has a closed form; None for any other score.
    """

    score: Callable[[np.ndarray], float]
    groups: np.ndarray
    share: float | None = None

    @property
    def observed(self) -> float:
        """The score of the rows themselves, each drawn once."""
        return self.score(np.ones(len(self.groups)))


def mean(values: ArrayLike, groups: ArrayLike | None = None) -> Sample:
    """Return the Sample of the mean of `values`, (rows,).

    Without `groups` every row is a group by itself; if all values are 0 or 1 too, it is a share.
    """
    values = np.asarray(values, np.float64)

    def weighted_mean(weights: np.ndarray) -> float:
        return float(weights @ values / weights.sum())

    share = None
    if groups is None and np.isin(values, (0, 1)).all():
        share = float(values.mean())
    return Sample(weighted_mean, _group_numbers(groups, len(values)), share)


def root_mean(squares: ArrayLike, groups: ArrayLike | None = None) -> Sample:
    """Return the Sample of the root of the mean of `squares`, (rows,), as in RMSE."""
    squares = np.asarray(squares, np.float64)
    mean_square = mean(squares, _group_numbers(groups, len(squares)))
    return Sample(lambda weights: mean_square.score(weights) ** 0.5, mean_square.groups)


def auroc(score: ArrayLike, positive: ArrayLike, groups: ArrayLike | None = None) -> Sample:
    """Return the Sample of the area under the ROC curve.

    `score`, (rows,), is higher where a row is more likely `positive`, (rows,) of bool. Equal scores
    count half. The area of a draw without both classes is NaN, and so is that of any draw if a
    score is NaN.
    """
    scores = np.asarray(score, np.float64)
    is_positive = np.asarray(positive, bool)
    # Sorted once here, so that a draw costs two sums over runs of equal scores and no sort.
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    run_starts = np.flatnonzero(np.diff(ascending, prepend=np.nan))
    positives = is_positive[order].astype(np.float64)
    negatives = (~is_positive)[order].astype(np.float64)

    def area(weights: np.ndarray) -> float:
        drawn = weights[order]
        positives_per_run = np.add.reduceat(drawn * positives, run_starts)
        negatives_per_run = np.add.reduceat(drawn * negatives, run_starts)
        negatives_below = np.cumsum(negatives_per_run) - negatives_per_run / 2
        pairs = positives_per_run.sum() * negatives_per_run.sum()
        if not pairs or np.isnan(ascending[-1]):  # sorting puts NaN last
            return float("nan")
        return float(positives_per_run @ negatives_below / pairs)

    return Sample(area, _group_numbers(groups, len(is_positive)))


def interval(sample: Sample) -> tuple[float, float]:
    """Return the 95 % interval of a score: Wilson's for a share, else a bootstrap's over groups."""
    if sample.share is not None:
        low, high = wilson(sample.share, len(sample.groups))
        return float(low), float(high)
    return middle([sample.score(weights) for weights in _draws(sample.groups)])


def gain(
    sample: Sample, other: Sample, direction: str, level: float = LEVEL
) -> tuple[float, float, float]:
    """Return how much better `sample` is than `other`, and the ends of the interval of that.

    Both are scores of the same rows; `direction` is "up" if a higher score is better. Each draw
    weighs both scores alike, so that what both have in common cancels out. The interval has the
    middle share `level` of the draws.
    """
    sign = 1 if direction == "up" else -1

    def better(weights: np.ndarray) -> float:
        return sign * (sample.score(weights) - other.score(weights))

    observed = better(np.ones(len(sample.groups)))
    low, high = middle([better(weights) for weights in _draws(sample.groups)], level)
    return observed, low, high


def wilson(share: Values, n: Values) -> tuple[Values, Values]:
    """Return the 95 % interval of a share observed in `n` rows; arrays work element by element.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    Journal of the American Statistical Association 22, 1927.
    """
    center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return center - half, center + half


def _group_numbers(groups: ArrayLike | None, rows: int) -> np.ndarray:
    """Number the groups from 0, in the order of their values; without `groups`, number the rows."""
    if groups is None:
        return np.arange(rows)
    return np.asarray(np.unique(groups, return_inverse=True)[1])


def _draws(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield DRAWS resamples with replacement of the groups: how often each row is drawn, (rows,).

    The seed is fixed, so that a report is repeatable and scores of the same rows are comparable.
    """
    rng = np.random.default_rng(0)
    count = int(groups.max()) + 1
    for _ in range(DRAWS):
        drawn = rng.integers(count, size=count)
        yield np.bincount(drawn, minlength=count)[groups].astype(np.float64)


def middle(scores: Sequence[float] | np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the middle share `level` of `scores`, (draws,); NaN is left out."""
    tail = round((1 - level) / 2, 9)  # exactly 0.025 for 0.95
    low, high = np.nanquantile(scores, (tail, 1 - tail))
    return float(low), float(high)
