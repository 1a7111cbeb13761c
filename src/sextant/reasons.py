"""Why this answer: the columns of a table that moved it most, each with its share.

The effect of a column is the difference between the answer and the one to the same row with that
column at a value that says nothing of it: the median of training, the most frequent level, or an
empty cell where the model takes one. Source: Robnik-Sikonja and Kononenko, "Explaining
Classifications for Individual Instances", IEEE TKDE 20, 2008, with one such value instead of the
mean over all values. It takes as many further rows as the table has columns, for any family.

Columns that carry the same information hide each other: the answer hardly changes without one,
because the other is still there.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

SHOWN_COLUMNS = 3
ROWS_AT_ONCE = 4096  # rows that are answered in one call


class Question(NamedTuple):
    """Checked rows, their answers, and the value of each column that says nothing."""

    rows: pd.DataFrame
    answers: pd.DataFrame
    typical: Mapping[str, float | str | None]


def reasons(
    question: Question,
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    number: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray],
) -> pd.DataFrame:
    """Return `because_1`, `share_1`, ... for each row, the largest effect first.

    `number(answers, base)` is the number of each answer that is explained, where `base` are the
    answers to the rows as they are. The share is the effect of a column divided by the sum of the
    absolute effects of all: it is positive if the column raised the number, and negative if it
    lowered it. A column without an effect is not named; then its share is 0.
    """
    parts = []
    size = max(1, ROWS_AT_ONCE // len(question.typical))
    for start in range(0, len(question.rows), size):
        chunk = slice(start, start + size)
        part = Question(question.rows.iloc[chunk], question.answers.iloc[chunk], question.typical)
        parts.append(effects(part, answer, number))
    return as_columns(np.concatenate(parts), list(question.typical))


def effects(
    question: Question,
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    number: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray],
) -> np.ndarray:
    """Return the effect of each column on each row's number, (rows, columns) in float64."""
    rows, base, typical = question
    without = []
    is_typical = np.empty((len(rows), len(typical)), bool)
    for place, (name, value) in enumerate(typical.items()):
        column = rows[name]
        filler = pd.Series([value] * len(rows), index=rows.index, dtype=column.dtype)
        is_typical[:, place] = (column == filler) | (column.isna() & filler.isna())
        without.append(rows.assign(**{name: filler}))
    answers = answer(pd.concat(without, ignore_index=True))
    repeated = pd.concat([base] * len(typical), ignore_index=True)
    others = number(answers, repeated).reshape(len(typical), len(rows)).T
    difference = number(base, base)[:, None] - others
    # Of equal rows in batches of other sizes, the last digits differ.
    return np.where(is_typical, 0.0, difference)


def as_columns(effect: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return the largest effects of each row, (rows, columns), by name and share."""
    total = np.abs(effect).sum(1, keepdims=True)
    share = np.divide(effect, total, out=np.zeros_like(effect), where=total > 0)
    order = np.argsort(-np.abs(share), axis=1, kind="stable")
    labels = np.array([*names, ""], object)
    columns: dict[str, pd.Series | np.ndarray] = {}
    for rank in range(min(SHOWN_COLUMNS, len(names))):
        place = order[:, rank]
        of_rank = share[np.arange(len(share)), place]
        place = np.where(of_rank == 0, len(names), place)
        columns[f"because_{rank + 1}"] = pd.Series(labels[place], dtype="str")
        columns[f"share_{rank + 1}"] = of_rank
    return pd.DataFrame(columns)
