"""The table of ratings for the expectations, and an expectation of every set of ratings."""

from typing import Literal

import numpy as np
import pandas as pd

from ...numbers import numbers_or_faults
from ...tables import Finding
from ..columns import Columns
from .identifiers import is_whole
from .reading import SHOWN, Raw

SEVERAL = 0.1  # a larger share of ratings of unlisted items is a failed `warning`, not an `info`


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Every rating with the title of its film or none, for the expectations."""
    titles = raw.items.drop_duplicates(columns.item).set_index(columns.item)[columns.title]
    rows = typed_rows(raw.ratings.drop(columns="test"), columns)
    rows = rows.assign(**{columns.title: raw.ratings[columns.item].map(titles)})
    return rows[columns.all]


def typed_rows(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The rows with numbers in the columns that have nothing else; ids are whole numbers or text.

    A rating that is no number leaves its column as text, so that the expectations report it.
    """
    typed = {}
    for name in rows.columns:
        column = rows[name]
        if name in (columns.user, columns.item):
            all_whole = all(is_whole(text) for text in column.unique())
            typed[name] = column.astype(np.int64) if all_whole else column
        elif name != columns.title and column.dtype.kind != "b":
            typed[name] = _as_numbers(column, columns)
    return rows.assign(**typed)


def _as_numbers(column: pd.Series, columns: Columns) -> pd.Series:
    """A column as int64 or float64 if each of its values is a number, otherwise as it is."""
    numbers, is_wrong = numbers_or_faults(column, columns.ratings)
    if is_wrong.any() or numbers.isna().all():
        return column
    texts = column.dropna().astype("str")
    is_whole = texts.str.fullmatch(r"-?\d+").all() and not column.isna().any()
    return numbers.astype(np.int64) if is_whole else numbers


def findings(raw: Raw, columns: Columns) -> list[Finding]:
    """An expectation of every set with a catalogue: it has the films that are rated."""
    if columns.items_file is None:
        return []
    unlisted = int(raw.ratings[columns.item].isin(raw.unlisted).sum())
    severity: Literal["warning", "info"] = "info"
    if unlisted > SEVERAL * len(raw.ratings):
        severity = "warning"
    return [
        Finding(
            expectation="expect_rated_items_to_be_listed",
            kwargs={"file": columns.items_file},
            severity=severity,
            unit="ratings",
            checked=len(raw.ratings),
            unexpected=unlisted,
            examples=raw.unlisted[:SHOWN],
            why="what the catalogue lacks is kept with its id as title; `unlisted` says otherwise",
        )
    ]
