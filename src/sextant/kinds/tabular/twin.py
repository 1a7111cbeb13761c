"""The twin of a table: a generator whose numbers stand in conf."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ...strict import Strict

if TYPE_CHECKING:
    pass
from .columns import Columns

# --- the twin: a generator whose numbers stand in conf ----------------------------------------------------------------
# Levels are text there, "1" and not 1: `dvc exp show` and `dvc params diff` cannot read a file with a number as a key.


class Counter(Strict):
    """1, 2, 3, ..."""

    draw: Literal["counter"]


class Unique(Strict):
    """Distinct integers between `low` and `high`."""

    draw: Literal["unique"]
    low: int
    high: int


class Choice(Strict):
    """One of `levels`, by weight."""

    draw: Literal["choice"]
    levels: dict[str, float]


class Uniform(Strict):
    """Between `low` and `high`, rounded to `digits`."""

    draw: Literal["uniform"]
    low: float
    high: float
    digits: int


class Normal(Strict):
    """Normal, stretched to a lognormal by `skew` (0: not at all), clipped, rounded; zeros by level of a column."""

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
    """A value by level of a categorical column; levels not named give 0."""

    column: str
    levels: dict[str, float]


class Hump(Strict):
    """exp(-((x - center) / width)^2): what a straight line cannot follow."""

    column: str
    center: float
    width: Annotated[float, Field(gt=0)]


class Slope(Strict):
    """(x - zero) / unit."""

    column: str
    zero: float
    unit: Annotated[float, Field(gt=0)]


class Groups(Strict):
    """Rows of `number` groups: `share` of what tells rows apart in a column is the group's, the rest is the row's own.

    The values of a column stay as they were drawn and are only dealt out anew, so that groups change no marginal.
    """

    number: Annotated[int, Field(ge=1)]
    share: Annotated[float, Field(ge=0, le=1)]


class Twin(Strict):
    """The stand-in of a table: rows drawn column by column, and a target with planted log odds.

    `last_line_end`: whether the last row ends in a line end, as upstream.
    """

    file: str
    last_line_end: bool
    rows: Annotated[int, Field(ge=1)]
    seed: int
    draws: dict[
        str, Annotated[Counter | Unique | Choice | Uniform | Normal, Field(discriminator="draw")]
    ]
    groups: Groups | None
    rate: Annotated[float, Field(gt=0, lt=1)]
    labels: Annotated[list[str | int], Field(min_length=2, max_length=2)]
    signal: list[Term]

    @model_validator(mode="after")
    def columns_are_drawn_before_they_are_asked(self) -> Self:
        drawn: set[str] = set()
        for name, draw in self.draws.items():
            if isinstance(draw, Unique) and draw.high - draw.low + 1 < self.rows:
                raise ValueError(
                    f"`{name}` has too few values between low and high for {self.rows:,} rows; widen them"
                )
            if isinstance(draw, Normal) and draw.zeros and draw.zeros.column not in drawn:
                raise ValueError(
                    f"the zeros of `{name}` ask for `{draw.zeros.column}`; draw that column before it"
                )
            drawn.add(name)
        asked = [factor.column for term in self.signal for factor in term.factors]
        if strange := [name for name in asked if name not in drawn]:
            raise ValueError(
                f"`signal` asks for `{strange[0]}`; the columns drawn are {', '.join(self.draws)}"
            )
        return self


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` in the upstream format: same columns, delimiter and CRLF line ends."""
    rng = np.random.default_rng(twin.seed)
    rows = pd.DataFrame(index=range(twin.rows))
    group = rng.integers(twin.groups.number, size=twin.rows) if twin.groups else None
    for name, draw in twin.draws.items():
        values = _draw(draw, twin.rows, rng)
        if twin.groups and not isinstance(draw, Counter | Unique):
            values = _gathered(values, group, twin.groups, rng)
        rows[name] = (
            _with_zeros(values, draw.zeros, rows, rng)
            if isinstance(draw, Normal) and draw.zeros
            else values
        )
    if columns.target:
        rows[columns.target] = _target(twin, rows, rng)
    text = rows.to_csv(
        sep=columns.delimiter, header=columns.names is None, index=False, lineterminator="\r\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / twin.file).open("w", encoding="utf-8", newline="") as stream:
        stream.write(text if twin.last_line_end else text.removesuffix("\r\n"))


def _target(twin: Twin, rows: pd.DataFrame, rng: np.random.Generator) -> Any:
    odds = sum((term.weight * _product(term, rows) for term in twin.signal), np.zeros(twin.rows))
    noisy = odds + rng.logistic(size=twin.rows)
    positive = noisy > np.quantile(noisy, 1 - twin.rate)
    return np.where(positive, twin.labels[1], twin.labels[0])


def _gathered(values: Any, group: Any, groups: Groups, rng: np.random.Generator) -> Any:
    """The same values, each row's rank among them leaning to that of its group (Iman and Conover 1982)."""
    habit = rng.standard_normal(groups.number)[group]
    lean = groups.share**0.5 * habit + (1 - groups.share) ** 0.5 * rng.standard_normal(len(values))
    dealt = np.empty_like(values)
    dealt[np.argsort(lean)] = np.sort(values)
    return dealt


def _with_zeros(values: Any, zeros: Zeros, rows: pd.DataFrame, rng: np.random.Generator) -> Any:
    share = rows[zeros.column].astype(str).map(zeros.shares).to_numpy(float)
    return np.where(rng.random(len(values)) < share, 0, values)


def _draw(draw: Any, size: int, rng: np.random.Generator) -> Any:
    match draw:
        case Counter():
            return np.arange(1, size + 1)
        case Unique():
            return rng.permutation(np.arange(draw.low, draw.high + 1))[:size]
        case Choice():
            weights = np.array(list(draw.levels.values()))
            picked = rng.choice(len(weights), size=size, p=weights / weights.sum())
            return pd.Series(list(draw.levels)).iloc[picked].to_numpy()
        case Uniform():
            return _rounded(rng.uniform(draw.low, draw.high, size), draw.digits)
    z = rng.standard_normal(size)
    stretched = np.expm1(draw.skew * z) / draw.skew if draw.skew else z
    return _rounded(np.clip(draw.mean + draw.sd * stretched, draw.low, draw.high), draw.digits)


def _rounded(values: Any, digits: int) -> Any:
    return values.round(digits) if digits else values.round().astype(int)


def _product(term: Term, rows: pd.DataFrame) -> Any:
    product = np.ones(len(rows))
    for factor in term.factors:
        x = rows[factor.column]
        match factor:
            case Levels():
                product = product * x.astype(str).map(factor.levels).fillna(0.0).to_numpy(float)
            case Hump():
                product = product * np.exp(
                    -(((x.to_numpy(float) - factor.center) / factor.width) ** 2)
                )
            case Slope():
                product = product * (x.to_numpy(float) - factor.zero) / factor.unit
    return product
