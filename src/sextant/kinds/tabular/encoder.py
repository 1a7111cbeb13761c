"""Rows of a table as tensors."""

from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
import pandas as pd

from ...errors import DataError
from ..formats import trimmed
from ..levels import matched, texts_of
from ..numbers import numbers_or_faults
from ..remarks import Remarks
from ..tables import without_surplus
from .columns import Columns
from .rows import check_present, has_number_target, numbers_of
from .rows.countries import codes

if TYPE_CHECKING:
    from torch import Tensor

UNSEEN = 0  # the code of a category that training did not have; its embedding stays at zero
EXAMPLES = 3  # rows of the input example
# Standard deviations from the mean at which numbers are clipped. 1e39 would be infinite in float32
# and the answer NaN. Numbers of real rows are within some hundred.
FARTHEST = 1e6

Level: TypeAlias = str | None  # None: a missing category, where training had some


class Batch(NamedTuple):
    """Rows as tensors; the target is -1 if a row has no label, or NaN if the target is a number."""

    numeric: "Tensor"  # (rows, numeric) float32; NaN where a missing number stays empty
    categories: "Tensor"  # (rows, categorical) int64, codes from 1; 0 is UNSEEN, or stays empty
    target: "Tensor"  # (rows) int64, index in `classes`; or float64, a number in its unit


class MeasuredBatch(NamedTuple):
    """A Batch whose numbers are measurements with errors, where the conf names columns of them."""

    numeric: "Tensor"
    categories: "Tensor"
    target: "Tensor"
    errors: "Tensor"  # (rows, numeric) float32, standard deviations in the unit of `numeric`, or 0


class Statistics(NamedTuple):
    """A numeric column in training, in upstream units, without its missing values."""

    mean: float
    std: float  # population standard deviation; 1 for a constant column, which is only centred
    q10: float
    median: float
    q90: float
    low: float
    high: float


class Encoder:
    """Turns rows into a Batch, with statistics and levels of the training rows.

    Numbers are standardised; a missing one becomes the median, and, where the conf has `missing:
    indicator`, a further number is 1. A missing category is a level of its own where training had
    one. A level that training did not have gets the code UNSEEN. If the columns have `gaps`, a
    missing number is NaN, and a missing category has the code UNSEEN.

    columns: the roles, patterns replaced by names.
    numbers: the statistics of each numeric column.
    gaps: the numeric columns that had missing values in training.
    levels: the levels of each categorical column, sorted, None last; their codes count from 1.
    classes: the labels, sorted; empty if rows have none.
    predicts_number: whether the target is a number and no class.
    usual: the most frequent level of each categorical column; None in a model of earlier code.
    """

    def __init__(
        self,
        columns: Columns,
        numbers: dict[str, Statistics],
        gaps: list[str],
        levels: dict[str, list[Level]],
        classes: list[str],
        predicts_number: bool = False,
        usual: dict[str, Level] | None = None,
    ):
        self.columns = columns
        self.numbers = numbers
        self.gaps = gaps
        self.levels = levels
        self.classes = classes
        self.predicts_number = predicts_number
        self.usual = usual

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone; raises DataError for a feature without any value."""
        columns = columns.resolved(rows.columns)
        for name in columns.features:
            if rows[name].isna().all():
                raise DataError(
                    f"no training row has a value in `{name}`; remove it from `columns` in the conf"
                )
        numbers = {name: _statistics(rows[name]) for name in columns.numeric}
        gaps = [name for name in columns.numeric if rows[name].isna().any()]
        levels = {}
        usual = {}
        for name in columns.categorical:
            column = rows[name].dropna() if columns.may_be_empty(name) else rows[name]
            levels[name] = _levels(column)
            usual[name] = _usual(column)
        predicts_number = has_number_target(rows, columns)
        classes = [] if predicts_number else _classes(rows, columns.target)
        return cls(columns, numbers, gaps, levels, classes, predicts_number, usual)

    def state(self) -> dict[str, object]:
        """Return all that was learnt, as JSON."""
        state: dict[str, object] = {
            "numbers": {name: list(statistics) for name, statistics in self.numbers.items()},
            "gaps": self.gaps,
            "levels": self.levels,
            "classes": self.classes,
        }
        if self.predicts_number:
            state["predicts_number"] = True
        if self.usual is not None:
            state["usual"] = self.usual
        return state

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """Return the encoder that gave this `state`."""
        numbers = {name: Statistics(*values) for name, values in state["numbers"].items()}
        predicts_number = state.get("predicts_number", False)
        return cls(
            columns,
            numbers,
            state["gaps"],
            state["levels"],
            state["classes"],
            predicts_number,
            state.get("usual"),
        )

    @property
    def sizes(self) -> dict[str, int | list[int]]:
        """What a family's constructor may name before its `*`: `numeric`, the number of numeric
        columns; `cardinalities`, the levels per categorical column; `classes`, if rows have labels,
        which is 0 if the target is a number.
        """
        cardinalities = [len(self.levels[name]) for name in self.columns.categorical]
        sizes: dict[str, int | list[int]] = {
            "numeric": len(self.numbers) + len(self.columns.indicators),
            "cardinalities": cardinalities,
        }
        if self.classes or self.predicts_number:
            sizes["classes"] = len(self.classes)
        return sizes

    def encode(self, rows: pd.DataFrame) -> Batch | MeasuredBatch:
        """Return rows in upstream columns as tensors; each row is encoded by itself.

        It is a MeasuredBatch if the conf names columns of errors.
        """
        import torch  # takes two seconds, which pull, validate and prepare need not wait for

        indicators = self.columns.indicators
        numeric = np.empty((len(rows), len(self.numbers) + len(indicators)), np.float32)
        for i, (name, statistics) in enumerate(self.numbers.items()):
            x = rows[name].to_numpy(float)
            empty = np.nan if self.columns.may_be_empty(name) else statistics.median
            filled = np.where(np.isnan(x), empty, x)
            standardised = (filled - statistics.mean) / statistics.std
            numeric[:, i] = np.clip(standardised, -FARTHEST, FARTHEST)
        for i, name in enumerate(indicators, start=len(self.numbers)):
            numeric[:, i] = rows[name].isna()
        categories = np.empty((len(rows), len(self.levels)), np.int64)
        for i, (name, levels) in enumerate(self.levels.items()):
            codes = {level: code for code, level in enumerate(levels, start=1)}
            row_levels = matched(rows[name], levels)
            categories[:, i] = [codes.get(level, UNSEEN) for level in row_levels]
        batch = Batch(
            torch.from_numpy(numeric),
            torch.from_numpy(categories),
            torch.from_numpy(self._target(rows)),
        )
        if not self.columns.errors:
            return batch
        return MeasuredBatch(*batch, torch.from_numpy(self._errors(rows, numeric.shape[1])))

    def _errors(self, rows: pd.DataFrame, width: int) -> np.ndarray:
        """The error of each number in the unit of `encode`, (rows, width) in float32.

        It is 0 where none is named or measured, and in rows to answer, which need not have any.
        """
        errors = np.zeros((len(rows), width), np.float32)
        for i, (name, statistics) in enumerate(self.numbers.items()):
            measured = self.columns.errors.get(name)
            if measured is not None and measured in rows:
                values = np.nan_to_num(rows[measured].to_numpy(float))
                errors[:, i] = np.clip(values / statistics.std, 0, FARTHEST)
        return errors

    def _target(self, rows: pd.DataFrame) -> np.ndarray:
        """The target of each row, (rows,), as Batch describes it."""
        name = self.columns.target
        if self.predicts_number:
            if name not in rows:
                return np.full(len(rows), np.nan)
            return rows[name].to_numpy(np.float64, copy=True)  # torch warns of an array of pandas
        if name is None or name not in rows:
            return np.full(len(rows), -1, np.int64)
        labels = matched(rows[name], self.classes)
        places = pd.Index(self.classes).get_indexer(pd.Index(labels))
        return places.astype(np.int64)

    # --- for baselines and maps, which read numbers alone ---

    def wide(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows as float64 columns, for distances and linear models.

        Numbers are in upstream units, missing ones are the median; an indicator is the column
        `<name> is missing`, and each level of a category the column `<name>=<level>`, of 0 and 1.
        """
        wide: dict[str, pd.Series] = {}
        for name, statistics in self.numbers.items():
            wide[name] = rows[name].astype(float).fillna(statistics.median)
        for name in self.columns.indicators:
            wide[_indicator(name)] = rows[name].isna().astype(float)
        for name, levels in self.levels.items():
            row_levels = matched(rows[name], levels)
            for level in levels:
                if level is None:
                    is_level = row_levels.isna()
                else:
                    is_level = row_levels == level
                wide[f"{name}={level}"] = is_level.astype(float)
        return pd.DataFrame(wide, index=rows.index)

    @property
    def scale(self) -> dict[str, tuple[float, float]]:
        """Low end and span of each column of `wide`; (x - low) / span makes distances comparable.

        A number is scaled by its range in training. The span of a level is sqrt(2): two rows of
        different levels differ in two columns, so they are at distance 1, as the ends of a number.
        """
        scale: dict[str, tuple[float, float]] = {}
        for name, statistics in self.numbers.items():
            scale[name] = (statistics.low, (statistics.high - statistics.low) or 1.0)
        for name in self.columns.indicators:
            scale[_indicator(name)] = (0.0, 1.0)
        for name, levels in self.levels.items():
            for level in levels:
                scale[f"{name}={level}"] = (0.0, 2**0.5)
        return scale

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Return features for baselines, (rows, columns) float64: `wide`, numbers standardised."""
        wide = self.wide(rows)
        for name, statistics in self.numbers.items():
            wide[name] = (wide[name] - statistics.mean) / statistics.std
        return wide.to_numpy(np.float64)

    def countries(self, rows: pd.DataFrame) -> list[str | None]:
        """Return the numeric code of ISO 3166-1 of each row's country; None where it has none."""
        if self.columns.place_column is None:
            return [None] * len(rows)
        return codes(rows[self.columns.place_column])

    # --- input rows ---

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return input rows as `encode` takes them; label, key and ignored columns may be missing.

        A value that a library has typed becomes the learnt level that it means. Raises DataError
        for a missing column, for text or infinity in a numeric column, and for a missing number
        where the conf has `missing: refuse`. Warns of columns that the model does not know, which
        are passed over. `remarks` says what is unusual about a row.
        """
        rows = without_surplus(frame, self.columns.features, self.columns.all)
        if rows.empty:
            raise DataError("no rows to answer; give at least one")
        rows = trimmed(rows, self.columns)
        for name in self.columns.numeric:
            rows[name] = numbers_of(rows[name], name, self.columns)
            if self.columns.missing.get(name) == "refuse":
                check_present(rows[name], name, "a number")
        for name, levels in self.levels.items():
            rows[name] = matched(rows[name], levels)
        target = self.columns.target
        if self.predicts_number and target is not None and target in rows:
            rows[target] = numbers_or_faults(rows[target], self.columns)[0]  # no answer reads it
        return rows.reset_index(drop=True)

    @property
    def named_by(self) -> list[str]:
        """What identifies a row in an answer, if a caller sends it: the key."""
        return [] if self.columns.key is None else [self.columns.key]

    def remarks(self, rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
        """What is unusual about each row, beside the training rows.

        That are a number that lies outside of the range of training by more than its whole span, a
        missing value where training had none, and a category that training did not have. A number
        just outside of the range is common in new rows, and the span adapts to heavy tails.

        Where missing cells stay empty, none is unusual, unless all cells of a row are.
        """
        remarks = Remarks(len(rows))
        for name, statistics in self.numbers.items():
            self._remark_on_number(remarks, rows[name].to_numpy(float), name, statistics)
        for name, levels in self.levels.items():
            learnt = {level for level in levels if level is not None}
            values = rows[name].tolist()
            for row in np.flatnonzero(~rows[name].isin(learnt)):
                if not pd.isna(values[row]):
                    text = f"`{name}` has {values[row]}, which training did not have"
                    if self.columns.may_be_empty(name):
                        text += ": read as an empty cell"
                    remarks.add(row, text)
                elif None not in levels and not self.columns.may_be_empty(name):
                    text = f"`{name}` is missing, and never was in training"
                    remarks.add(row, f"{text}: read as a category that training did not have")
        if self.columns.gaps:
            features = rows[self.columns.features]
            remarks.add_where(features.isna().all(axis=1).to_numpy(), "no cell is known")
        return remarks.texts()

    def _remark_on_number(
        self, remarks: Remarks, x: np.ndarray, name: str, statistics: Statistics
    ) -> None:
        low, high = statistics.low, statistics.high
        span = high - low
        for row in np.flatnonzero((x < low - span) | (x > high + span)):
            text = f"`{name}` is {x[row]:.10g}, far from the {low:.10g} to {high:.10g} of training"
            remarks.add(row, text)
        if name not in self.gaps and not self.columns.may_be_empty(name):
            text = f"`{name}` is missing, and never was in training: read as the median of training"
            remarks.add_where(np.isnan(x), f"{text}, {statistics.median:.10g}")

    @property
    def typical(self) -> dict[str, float | Level] | None:
        """The value of each feature that says nothing of a row: the median, or the most frequent
        level, of training. Where missing cells stay empty, it is an empty cell.

        None if the model was trained by code that did not keep it.
        """
        if self.usual is None:
            return None
        values: dict[str, float | Level] = {}
        for name, statistics in self.numbers.items():
            values[name] = np.nan if self.columns.may_be_empty(name) else statistics.median
        for name in self.levels:
            values[name] = None if self.columns.may_be_empty(name) else self.usual[name]
        return values

    def schema(self) -> list[tuple[str, str, bool]]:
        """Return the input columns: name, MLflow type, and whether it is required.

        A category is `string`, also if its levels are whole numbers. It is the one type of MLflow
        with which a server takes every value: the numbers, truth values and nulls of JSON as they
        are, and the cells of a CSV as they are written. `long` refuses a null and a word before
        this code can answer with a warning, and a signature with `any` refuses every CSV.
        """
        numbers = [(name, "double", True) for name in self.columns.numeric]
        return [*numbers, *[(name, "string", True) for name in self.levels]]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows as MLflow's interface takes them: the columns and types of `schema`."""
        features = {}
        for name in self.columns.numeric:
            features[name] = pd.to_numeric(rows[name]).astype(np.float64)
        for name in self.levels:
            features[name] = texts_of(rows[name])
        return pd.DataFrame(features)

    def example(self) -> pd.DataFrame:
        """Return a synthetic input example: quantiles of numbers, the first levels of categories.

        It is stored with the model, so it must not be made of rows of the data.
        """
        rows: dict[str, list[float] | list[str]] = {}
        for name, statistics in self.numbers.items():
            quantiles = (statistics.q10, statistics.median, statistics.q90)
            rows[name] = [round(quantile, 4) for quantile in quantiles]
        for name, levels in self.levels.items():
            present = [level for level in levels if level is not None] or [""]
            rows[name] = [present[i % len(present)] for i in range(EXAMPLES)]
        return self.inputs(pd.DataFrame(rows))


# --- statistics of one training column ----------------------------------------------------------


def _statistics(column: pd.Series) -> Statistics:
    x = column.to_numpy(float)
    x = x[~np.isnan(x)]
    values = [x.mean(), x.std() or 1.0, *np.quantile(x, (0.1, 0.5, 0.9)), x.min(), x.max()]
    return Statistics(*map(float, values))


def _classes(rows: pd.DataFrame, target: str | None) -> list[str]:
    """The labels, sorted as text."""
    if target is None:
        return []
    return sorted(set(texts_of(rows[target]).dropna()))


def _indicator(name: str) -> str:
    """The column of `wide` that says where a number is missing."""
    return f"{name} is missing"


def _usual(column: pd.Series) -> Level:
    """The most frequent level; of several, the first in sorted order, and a missing one last."""
    counts = texts_of(column).value_counts(dropna=False)
    most = counts[counts == counts.max()].index
    return min((None if pd.isna(level) else str(level) for level in most), key=_missing_last)


def _missing_last(level: Level) -> tuple[bool, str]:
    return level is None, level or ""


def _levels(column: pd.Series) -> list[Level]:
    row_levels = texts_of(column)
    levels: list[Level] = sorted(set(row_levels.dropna()))
    if row_levels.isna().any():
        levels.append(None)
    return levels
