"""Series: one row a trading day, with prices and a volume; asked for is the target's price on the day after the last.

A question holds the `window` most recent days or more, and gets an answer for each day that has a whole window up to
it. A part holds the days that are scored, and before them one window of days that are not, marked in the column
`context`.
"""

import json
import re
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ..errors import DataError
from ..files import RECEIPT
from ..strict import Day, Strict
from . import CONTEXT, PARTS, scored

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("dates",)  # a shuffled split would train on the days after those that it scores
REPAIRED = (
    "repaired"  # the column that marks the rows whose price was divided by the factor of a split
)
# What the expectations see besides: days since 1970, days since the row before, Monday = 0. Not `day`, which Great
# Expectations could not tell from the `Day` of many a file.
DERIVED = ("day_number", "gap", "weekday")
LIMIT = 8.0  # standard deviations at which a feature is cut, so that one wild day drowns no other
SLACK = 0.02  # of a price over High or below Low: what rounding to the cent leaves, twice
LONG_GAP = 7  # days without a price that no weekend with a holiday explains


Positive = Annotated[float, Field(gt=0)]


class Unadjusted(Strict):
    """A price that is not adjusted for a split: before the day `before` it is `factor` times the others."""

    column: str
    before: Day
    factor: Annotated[float, Field(gt=1)]


class Columns(Strict):
    """What each column of a series is, and how its files are written.

    `target` is the price that is asked for, `base` the best price known the day before, `prices` are all of them, in
    `unit`, which the figures name.
    `high` and `low` bound the others of their day, where the series has such.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    thousands: Annotated[str, Field(min_length=1, max_length=1)] | None
    date: str
    date_format: str
    target: str
    base: str
    prices: Annotated[list[str], Field(min_length=1)]
    unit: str
    high: str | None
    low: str | None
    volume: str | None
    unadjusted: Unadjusted | None
    window: Annotated[int, Field(ge=8)]

    @model_validator(mode="after")
    def names_are_prices(self) -> Self:
        split = self.unadjusted.column if self.unadjusted else None
        for name in (self.target, self.base, self.high, self.low, split):
            if name is not None and name not in self.prices:
                raise ValueError(f"`{name}` is none of `prices`: {', '.join(self.prices)}")
        return self

    @property
    def numbers(self) -> list[str]:
        return [*self.prices, *([self.volume] if self.volume else [])]

    @property
    def upstream(self) -> list[str]:
        return [self.date, *self.numbers]

    @property
    def all(self) -> list[str]:
        return [*self.upstream, *DERIVED]


# --- the twin: a generator whose numbers stand in conf ----------------------------------------------------------------


class TwinFile(Strict):
    """One of the files that the twin is written to; the days up to and with `until`."""

    file: str
    until: Day


class Walk(Strict):
    """A log return with Student-t noise: `sd` a day; few `freedom` degrees make rare days large."""

    sd: Positive
    freedom: Annotated[float, Field(gt=2)]


class Era(Strict):
    """The volume from the day `since` on: lognormal with this median."""

    since: Day
    median: Positive


class Twin(Strict):
    """The stand-in of a share's prices: a random walk by night and by day, with a part of the night that can be known.

    The night's return is the sum of `echo[k]` times the day's return k days before, and noise. The persistence of
    the volatility is that of an AR(1) process of its logarithm with deviation `spread`.
    `eras` change the volume's level, as splits and fashions do; `unadjusted` (of the columns) is written as upstream.
    """

    seed: int
    first: Day
    closed: list[Day]
    files: Annotated[list[TwinFile], Field(min_length=1)]
    start: Positive
    drift: float
    day: Walk
    night: Walk
    echo: list[float]
    spread: Annotated[float, Field(ge=0)]
    persistence: Annotated[float, Field(ge=0, lt=1)]
    wick: Positive
    volume_sd: Positive
    eras: Annotated[list[Era], Field(min_length=1)]

    @model_validator(mode="after")
    def files_and_eras_follow_each_other(self) -> Self:
        for what, days in (
            ("files", [one.until for one in self.files]),
            ("eras", [one.since for one in self.eras]),
        ):
            if sorted(set(days)) != days:
                raise ValueError(
                    f"`{what}` lie at {', '.join(days)}; expected the oldest first, each day once"
                )
        if not self.eras[0].since <= self.first <= self.files[0].until:
            raise ValueError(
                f"`first` is {self.first}; expected it between the first of `eras` ({self.eras[0].since}) and the"
                f" end of the first of `files` ({self.files[0].until})"
            )
        return self


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin in the upstream format: quoted thousands, M/D/YYYY, CRLF, no line end after the last row."""
    rows = _drawn(twin, columns)
    folder.mkdir(parents=True, exist_ok=True)
    since = ""
    for file in twin.files:
        part = rows[(rows[columns.date] > since) & (rows[columns.date] <= file.until)]
        lines = [columns.delimiter.join(columns.upstream), *_lines(part, columns)]
        (folder / file.file).write_bytes("\r\n".join(lines).encode())
        since = file.until


def _drawn(twin: Twin, columns: Columns) -> pd.DataFrame:
    rng = np.random.default_rng(twin.seed)
    closed = set(twin.closed)
    days = [
        day
        for day in pd.bdate_range(twin.first, twin.files[-1].until).strftime("%Y-%m-%d")
        if day not in closed
    ]
    n = len(days)
    calm = _persistent(rng.standard_normal(n), twin.persistence) * twin.spread
    volatility = np.exp(calm - calm.mean())
    by_day, noise = (
        walk.sd * volatility * _student(rng, walk.freedom, n) for walk in (twin.day, twin.night)
    )
    by_night = noise + twin.drift
    for lag, weight in enumerate(twin.echo, start=1):
        by_night[lag:] += weight * by_day[:-lag]
    by_night[0] = 0.0
    close = np.log(twin.start) + np.cumsum(by_night + by_day)
    open_ = close - by_day
    up, down = (rng.exponential(twin.wick, n) * volatility for _ in range(2))
    high, low = np.maximum(open_, close) + up, np.minimum(open_, close) - down
    prices = {columns.high: high, columns.low: low, columns.base: close}
    rows = pd.DataFrame({columns.date: days})
    for name in columns.prices:
        rows[name] = np.exp(prices.get(name, open_)).round(2)
    if columns.volume:
        level = np.array(
            [next(e.median for e in reversed(twin.eras) if e.since <= day) for day in days]
        )
        wave = _persistent(rng.standard_normal(n), twin.persistence) * twin.volume_sd
        rows[columns.volume] = (level * np.exp(wave) / 100).round().clip(1).astype(int) * 100
    if columns.unadjusted:
        early, name = rows[columns.date] < columns.unadjusted.before, columns.unadjusted.column
        rows[name] = rows[name].mask(early, (rows[name] * columns.unadjusted.factor).round(2))
    return rows


def _persistent(noise: np.ndarray, persistence: float) -> np.ndarray:
    """An AR(1) process of unit variance."""
    found = noise.copy()
    for i in range(1, len(found)):
        found[i] = persistence * found[i - 1] + (1 - persistence**2) ** 0.5 * noise[i]
    return found


def _student(rng: np.random.Generator, freedom: float, n: int) -> np.ndarray:
    """Student-t noise of unit variance."""
    return rng.standard_t(freedom, n) * ((freedom - 2) / freedom) ** 0.5


def _lines(rows: pd.DataFrame, columns: Columns) -> Iterator[str]:
    # No zero padding, which strftime cannot leave out everywhere: 1/3/2012.
    for row in rows.to_dict("records"):
        day = date.fromisoformat(row[columns.date])
        marked = columns.date_format
        for mark, value in (("%m", day.month), ("%d", day.day), ("%Y", day.year)):
            marked = marked.replace(mark, str(value))
        yield columns.delimiter.join(
            [marked, *(_written(row[name], name, columns) for name in columns.numbers)]
        )


def _written(number: float, name: str, columns: Columns) -> str:
    text = f"{number:,.0f}" if name == columns.volume else f"{number:,.2f}".rstrip("0").rstrip(".")
    text = text.replace(",", columns.thousands or "")
    return f'"{text}"' if columns.delimiter in text else text


# --- from raw files to four parts -------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """All files of `folder` as one frame in upstream columns, the file with the earliest first day first.

    Inside a file the order is left as it is, so that the expectations see it. Raises DataError for an empty or
    unreadable file and for a column that is not there.
    """
    files = sorted(path for path in folder.iterdir() if path.name != RECEIPT)
    if not files:
        raise DataError(f"{folder} holds no file; `make pull` brings them")
    frames = []
    for path in files:
        rows = read_rows(path, columns)
        missing = [name for name in columns.upstream if name not in rows.columns]
        if missing:
            raise DataError(
                f"{path.name} lacks column {', '.join(missing)}; found {', '.join(map(str, rows.columns))};"
                " correct the file, or name the columns in its conf as the file does"
            )
        first = _days(rows[columns.date], columns).head(1).fillna("").tolist()
        frames.append((first, rows))
    return pd.concat(
        [rows for _, rows in sorted(frames, key=lambda pair: pair[0])], ignore_index=True
    )


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """One file of days, whatever columns it has: Parquet, JSON records, or text as `columns` says it is written."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            return pd.DataFrame(
                json.loads(path.read_text(encoding="utf-8"))
            )  # pandas would read days by its own rule
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # a row of too many fields would be cut to fit
            rows = pd.read_csv(
                path,
                sep=columns.delimiter,
                index_col=False,
                dtype={columns.date: str},
                keep_default_na=False,
                na_values=[""],
                low_memory=False,
            )
    except FileNotFoundError:
        raise DataError(f"{path} is not there; name a file of days") from None
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path.name} is empty; expected a table with {', '.join(columns.upstream)}"
        ) from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path.name} has rows of more fields than its header; a number with a thousands mark must stand in quotes"
        ) from None
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(
            f"{path.name} is no table with delimiter {columns.delimiter!r}: {error}; correct it, or name another file"
        ) from None
    for name in rows.columns.intersection(columns.numbers):
        found = pd.to_numeric(_unmarked(rows[name], columns), errors="coerce")
        if (
            found.notna() | rows[name].isna()
        ).all():  # what holds a word stays text, for the expectations to see
            rows[name] = found
    return rows


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """What the expectations look at: the rows as they came, and the day as a number, its gap to the row before, and its
    weekday from Monday, 0, on."""
    days = pd.to_datetime(_days(raw[columns.date], columns))
    number = (days - pd.Timestamp(0)).dt.days
    return raw.assign(day_number=number, gap=number.diff(), weekday=days.dt.day_of_week)


def _days(column: pd.Series, columns: Columns) -> pd.Series:
    """Days as ISO text, from the upstream format, ISO text or datetimes; missing where it is none of these."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.dt.strftime("%Y-%m-%d")
    text = column.astype(object).map(
        lambda day: str(day)[:10] if isinstance(day, date) else str(day)
    )
    found = pd.to_datetime(text, format=columns.date_format, errors="coerce")
    found = found.fillna(pd.to_datetime(text, format="%Y-%m-%d", errors="coerce"))
    return found.dt.strftime("%Y-%m-%d")


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Days as ISO text, numbers as numbers, and the price that a split left behind divided by its factor.

    What was divided is marked in `repaired`: a factor for all days is an approximation. It touches only what lies
    far above its day's other prices, so that what is repaired already stays as it is.
    Raises DataError for days out of order or twice, a number that is none, a price of 0 or less, High below Low, and
    then for a price that is not between them.
    """
    days = _days(raw[columns.date], columns)
    _refuse(
        days.isna(),
        f"{{}} in `{columns.date}`; expected a day as {columns.date_format}",
        raw[columns.date],
    )
    rows = pd.DataFrame({columns.date: days.astype(str)}, index=raw.index)
    before = days.shift()
    _refuse(
        days == before, f"{{}} in `{columns.date}` for a second time; expected each day once", days
    )
    _refuse(
        days < before,
        f"{{}} in `{columns.date}` after a later day; expected the oldest day first",
        days,
    )
    for name in columns.numbers:
        rows[name] = _numbers(raw[name], columns)
        _refuse(
            rows[name].isna() | np.isinf(rows[name]),
            f"{{}} in `{name}`; expected a number with a decimal point",
            raw[name],
        )
        if name == columns.volume:
            _refuse(rows[name] < 0, f"{{}} in `{name}`; expected a volume of 0 or more", rows[name])
        else:
            _refuse(rows[name] <= 0, f"{{}} in `{name}`; expected a price above 0", rows[name])
    if columns.high and columns.low:
        high, low = rows[columns.high], rows[columns.low]
        _refuse(high < low, f"{{}} in `{columns.high}`, below its `{columns.low}`", high)
    rows = _adjusted(rows, columns)
    for name in columns.prices:
        for bound, way, where in ((columns.high, 1, "above"), (columns.low, -1, "below")):
            if bound:
                beyond = way * (rows[name] - rows[bound]) > SLACK
                _refuse(beyond, f"{{}} in `{name}`, {where} its `{bound}`", rows[name])
    return rows


def _adjusted(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    split = columns.unadjusted
    if split is None:
        return rows.assign(**{REPAIRED: False})
    others = rows[[name for name in columns.prices if name != split.column]].max(axis=1)
    wrong = (rows[columns.date] < split.before) & (rows[split.column] > others * split.factor**0.5)
    right = (rows[split.column] / split.factor).round(2)
    return rows.assign(**{split.column: rows[split.column].mask(wrong, right), REPAIRED: wrong})


def _numbers(column: pd.Series, columns: Columns) -> pd.Series:
    return pd.to_numeric(_unmarked(column, columns), errors="coerce").astype(float)


def _unmarked(column: pd.Series, columns: Columns) -> pd.Series:
    """Numbers in text without their thousands marks, where these part groups of three: 767,25 is no 76725."""
    if pd.api.types.is_numeric_dtype(column) or columns.thousands is None:
        return column
    text = column.astype(str).str.strip().astype(object)
    marked = text.str.fullmatch(rf"[+-]?\d{{1,3}}({re.escape(columns.thousands)}\d{{3}})+(\.\d+)?")
    return text.mask(marked, text.str.replace(columns.thousands, "", regex=False))


def _refuse(wrong: pd.Series, what: str, values: pd.Series) -> None:
    """Raise DataError for the first row that is `wrong`."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = values.iloc[row]
        shown = repr(value) if isinstance(value, str) else value
        raise DataError(f"row {row + 1} has {what.format(shown)}; correct the row")


def split(rows: pd.DataFrame, columns: Columns, split: Any) -> dict[str, pd.DataFrame]:
    """Four parts by the dates of the split, each with the window before its first day as context.

    The first window of the series is the context of train. A day's part never changes as the series grows.
    """
    days = rows[columns.date]
    starts = [
        0,
        *(int((days < day).sum()) for day in (split.val_from, split.gate_from, split.test_from)),
        len(rows),
    ]
    starts[0] = min(columns.window, starts[1])
    parts = {}
    for name, start, end in zip(PARTS, starts[:-1], starts[1:], strict=True):
        first = max(start - columns.window, 0)
        part = rows.iloc[first:end].reset_index(drop=True)
        parts[name] = part.assign(**{CONTEXT: np.arange(len(part)) < start - first})
    return parts


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError where a part has no day to score, or less context than a window."""
    for name, rows in parts.items():
        own = len(scored(rows))
        context = len(rows) - own
        if context < columns.window or own == 0:
            raise DataError(
                f"part {name} has {own} days to score after {context} days of context;"
                f" expected 1 or more after {columns.window}: bring more days, or change `split` in the conf"
            )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part written by `write`."""
    return pd.read_parquet(path.with_suffix(".parquet"))


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, Any]:
    """What a reader asks: the ranges of train, the days of each part, what was repaired."""
    own = {name: scored(rows) for name, rows in parts.items()}
    found = {name: _range(parts["train"][name]) for name in columns.numbers}
    days = {
        name: [rows[columns.date].min(), rows[columns.date].max()] for name, rows in own.items()
    }
    return {"columns": found, "days": days, "repairs": _repairs(parts, columns)}


def _range(numbers: pd.Series) -> dict[str, float]:
    return {
        name: round(float(getattr(numbers, name)()), 9)
        for name in ("min", "median", "mean", "max", "std")
    }


def _repairs(parts: dict[str, pd.DataFrame], columns: Columns) -> list[str]:
    every = pd.concat(list(parts.values())).drop_duplicates(columns.date)
    repaired, split = int(every[REPAIRED].sum()), columns.unadjusted
    if not repaired or split is None:
        return []
    return [
        f"`{split.column}` of {repaired:,} days before {split.before} was not adjusted for the split: divided by"
        f" {split.factor:g}, an approximation"
    ]


# --- from rows to tensors ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Windows as tensors: features of each step (days, window - 1, features), the known price that the answer is an
    increment on (days), and the log of the target's next price over it (days), NaN where nobody knows it yet."""

    window: "Tensor"
    base: "Tensor"
    target: "Tensor"


class Encoder:
    """Days to a Batch. The features of a day are its log returns over the base price of the day before, one for each
    price, and the log change of the volume; standardised by what the training days taught, and cut at LIMIT.

    The window of a day holds that day and those before it. What comes after is in its target alone.
    """

    def __init__(
        self,
        columns: Columns,
        features: dict[str, list[float]],
        typical: dict[str, float],
        weekdays: list[int],
    ):
        self.columns, self.features, self.typical, self.weekdays = (
            columns,
            features,
            typical,
            weekdays,
        )

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        returns = _returns(rows, columns)
        moments = {name: [float(x.mean()), float(x.std()) or 1.0] for name, x in returns.items()}
        weekdays = sorted(
            int(day) for day in pd.to_datetime(rows[columns.date]).dt.day_of_week.unique()
        )
        return cls(
            columns,
            moments,
            {name: float(rows[name].median()) for name in columns.numbers},
            weekdays,
        )

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {"features": self.features, "typical": self.typical, "weekdays": self.weekdays}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, state["features"], state["typical"], state["weekdays"])

    @property
    def sizes(self) -> dict[str, Any]:
        """What a family's constructor may ask for before its `*`."""
        return {"features": len(self.features)}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """A window for each day that `known` lists."""
        steps = np.stack(
            [np.clip((x - self.features[name][0]) / self.features[name][1], -LIMIT, LIMIT)
             for name, x in _returns(rows, self.columns).items()], axis=1, dtype=np.float32,
        )  # fmt: skip
        windows = np.lib.stride_tricks.sliding_window_view(steps, self.columns.window - 1, axis=0)
        import torch  # two seconds, which pull, validate and prepare need not wait for

        known = self.known(rows)
        window = torch.from_numpy(windows[: len(known)].transpose(0, 2, 1).copy())
        base, following = (
            torch.tensor(known[name].to_numpy(np.float64)) for name in ("base", "next")
        )
        return Batch(window, base.float(), (following / base).log().float())

    def known(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The days that rows can be asked about, each by the last day `after` which it comes, the `base` price of that
        day, and what the target was `next` and on which `date` (missing where it is yet to come).

        Of a part these are the days that are scored; of a question those after every whole window.
        """
        return known(rows, self.columns)

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Days that are asked with, as `encode` takes them.

        Raises DataError for a missing or surplus column, for fewer days than a window, and for all that `repair`
        refuses. Warns about a gap that no weekend explains, and of weekdays that training did not meet.
        """
        columns = self.columns
        missing = [name for name in columns.upstream if name not in frame]
        surplus = [str(name) for name in frame if name not in columns.upstream]
        if missing or surplus:
            got = "; ".join(
                f"{what} column {', '.join(names)}"
                for what, names in (("missing", missing), ("surplus", surplus))
                if names
            )
            raise DataError(
                f"{got}; expected {', '.join(columns.upstream)}; name the columns as in training"
            )
        if len(frame) < columns.window:
            raise DataError(
                f"{len(frame)} days; expected the {columns.window} most recent days or more, the oldest first"
            )
        rows = repair(frame, columns)
        days = pd.to_datetime(rows[columns.date])
        gaps = days.diff().dt.days
        if (gaps > LONG_GAP).any():
            last = rows[columns.date][gaps > LONG_GAP].iloc[-1]
            said = f"no rows for {gaps.max():.0f} days, up to {last}; the model takes rows for days in a row"
            warnings.warn(said, stacklevel=2)
        strange = rows[columns.date][~days.dt.day_of_week.isin(self.weekdays)]
        if len(strange):
            said = f"{len(strange)} rows of a weekday that training did not meet, such as {strange.iloc[0]}"
            warnings.warn(f"{said}; look at the dates", stacklevel=2)
        return rows

    def schema(self) -> list[tuple[str, str, bool]]:
        """Columns that are asked with: name, MLflow type, whether it must be there."""
        return [
            (self.columns.date, "string", True),
            *((name, "double", True) for name in self.columns.numbers),
        ]

    def question(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them, in the types of `schema`."""
        numbers = {name: _numbers(rows[name], self.columns) for name in self.columns.numbers}
        return pd.DataFrame(
            {self.columns.date: rows[self.columns.date].astype(str).astype(object), **numbers}
        )

    def example(self) -> pd.DataFrame:
        """Days made of the training medians, which never were: enough for two answers."""
        days = pd.bdate_range("2000-01-03", periods=self.columns.window + 1).strftime("%Y-%m-%d")
        wave = 1 + 0.01 * np.sin(np.arange(len(days)))
        prices = [self.typical[name] for name in self.columns.prices]
        bounds = {self.columns.high: 1.02 * max(prices), self.columns.low: 0.98 * min(prices)}
        rows = pd.DataFrame({self.columns.date: days})
        for name in self.columns.numbers:
            rows[name] = (bounds.get(name, self.typical[name]) * wave).round(2)
        return self.question(rows)


def _returns(rows: pd.DataFrame, columns: Columns) -> dict[str, np.ndarray]:
    """(rows - 1) values of each feature: of a price over the base price the day before, of the volume over itself."""
    base = np.log(rows[columns.base].to_numpy(float))
    found = {name: np.log(rows[name].to_numpy(float))[1:] - base[:-1] for name in columns.prices}
    if columns.volume:
        found[columns.volume] = np.diff(np.log1p(rows[columns.volume].to_numpy(float)))
    return found


def known(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """See `Encoder.known`."""
    target, days = rows[columns.target].astype(float), rows[columns.date]
    found = pd.DataFrame(
        {
            "after": days,
            "base": rows[columns.base].astype(float),
            "date": days.shift(-1),
            "next": target.shift(-1),
        }
    )
    found = found.iloc[columns.window - 1 :]
    if CONTEXT in rows:
        found = found.iloc[: len(scored(rows))]
    return found.reset_index(drop=True)
