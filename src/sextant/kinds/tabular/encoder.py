"""Rows of a table as tensors."""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
from ..parts import first_row
from .columns import Columns
from .rows import class_labels, to_levels, to_numbers

UNSEEN = 0  # the code of a category that training did not meet; its embedding stays at zero


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
            name: sorted(set(to_levels(rows[name])), key=lambda v: (v is None, v))
            for name in columns.categorical
        }
        return cls(columns, numbers, gaps, levels, class_labels(rows, columns))

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
            categories[:, i] = [codes.get(level, UNSEEN) for level in to_levels(rows[name])]
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
            given = to_levels(rows[name])
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
            rows[name] = to_numbers(rows[name], name)
            if name not in self.gaps and rows[name].isna().any():
                raise DataError(
                    f"row {first_row(rows[name].isna())} has no `{name}`; expected a number; correct the row"
                )
        for name, levels in self.levels.items():
            rows[name] = to_levels(rows[name])
            if None in set(rows[name]) and None not in levels:
                raise DataError(
                    f"row {first_row(rows[name].isna())} has no `{name}`; expected one of {_some(levels)}"
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

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
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
        return self.inputs(pd.DataFrame(rows))


def _some(levels: list[Any]) -> str:
    shown = [str(level) for level in levels[:8]]
    return ", ".join(shown) + (", …" if len(levels) > len(shown) else "")


def _type(levels: list[Any]) -> str:
    """The MLflow type of a category: whole numbers are asked as such, as floats where some are missing."""
    known = [level for level in levels if level is not None]
    if all(level.removeprefix("-").isdecimal() and str(int(level)) == level for level in known):
        return "long" if len(known) == len(levels) else "double"
    return "string"
