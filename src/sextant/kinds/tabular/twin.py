"""The twin of a table: a generator whose parameters are in conf.

Levels are text in the conf, "1" and not 1: `dvc exp show` and `dvc params diff` cannot read a file
that has a number as a key.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ...strict import Strict
from .columns import Columns

# --- the block `twin` of conf/dataset/<name>.yaml -----------------------------------------------


class Counter(Strict):
    """1, 2, 3, ..."""

    draw: Literal["counter"]


class Unique(Strict):
    """Distinct integers from `low` to `high`."""

    draw: Literal["unique"]
    low: int
    high: int


class Choice(Strict):
    """One of `levels`, by weight; the weights need not sum to 1."""

    draw: Literal["choice"]
    levels: dict[str, float]


class Uniform(Strict):
    """Uniform from `low` to `high`, rounded to `digits` decimals."""

    draw: Literal["uniform"]
    low: float
    high: float
    digits: int


class Normal(Strict):
    """Normal, or a shifted lognormal if `skew` is not 0; clipped to `low` and `high`, rounded.

    mean + sd * (exp(skew * z) - 1) / skew with a standard normal z, which for skew -> 0 is
    mean + sd * z.
    """

    draw: Literal["normal"]
    mean: float
    sd: Annotated[float, Field(gt=0)]
    skew: float
    low: float
    high: float
    digits: int
    zeros: "Zeros | None"


class Zeros(Strict):
    """The share of values that are exactly 0, by the level of another column."""

    column: str
    shares: dict[str, float]


class Term(Strict):
    """One term of the planted log odds: `weight` times the product of its factors."""

    weight: float
    factors: Annotated[list["Levels | Hump | Slope"], Field(min_length=1)]


class Levels(Strict):
    """A value by level of a categorical column; a level that is not listed gives 0."""

    column: str
    levels: dict[str, float]


class Hump(Strict):
    """exp(-((x - center) / width)^2), which a linear model cannot fit."""

    column: str
    center: float
    width: Annotated[float, Field(gt=0)]


class Slope(Strict):
    """(x - zero) / unit."""

    column: str
    zero: float
    unit: Annotated[float, Field(gt=0)]


class Groups(Strict):
    """Clusters: each row is in one of `number` groups, whose rows have similar ranks in a column.

    `share` is the part of the variance of a row's rank score that its group determines; the rest is
    the row's own. The drawn values are only reordered, so the marginal distributions do not change.
    """

    number: Annotated[int, Field(ge=1)]
    share: Annotated[float, Field(ge=0, le=1)]


Draw: TypeAlias = Counter | Unique | Choice | Uniform | Normal


class Twin(Strict):
    """The stand-in of a table: rows drawn column by column, and a target with planted log odds.

    file: the name of the file.
    last_line_end: whether the last row ends in a line end, as upstream.
    rows, seed: how many rows, and the seed of all draws.
    draws: the distribution of each column, in the order of the file.
    groups: clusters of rows; null for independent columns.
    rate: the share of rows whose target is the second of `labels`.
    signal: the log odds of the second label.
    """

    file: str
    last_line_end: bool
    rows: Annotated[int, Field(ge=1)]
    seed: int
    draws: dict[str, Annotated[Draw, Field(discriminator="draw")]]
    groups: Groups | None
    rate: Annotated[float, Field(gt=0, lt=1)]
    labels: Annotated[list[str | int], Field(min_length=2, max_length=2)]
    signal: list[Term]

    @model_validator(mode="after")
    def columns_are_drawn_before_they_are_read(self) -> Self:
        drawn: set[str] = set()
        for name, draw in self.draws.items():
            if isinstance(draw, Unique) and draw.high - draw.low + 1 < self.rows:
                raise ValueError(
                    f"`{name}` has too few values between low and high for {self.rows:,} rows;"
                    " widen the range"
                )
            if isinstance(draw, Normal) and draw.zeros and draw.zeros.column not in drawn:
                raise ValueError(
                    f"the zeros of `{name}` depend on `{draw.zeros.column}`; draw that column"
                    " before it"
                )
            drawn.add(name)
        for term in self.signal:
            for factor in term.factors:
                if factor.column not in drawn:
                    raise ValueError(
                        f"`signal` depends on `{factor.column}`; the columns drawn are"
                        f" {', '.join(self.draws)}"
                    )
        return self


# --- the generator ------------------------------------------------------------------------------
# The order of the draws decides the bytes of the file: a new one belongs at the end.


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` in the upstream format, with CRLF line ends."""
    rows = _rows(twin, columns)
    text = rows.to_csv(
        sep=columns.delimiter,
        header=columns.names is None,
        index=False,
        lineterminator="\r\n",
        decimal=columns.decimal,
    )
    if not twin.last_line_end:
        text = text.removesuffix("\r\n")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / twin.file).open("w", encoding=columns.encoding, newline="") as stream:
        stream.write(text)


def _rows(twin: Twin, columns: Columns) -> pd.DataFrame:
    rng = np.random.default_rng(twin.seed)
    rows = pd.DataFrame(index=range(twin.rows))
    group_of_row = np.zeros(twin.rows, int)
    if twin.groups:
        group_of_row = rng.integers(twin.groups.number, size=twin.rows)
    for name, draw in twin.draws.items():
        values = _draw(draw, twin.rows, rng)
        if twin.groups and not isinstance(draw, Counter | Unique):
            values = _reordered(values, group_of_row, twin.groups, rng)
        if isinstance(draw, Normal) and draw.zeros:
            values = _with_zeros(values, draw.zeros, rows, rng)
        rows[name] = values
    if columns.target is not None:
        rows[columns.target] = _target(twin, rows, rng)
    return rows


def _draw(draw: Draw, size: int, rng: np.random.Generator) -> np.ndarray:
    match draw:
        case Counter():
            return np.arange(1, size + 1)
        case Unique():
            return rng.permutation(np.arange(draw.low, draw.high + 1))[:size]
        case Choice():
            weights = np.array(list(draw.levels.values()))
            choices = rng.choice(len(weights), size=size, p=weights / weights.sum())
            return pd.Series(list(draw.levels)).iloc[choices].to_numpy()
        case Uniform():
            return _rounded(rng.uniform(draw.low, draw.high, size), draw.digits)
        case Normal():
            z = rng.standard_normal(size)
            if draw.skew:
                z = np.expm1(draw.skew * z) / draw.skew
            clipped = np.clip(draw.mean + draw.sd * z, draw.low, draw.high)
            return _rounded(clipped, draw.digits)


def _rounded(values: np.ndarray, digits: int) -> np.ndarray:
    if digits:
        return values.round(digits)
    return values.round().astype(int)  # written without a decimal point


def _reordered(
    values: np.ndarray, group_of_row: np.ndarray, groups: Groups, rng: np.random.Generator
) -> np.ndarray:
    """The same values, by ranks that rows of one group share in part (Iman and Conover 1982)."""
    group_score = rng.standard_normal(groups.number)[group_of_row]
    own_score = rng.standard_normal(len(values))
    score = groups.share**0.5 * group_score + (1 - groups.share) ** 0.5 * own_score
    reordered = np.empty_like(values)
    reordered[np.argsort(score)] = np.sort(values)
    return reordered


def _with_zeros(
    values: np.ndarray, zeros: Zeros, rows: pd.DataFrame, rng: np.random.Generator
) -> np.ndarray:
    share = rows[zeros.column].astype(str).map(zeros.shares).to_numpy(float)
    # A level that is not listed has share NaN, and no zeros, since a comparison with NaN is false.
    return np.where(rng.random(len(values)) < share, 0, values)


def _target(twin: Twin, rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    log_odds = np.zeros(twin.rows)
    for term in twin.signal:
        log_odds = log_odds + term.weight * _product(term, rows)
    # With logistic noise, P(log_odds + noise > threshold) is the sigmoid of log_odds - threshold.
    # The quantile as threshold gives exactly the share `rate`, whatever the signal.
    noisy = log_odds + rng.logistic(size=twin.rows)
    is_second = noisy > np.quantile(noisy, 1 - twin.rate)
    return np.where(is_second, twin.labels[1], twin.labels[0])


def _product(term: Term, rows: pd.DataFrame) -> np.ndarray:
    product = np.ones(len(rows))
    for factor in term.factors:
        x = rows[factor.column]
        match factor:
            case Levels():
                by_level = x.astype(str).map(factor.levels).fillna(0.0)
                product = product * by_level.to_numpy(float)
            case Hump():
                distance = (x.to_numpy(float) - factor.center) / factor.width
                product = product * np.exp(-(distance**2))
            case Slope():
                product = product * (x.to_numpy(float) - factor.zero) / factor.unit
    return product
