"""Slices of the gate part: the rows of one value of a column, and the scores of two models there.

A slice is scored by the Sample of the compared metric, whose weights are 1 for the rows of the
slice and 0 for all others. So every metric that the gate compares has a score in each slice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .kinds.parts import CONTEXT, scored

if TYPE_CHECKING:
    import pandas as pd

    from .config import Slice
    from .intervals import Sample

CLASS = "class"
ACTIVITY = "activity"
FEW_VALUES = 12  # a column of more different numbers is cut into quarters


class Columns(Protocol):
    """What slices read of the block `columns`, where a kind has it."""

    target: str | None
    user: str


@dataclass(frozen=True)
class SliceScore:
    """The scores of challenger and champion on the rows of one slice."""

    by: str
    value: str
    rows: int
    floor: float
    challenger: float
    champion: float

    def is_worse(self, direction: str) -> bool:
        """Whether the challenger is worse than the champion by more than the floor allows."""
        sign = 1 if direction == "up" else -1
        return sign * (self.champion - self.challenger) > self.floor

    def sentence(self, metric: str) -> str:
        """The scores in words."""
        return (
            f"in the slice {self.by} {self.value} ({self.rows:,} rows) {metric} is"
            f" {self.challenger:.4f} where the champion has {self.champion:.4f}, worse by more than"
            f" the floor {self.floor:g}"
        )

    def record(self) -> dict[str, object]:
        """What a decision records of the slice."""
        return {
            "slice": f"{self.by} {self.value}",
            "rows": self.rows,
            "challenger": round(self.challenger, 9),
            "champion": round(self.champion, 9),
            "floor": self.floor,
        }


def compare(
    slices: "Sequence[Slice]",
    gate: "pd.DataFrame",
    columns: Columns,
    challenger: "Sample",
    champion: "Sample",
) -> list[SliceScore]:
    """The scores of both in each slice that has enough rows, in the order of conf.

    A slice whose score is not defined, such as the AUC of a single class, is left out.
    """
    compared = []
    for entry in slices:
        values = labels(gate, columns, entry.by)
        for value in sorted(set(values)):
            is_inside = values == value
            weights = _weights(is_inside, len(challenger.groups))
            scores = challenger.score(weights), champion.score(weights)
            rows = int(is_inside.sum())
            if rows >= entry.rows and all(map(math.isfinite, scores)):
                compared.append(SliceScore(entry.by, str(value), rows, entry.floor, *scores))
    return compared


def _weights(is_inside: np.ndarray, answers: int) -> np.ndarray:
    """The weight of each answer; those after the rows belong to synthetic rows, and stay."""
    weights = np.ones(answers)
    weights[: len(is_inside)] = is_inside
    return weights


def labels(gate: "pd.DataFrame", columns: Columns, by: str) -> np.ndarray:
    """The slice of each row that is scored, as text, (rows)."""
    rows = scored(gate)
    if by == ACTIVITY:
        known = gate[gate[CONTEXT]].groupby(columns.user).size()
        return _texts(rows[columns.user].map(known).fillna(0))
    return _texts(rows[str(columns.target)] if by == CLASS else rows[by])


def _texts(column: "pd.Series") -> np.ndarray:
    """The values of a column as text; many different numbers as the quarter that they are in."""
    if column.dtype.kind not in "iuf" or column.nunique() <= FEW_VALUES:
        return column.astype("str").fillna("missing").to_numpy(str)
    numbers = column.to_numpy(np.float64)
    edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)]
    place = np.clip(np.searchsorted(edges, numbers, side="left") - 1, 0, len(names) - 1)
    return np.where(np.isnan(numbers), "missing", np.array(names)[place])
