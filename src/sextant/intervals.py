"""How sure a score is: the 95 % interval that stands beside it, and beside what it gains over a baseline.

A task says what its score is made of (`redrawn`), as a Sample: the score as a function of how often each row was
drawn, and the group that a row is drawn with, since the ratings of one user, or the days of one week, do not vary on
their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 500
Z = 1.959964


@dataclass(frozen=True)
class Sample:
    """A score of rows: `score` takes (rows,) weights; `groups`, (rows,), are numbers from 0; `share`: of 0s and 1s."""

    score: Callable[[np.ndarray], float]
    groups: np.ndarray
    share: float | None = None


def mean(values: Any, groups: Any = None) -> Sample:
    """The mean of (rows,) values; of rows that are each a group of its own and of 0s and 1s alone, a share."""
    values = np.asarray(values, np.float64)
    share = float(values.mean()) if groups is None and np.isin(values, (0, 1)).all() else None
    return Sample(
        lambda weights: float(weights @ values / weights.sum()), _groups(groups, len(values)), share
    )


def root_mean(squares: Any, groups: Any = None) -> Sample:
    """The root of the mean of (rows,) squares, as in RMSE."""
    plain = mean(squares, _groups(groups, len(squares)))
    return Sample(lambda weights: plain.score(weights) ** 0.5, plain.groups)


def auroc(score: Any, positive: Any, groups: Any = None) -> Sample:
    """The area under the ROC of (rows,) scores, equal ones counted half; not a number where a draw has one class."""
    order = np.argsort(np.asarray(score, np.float64), kind="stable")
    starts = np.unique(np.asarray(score, np.float64)[order], return_index=True)[1]
    positive = np.asarray(positive, bool)
    kinds = [own[order].astype(np.float64) for own in (positive, ~positive)]

    def area(weights: np.ndarray) -> float:
        drawn = weights[order]
        up, down = (np.add.reduceat(drawn * own, starts) for own in kinds)
        below = np.cumsum(down) - down / 2
        pairs = up.sum() * down.sum()
        return float(up @ below / pairs) if pairs else float("nan")

    return Sample(area, _groups(groups, len(positive)))


def interval(sample: Sample) -> tuple[float, float]:
    """The 95 % interval of a score: of a share by Wilson, else the middle of what a bootstrap of its groups draws."""
    if sample.share is not None:
        low, high = wilson(sample.share, len(sample.groups))
        return float(low), float(high)
    return middle([sample.score(weights) for weights in _draws(sample.groups)])


def gain(sample: Sample, other: Sample, direction: str) -> tuple[float, float, float]:
    """How much better `sample` is than `other`, of the same rows, and the 95 % interval of that: draws are paired."""
    sign = 1 if direction == "up" else -1

    def better(weights: np.ndarray) -> float:
        return sign * (sample.score(weights) - other.score(weights))

    return better(np.ones(len(sample.groups))), *middle(
        [better(weights) for weights in _draws(sample.groups)]
    )


def wilson(share: Any, n: Any) -> tuple[Any, Any]:
    """The 95 % interval of a share seen in n rows; arrays go element by element. Wilson, JASA 1927."""
    center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return center - half, center + half


def _groups(groups: Any, rows: int) -> np.ndarray:
    return (
        np.arange(rows) if groups is None else np.asarray(np.unique(groups, return_inverse=True)[1])
    )


def _draws(groups: np.ndarray) -> Any:
    """DRAWS times how often each row is drawn, where its group is drawn with replacement; the same on every call."""
    rng, count = np.random.default_rng(0), int(groups.max()) + 1
    for _ in range(DRAWS):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[groups].astype(
            np.float64
        )


def middle(draws: Any) -> tuple[float, float]:
    """The middle 95 % of what a bootstrap drew; a draw that is not a number is passed over."""
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return float(low), float(high)
