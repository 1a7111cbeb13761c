"""Tables: rows with a key, a target, numeric and categorical columns; with or without a header."""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ..errors import DataError
from ..files import RECEIPT
from ..strict import Strict
from . import PARTS, parts_by_hash

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("hash",)
UNSEEN = 0  # the code of a category that training did not meet; its embedding stays at zero


class Columns(Strict):
    """What each column of a table is, and how its files are written; `target` is null where no row has a label."""

    names: list[str] | None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    unknown: str | None
    key: str | None
    target: str | None
    ignored: list[str]
    numeric: list[str]
    categorical: list[str]

    @model_validator(mode="after")
    def each_column_has_one_role(self) -> Self:
        for name in self.all:
            if self.all.count(name) > 1:
                raise ValueError(
                    f"`{name}` is named twice; a column is key, target, ignored, numeric or categorical"
                )
            if self.names is not None and name not in self.names:
                raise ValueError(
                    f"`{name}` is not among `names`; name the columns of the file there, in its order"
                )
        return self

    @property
    def features(self) -> list[str]:
        return [*self.numeric, *self.categorical]

    @property
    def all(self) -> list[str]:
        return [
            *filter(None, [self.key]),
            *self.ignored,
            *self.features,
            *filter(None, [self.target]),
        ]


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


# --- from raw files to four parts -------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """All files of `folder` as one frame in upstream columns; only the empty cell and `unknown` are missing values.

    A column with letters among its numbers stays text, so that the expectations can name it.
    Raises DataError for an empty or unreadable file and for a column that is not there.
    """
    files = sorted(path for path in folder.glob("*") if path.name != RECEIPT)
    if not files:
        raise DataError(f"{folder} holds no file; `make pull` brings them")
    return pd.concat([_read_file(path, columns) for path in files], ignore_index=True)


def _read_file(path: Path, columns: Columns) -> pd.DataFrame:
    rows = read_rows(path, columns)
    missing = [name for name in columns.all if name not in rows.columns]
    if missing:
        raise DataError(
            f"{path.name} lacks column {', '.join(missing)}; found {', '.join(map(str, rows.columns))};"
            " correct the file, or name the columns in its conf as the file does"
        )
    return rows


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """One file of rows, whatever columns it has: Parquet, JSON records, or text as `columns` says it is written."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # rows longer than `names` would be cut
            return pd.read_csv(
                path,
                sep=columns.delimiter,
                header=None if columns.names else "infer",
                names=columns.names,
                index_col=False,
                keep_default_na=False,
                na_values=["", *([columns.unknown] if columns.unknown else [])],
                low_memory=False,
            )
    except FileNotFoundError:
        raise DataError(f"{path} is not there; name a file of rows") from None
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path.name} is empty; expected a table with {', '.join(columns.all)}"
        ) from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        how = (
            f" with delimiter {columns.delimiter!r}"
            if path.suffix not in (".parquet", ".json")
            else ""
        )
        raise DataError(
            f"{path.name} is no table{how}: {error}; correct it, or name another file"
        ) from None


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """What the expectations look at: the rows as they came."""
    return raw


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Rows whose numbers are numbers and whose categories are of one type; the upstream columns stay as they are.

    Raises DataError for letters or infinity in a number and for a row without a label.
    """
    rows = raw[[name for name in raw.columns if name in columns.all]].copy()
    for name in columns.numeric:
        rows[name] = _numbers(rows[name], name)
    for name in columns.categorical:
        if not pd.api.types.is_numeric_dtype(rows[name]) or pd.api.types.is_bool_dtype(rows[name]):
            rows[name] = _levels(rows[name])
    unlabelled = int(rows[columns.target].isna().sum()) if columns.target else 0
    if unlabelled:
        raise DataError(
            f"{unlabelled} rows have no `{columns.target}`; label them or take them out of the file"
        )
    return rows


def _numbers(column: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.isinf(numbers.to_numpy(float)) | (numbers.isna() & column.notna())
    if wrong.any():
        row = _first(wrong)
        raise DataError(
            f"row {row} has {column.tolist()[row - 1]!r} in `{name}`; expected a finite number; correct the row"
        )
    return numbers


def _levels(column: pd.Series) -> pd.Series:
    """Categories as text, missing as None; 1.0 is written 1."""

    def text(value: Any) -> str | None:
        if pd.isna(value):
            return None
        return (
            str(int(value))
            if isinstance(value, float | np.floating) and value.is_integer()
            else str(value)
        )

    return pd.Series([text(value) for value in column], index=column.index, dtype=object)


def split(rows: pd.DataFrame, columns: Columns, split: Any) -> dict[str, pd.DataFrame]:
    """Four parts by a salted hash of the key (of the whole row where there is none).

    A row's part depends on nothing but itself, so that it never changes sides as the table grows: a whole number reads
    the same in a column where some are missing, which makes floats of all.
    """
    cells = zip(
        *(_levels(rows[name]) for name in ([columns.key] if columns.key else rows)), strict=True
    )
    part = parts_by_hash(("\x1f".join(text or "" for text in row) for row in cells), split)
    return {name: rows[part == i].reset_index(drop=True) for i, name in enumerate(PARTS)}


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError where a key lies in two parts, or a part has no row or lacks a class."""
    seen: dict[Any, str] = {}
    for part, rows in parts.items():
        if rows.empty and columns.target is None:
            raise DataError(
                f"part {part} has no row; bring more rows, or change `split` in the conf"
            )
        for key in set(rows[columns.key]) if columns.key else ():
            if seen.setdefault(key, part) != part:
                raise DataError(
                    f"key {key} lies in {seen[key]} and in {part}; each key may stand in one part only"
                )
    if columns.target is None:
        return
    classes = set(pd.concat([rows[columns.target] for rows in parts.values()]))
    for part, rows in parts.items():
        lacking = sorted(map(str, classes - set(rows[columns.target])))
        if lacking:
            raise DataError(
                f"part {part} ({len(rows)} rows) has no row of class {', '.join(lacking)} of `{columns.target}`;"
                " bring more rows of it, or change `split` in the conf"
            )
    if len(classes) < 2:
        only = ", ".join(map(str, classes)) or "nothing"
        raise DataError(
            f"`{columns.target}` is {only} in every row; expected two classes; bring rows of another"
        )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part written by `write`."""
    return pd.read_parquet(path.with_suffix(".parquet"))


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, Any]:
    """What a reader asks of the training rows: ranges, means, levels."""
    train = parts["train"]
    found: dict[str, Any] = {name: _range(train[name]) for name in columns.numeric}
    for name in [*columns.categorical, *filter(None, [columns.target])]:
        found[name] = {
            str(level): int(n) for level, n in train[name].value_counts().sort_index().items()
        }
    return {"columns": found, "classes": _classes(train, columns)}


def _range(numbers: pd.Series) -> dict[str, float]:
    return {
        name: round(float(getattr(numbers, name)()), 9)
        for name in ("min", "median", "mean", "max", "std")
    }


def _classes(rows: pd.DataFrame, columns: Columns) -> list[Any]:
    return sorted(rows[columns.target].unique().tolist()) if columns.target else []


# --- from rows to tensors ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Rows as tensors: numeric (rows, numeric) float32, categories (rows, categorical) int64, target (rows) int64."""

    numeric: "Tensor"
    categories: "Tensor"
    target: "Tensor"


class Encoder:
    """Rows to a Batch by what the training rows taught: mean and spread of numbers, levels of categories, classes.

    Numbers are standardised; a missing one becomes the median. A missing category is a level of its own where training
    had one. A level that training did not meet gets the code UNSEEN. `gaps`: the numbers that training saw missing.
    """

    def __init__(
        self,
        columns: Columns,
        numbers: dict[str, list[float]],
        gaps: list[str],
        levels: dict[str, list[Any]],
        classes: list[Any],
    ):
        self.columns, self.numbers, self.gaps, self.levels, self.classes = (
            columns,
            numbers,
            gaps,
            levels,
            classes,
        )

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone; raises DataError for a column without any value there."""
        empty = [name for name in columns.features if rows[name].isna().all()]
        if empty:
            raise DataError(
                f"no training row has a value in `{empty[0]}`; take it out of `columns` in the conf"
            )
        numbers = {}
        for name in columns.numeric:
            x = rows[name].to_numpy(float)
            x = x[~np.isnan(x)]
            of_it = [x.mean(), x.std() or 1.0, *np.quantile(x, (0.1, 0.5, 0.9)), x.min(), x.max()]
            numbers[name] = [float(each) for each in of_it]
        gaps = [name for name in columns.numeric if rows[name].isna().any()]
        levels = {
            name: sorted(set(_levels(rows[name])), key=lambda v: (v is None, v))
            for name in columns.categorical
        }
        return cls(columns, numbers, gaps, levels, _classes(rows, columns))

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {
            "numbers": self.numbers,
            "gaps": self.gaps,
            "levels": self.levels,
            "classes": self.classes,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, **state)

    @property
    def sizes(self) -> dict[str, Any]:
        """What a family's constructor may ask for before its `*`."""
        cardinalities = [len(self.levels[name]) for name in self.columns.categorical]
        classes = {"classes": len(self.classes)} if self.classes else {}
        return {"numeric": len(self.numbers), "cardinalities": cardinalities, **classes}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """Rows in upstream columns to tensors; the target is -1 where it is not there."""
        numeric = np.empty((len(rows), len(self.numbers)), np.float32)
        for i, (name, (mean, std, _, median, *_)) in enumerate(self.numbers.items()):
            x = rows[name].to_numpy(float)
            numeric[:, i] = (np.where(np.isnan(x), median, x) - mean) / std
        categories = np.empty((len(rows), len(self.levels)), np.int64)
        for i, (name, levels) in enumerate(self.levels.items()):
            codes = {level: code for code, level in enumerate(levels, start=1)}
            categories[:, i] = [codes.get(level, UNSEEN) for level in _levels(rows[name])]
        target = np.full(len(rows), -1)
        if self.columns.target and self.columns.target in rows:
            target = pd.Index(self.classes).get_indexer(rows[self.columns.target])
        import torch  # two seconds, which pull, validate and prepare need not wait for

        return Batch(
            torch.from_numpy(numeric),
            torch.from_numpy(categories),
            torch.from_numpy(target.astype(np.int64)),
        )

    def wide(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as numbers alone, in float64: numbers in upstream units, each level of a category as 0 or 1."""
        found: dict[str, Any] = {}
        for name, (_, _, _, median, *_) in self.numbers.items():
            found[name] = rows[name].astype(float).fillna(median)
        for name, levels in self.levels.items():
            given = _levels(rows[name])
            for level in levels:
                found[f"{name}={level}"] = (
                    given.isna() if level is None else given == level
                ).astype(float)
        return pd.DataFrame(found, index=rows.index)

    @property
    def scale(self) -> dict[str, tuple[float, float]]:
        """Low end and span of each column of `wide`, by which (x - low) / span makes distances fair: the range that a
        number had in training; sqrt(2) for a level, so that two categories are as far apart as the ends of a number.
        """
        numbers = {
            name: (low, (high - low) or 1.0) for name, (*_, low, high) in self.numbers.items()
        }
        levels = [f"{name}={level}" for name, levels in self.levels.items() for level in levels]
        return numbers | dict.fromkeys(levels, (0.0, 2**0.5))

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """What a baseline reads, (rows, features): `wide` with its numbers standardised."""
        found = self.wide(rows)
        for name, (mean, std, *_) in self.numbers.items():
            found[name] = (found[name] - mean) / std
        return found.to_numpy(np.float64)

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows that are asked with, as `encode` takes them; label, key and ignored columns may be left out.

        Raises DataError for a missing or surplus column, a number that is none, infinity, NaN where training had none.
        Warns about a category that training did not meet.
        """
        missing = [name for name in self.columns.features if name not in frame]
        surplus = [str(name) for name in frame if name not in self.columns.all]
        if missing or surplus:
            got = "; ".join(
                f"{what} column {', '.join(names)}"
                for what, names in (("missing", missing), ("surplus", surplus))
                if names
            )
            raise DataError(
                f"{got}; expected {', '.join(self.columns.features)}; name the columns as in training"
            )
        if frame.empty:
            raise DataError("no rows to answer; give at least one")
        rows = frame.copy()
        for name in self.columns.numeric:
            rows[name] = _numbers(rows[name], name)
            if name not in self.gaps and rows[name].isna().any():
                raise DataError(
                    f"row {_first(rows[name].isna())} has no `{name}`; expected a number; correct the row"
                )
        for name, levels in self.levels.items():
            rows[name] = _levels(rows[name])
            if None in set(rows[name]) and None not in levels:
                raise DataError(
                    f"row {_first(rows[name].isna())} has no `{name}`; expected one of {_some(levels)}"
                )
            unseen = sorted(set(rows[name]) - set(levels))
            if unseen:
                warnings.warn(
                    f"`{name}` has {', '.join(unseen)}, which training did not meet", stacklevel=2
                )
        return rows

    def schema(self) -> list[tuple[str, str, bool]]:
        """Columns that may be asked with: name, MLflow type, whether it must be there."""
        numeric = [(name, "double", True) for name in self.columns.numeric]
        return [*numeric, *((name, _type(levels), True) for name, levels in self.levels.items())]

    def question(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them: the features alone, in the types of `schema`."""
        types = {"double": np.float64, "long": np.int64, "string": object}
        return pd.DataFrame(
            {name: rows[name].astype(types[kind]) for name, kind, _ in self.schema()}
        )

    def example(self) -> pd.DataFrame:
        """Three rows made of the training quantiles and levels: nobody's."""
        rows = {name: [round(q, 4) for q in known[2:5]] for name, known in self.numbers.items()}
        for name, kind, _ in self.schema()[len(rows) :]:
            levels = [level for level in self.levels[name] if level is not None] or [""]
            drawn = [levels[i % len(levels)] for i in range(3)]
            rows[name] = drawn if kind == "string" else [int(v) for v in drawn]
        return self.question(pd.DataFrame(rows))


def _first(wrong: Any) -> int:
    return int(np.flatnonzero(np.asarray(wrong))[0]) + 1


def _some(levels: list[Any]) -> str:
    shown = [str(level) for level in levels[:8]]
    return ", ".join(shown) + (", …" if len(levels) > len(shown) else "")


def _type(levels: list[Any]) -> str:
    """The MLflow type of a category: whole numbers are asked as such, as floats where some are missing."""
    known = [level for level in levels if level is not None]
    if all(level.removeprefix("-").isdecimal() and str(int(level)) == level for level in known):
        return "long" if len(known) == len(levels) else "double"
    return "string"
