"""Series as rows: read, repaired, split by date into four parts and written."""

import json
import re
import warnings
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...errors import DataError
from ...files import RECEIPT
from ..parts import CONTEXT, PARTS, scored

if TYPE_CHECKING:
    pass
from .columns import Columns

REPAIRED = (
    "repaired"  # the column that marks the rows whose price was divided by the factor of a split
)
SLACK = 0.02  # of a price over High or below Low: what rounding to the cent leaves, twice


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
        rows[name] = to_numbers(raw[name], columns)
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


def to_numbers(column: pd.Series, columns: Columns) -> pd.Series:
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
