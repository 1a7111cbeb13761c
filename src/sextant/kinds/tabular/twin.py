"""The twin of a table: a generator whose parameters are in conf.

Levels are text in the conf, "1" and not 1: `dvc exp show` and `dvc params diff` cannot read a file
that has a number as a key.
"""

import zipfile
from html import escape
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ...errors import UsageError
from ...strict import PlainPath, Seed, Strict
from ..formats import BLANKS
from .columns import Columns

# Of the parts of a workbook, which is a zip of XML files (ECMA-376).
SCHEMAS = "http://schemas.openxmlformats.org/"
RELATIONS = "package/2006/relationships"
SPREADSHEET = "spreadsheetml/2006/main"
BOOK = "xl/workbook.xml"
FORMAT_TYPE = "application/vnd.openxmlformats-"
SHEET_TYPE = f"{FORMAT_TYPE}officedocument.spreadsheetml.worksheet+xml"
BOOK_TYPES = (
    f'<Default Extension="rels" ContentType="{FORMAT_TYPE}package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/{BOOK}"'
    f' ContentType="{FORMAT_TYPE}officedocument.spreadsheetml.sheet.main+xml"/>'
)

# --- the block `twin` of conf/dataset/<name>.yaml -----------------------------------------------


class Counter(Strict):
    """1, 2, 3, ..."""

    draw: Literal["counter"]


class Unique(Strict):
    """Distinct integers from `low` to `high`."""

    draw: Literal["unique"]
    low: int
    high: int


class Listed(Strict):
    """Distinct `names`, in an order drawn at random."""

    draw: Literal["listed"]
    names: list[str]


class Choice(Strict):
    """One of `levels`, by weight; the weights need not sum to 1."""

    draw: Literal["choice"]
    levels: dict[str, float]


class Uniform(Strict):
    """Uniform from `low` to `high`, rounded to `digits` decimals."""

    draw: Literal["uniform"]
    low: float
    high: float
    digits: Annotated[int, Field(ge=-9, le=15)]


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
    digits: Annotated[int, Field(ge=-9, le=15)]
    zeros: "Zeros | None"


class Zeros(Strict):
    """The share of values that are exactly 0, by the level of another column."""

    column: str
    shares: dict[str, float]


class Sum(Strict):
    """mean + the sum of terms of columns drawn before + noise * z with a standard normal z.

    Rounded to `digits` decimals. Columns like this one make rows lie near a curved surface.
    """

    draw: Literal["sum"]
    mean: float
    terms: list["Term"]
    noise: Annotated[float, Field(ge=0)]
    digits: Annotated[int, Field(ge=-9, le=15)]


class Term(Strict):
    """One term of a sum: `weight` times the product of its factors."""

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


class Number(Strict):
    """A target that is a number: mean + spread * signal + noise * z with a standard normal z.

    The signal is standardised over the rows, so that `spread` is the standard deviation of what can
    be predicted, and `noise` the RMSE of the best prediction. The number is clipped to `low` and
    `high`, and rounded to `digits` decimals.
    """

    mean: float
    spread: Annotated[float, Field(gt=0)]
    noise: Annotated[float, Field(ge=0)]
    low: float
    high: float
    digits: Annotated[int, Field(ge=-9, le=15)]


Draw: TypeAlias = Counter | Unique | Listed | Choice | Uniform | Normal | Sum


class Twin(Strict):
    """The stand-in of a table: rows drawn column by column, and a target with a planted signal, if
    rows have one.

    file: the name of the file; a workbook if it ends in .xlsx.
    sheets: of a workbook, their number: Sheet1, Sheet2, ... hold the same rows in other orders.
    test_file: of a text, the name of a second file, and `test_share`, the share of the rows, the
        last ones, that are there; null: there is one file.
    first_line: a line before the rows of a text, such as a comment; null: there is none.
    last_line_end: whether the last row of a text ends in a line end, as upstream.
    rows, seed: how many rows, and the seed of all draws.
    draws: the distribution of each column, in the order of the file or of `names` in `columns`.
    groups: clusters of rows; null for independent columns.
    rate: the share of rows whose target is the second of `labels`.
    number: in place of `rate` and `labels`, for a target that is a number.
    signal: the log odds of the second label, or the part of the number that can be predicted.
    """

    file: PlainPath
    sheets: Annotated[int, Field(ge=1, le=100)] = 1
    test_file: PlainPath | None = None
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0
    first_line: str | None = None
    last_line_end: bool = True
    rows: Annotated[int, Field(ge=1, le=10_000_000)]
    seed: Seed
    draws: dict[str, Annotated[Draw, Field(discriminator="draw")]]
    groups: Groups | None
    rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    labels: Annotated[list[str | int], Field(min_length=2, max_length=2)] | None = None
    number: Number | None = None
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
            if isinstance(draw, Listed) and len(set(draw.names)) < self.rows:
                raise ValueError(
                    f"`{name}` has {len(set(draw.names))} names for {self.rows:,} rows; add names,"
                    " or set `rows` lower"
                )
            if isinstance(draw, Normal) and draw.zeros and draw.zeros.column not in drawn:
                raise ValueError(
                    f"the zeros of `{name}` depend on `{draw.zeros.column}`; draw that column"
                    " before it"
                )
            if isinstance(draw, Sum):
                _check_drawn(name, draw.terms, drawn)
            drawn.add(name)
        _check_drawn("signal", self.signal, drawn)
        return self

    @model_validator(mode="after")
    def a_target_is_a_class_or_a_number(self) -> Self:
        if self.rate is None and self.labels is None and self.number is None and not self.signal:
            return self
        if (self.rate is None) != (self.labels is None) or (self.rate is None) == (
            self.number is None
        ):
            raise ValueError("expected either `rate` and `labels`, or `number`")
        return self


def _check_drawn(name: str, terms: list[Term], drawn: set[str]) -> None:
    """Raise ValueError for a factor of a column that is not among those `drawn` before."""
    for term in terms:
        for factor in term.factors:
            if factor.column not in drawn:
                raise ValueError(
                    f"`{name}` depends on `{factor.column}`; the columns drawn are"
                    f" {', '.join(sorted(drawn))}"
                )


# --- the generator ------------------------------------------------------------------------------
# The order of the draws decides the bytes of the file: a new one belongs at the end.


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` in its format: a workbook, or text with CRLF line ends."""
    rows = _rows(twin, columns)
    folder.mkdir(parents=True, exist_ok=True)
    if twin.file.endswith(".xlsx"):
        _write_workbook(rows, twin, folder / twin.file)
        return
    if twin.test_file is None:
        _write_text(rows, twin, columns, folder / twin.file)
        return
    train_rows = round((1 - twin.test_share) * len(rows))
    _write_text(rows.iloc[:train_rows], twin, columns, folder / twin.file)
    _write_text(rows.iloc[train_rows:], twin, columns, folder / twin.test_file)


def _write_text(rows: pd.DataFrame, twin: Twin, columns: Columns, path: Path) -> None:
    if columns.names is not None:  # of a file without a header, in its order
        rows = rows[columns.names]
    text = rows.to_csv(
        sep=" " if columns.delimiter == BLANKS else columns.delimiter,
        header=columns.names is None,
        index=False,
        lineterminator="\r\n",
        decimal=columns.decimal,
    )
    if twin.first_line is not None:
        text = f"{twin.first_line}\r\n{text}"
    if not twin.last_line_end:
        text = text.removesuffix("\r\n")
    with path.open("w", encoding=columns.encoding, newline="") as stream:
        stream.write(text)


def _write_workbook(rows: pd.DataFrame, twin: Twin, path: Path) -> None:
    """Write the rows as sheets, each in an order of its own, the first in that of the draws.

    The parts of the zip are written here and not by openpyxl, which records the time of writing.
    """
    rng = np.random.default_rng(twin.seed)
    names = [f"Sheet{number}" for number in range(1, twin.sheets + 1)]
    parts = {
        "[Content_Types].xml": _xml(
            "Types", "package/2006/content-types", "".join(map(_content_type, names)) + BOOK_TYPES
        ),
        "_rels/.rels": _xml("Relationships", RELATIONS, _relation("rId1", "officeDocument", BOOK)),
    }
    listed = ""
    relations = ""
    for number, name in enumerate(names, start=1):
        listed += f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>'
        relations += _relation(f"rId{number}", "worksheet", f"worksheets/{name}.xml")
        order = np.arange(len(rows)) if number == 1 else rng.permutation(len(rows))
        parts[f"xl/worksheets/{name}.xml"] = _sheet(rows.iloc[order])
    parts[BOOK] = _xml("workbook", SPREADSHEET, f"<sheets>{listed}</sheets>")
    parts["xl/_rels/workbook.xml.rels"] = _xml("Relationships", RELATIONS, relations)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            # A fixed date, the first that a zip can hold, makes the bytes the same every time.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            book.writestr(entry, content)


def _sheet(rows: pd.DataFrame) -> str:
    """A worksheet: the header and the rows, numbers as numbers and all else as text."""
    lines = ["".join(map(_text_cell, rows.columns))]
    for values in rows.itertuples(index=False):
        cells = ""
        for value in values:
            if isinstance(value, int | float):
                cells += f"<c><v>{value!r}</v></c>"
            else:
                cells += _text_cell(value)
        lines.append(cells)
    body = "".join(f"<row>{cells}</row>" for cells in lines)
    return _xml("worksheet", SPREADSHEET, f"<sheetData>{body}</sheetData>")


def _text_cell(value: object) -> str:
    return f'<c t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'


def _xml(root: str, namespace: str, content: str) -> str:
    """A part of a workbook (ECMA-376) with one root element."""
    office = f'{SCHEMAS}officeDocument/2006/relationships"'
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        f'<{root} xmlns="{SCHEMAS}{namespace}" xmlns:r="{office}>{content}</{root}>'
    )


def _relation(number: str, kind: str, target: str) -> str:
    kind = f"{SCHEMAS}officeDocument/2006/relationships/{kind}"
    return f'<Relationship Id="{number}" Type="{kind}" Target="{target}"/>'


def _content_type(sheet: str) -> str:
    return f'<Override PartName="/xl/worksheets/{sheet}.xml" ContentType="{SHEET_TYPE}"/>'


def _rows(twin: Twin, columns: Columns) -> pd.DataFrame:
    rng = np.random.default_rng(twin.seed)
    rows = pd.DataFrame(index=range(twin.rows))
    group_of_row = np.zeros(twin.rows, int)
    if twin.groups:
        group_of_row = rng.integers(twin.groups.number, size=twin.rows)
    for name, draw in twin.draws.items():
        if isinstance(draw, Sum):
            rows[name] = _sum(draw, rows, rng)
            continue
        values = _draw(draw, twin.rows, rng)
        if twin.groups and not isinstance(draw, Counter | Unique | Listed):
            values = _reordered(values, group_of_row, twin.groups, rng)
        if isinstance(draw, Normal) and draw.zeros:
            values = _with_zeros(values, draw.zeros, rows, rng)
        rows[name] = values
    if columns.target is not None and (twin.rate is None) == (twin.number is None):
        raise UsageError(
            f"the twin has no target `{columns.target}`; give it `rate` and `labels`, or `number`"
        )
    if columns.target is not None:
        rows[columns.target] = _target(twin, rows, rng)
    return rows


def _sum(draw: Sum, rows: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    total = draw.mean + draw.noise * rng.standard_normal(len(rows))
    for term in draw.terms:
        total = total + term.weight * _product(term, rows)
    return _rounded(total, draw.digits)


def _draw(
    draw: Counter | Unique | Listed | Choice | Uniform | Normal, size: int, rng: np.random.Generator
) -> np.ndarray:
    match draw:
        case Counter():
            return np.arange(1, size + 1)
        case Unique():
            return rng.permutation(np.arange(draw.low, draw.high + 1))[:size]
        case Listed():
            return rng.permutation(np.array(draw.names, object))[:size]
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
    signal = np.zeros(twin.rows)
    for term in twin.signal:
        signal = signal + term.weight * _product(term, rows)
    if twin.number is not None:
        return _number(twin.number, signal, rng)
    assert twin.rate is not None and twin.labels is not None
    # With logistic noise, P(signal + noise > threshold) is the sigmoid of signal - threshold.
    # The quantile as threshold gives exactly the share `rate`, whatever the signal.
    noisy = signal + rng.logistic(size=twin.rows)
    is_second = noisy > np.quantile(noisy, 1 - twin.rate)
    return np.where(is_second, twin.labels[1], twin.labels[0])


def _number(number: Number, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    standardised = (signal - signal.mean()) / (signal.std() or 1.0)
    values = number.mean + number.spread * standardised
    values += number.noise * rng.standard_normal(len(signal))
    return _rounded(np.clip(values, number.low, number.high), number.digits)


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
