"""A summary of the training rows, with which later rows are compared: reference.json.

Prepare writes it beside the parts, and it travels with the registered model. It has quantiles of
numbers and counts of categories, and no row. What is summarised, the kind says: the columns of a
table, the brightness of pictures, the returns of a series.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias, TypedDict

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FILE = "reference.json"
# Of a column of numbers. Between two points its distribution is taken for linear, which errs by
# less than 1/64; a column of fewer different numbers is summarised exactly.
POINTS = 64
LEVELS = 200  # of a category, the most frequent ones
QUANTITIES = 500  # of a data set, the first ones: a table may have thousands of columns


class Numbers(TypedDict):
    """The distribution of a number: how many rows are below each point, and up to it."""

    rows: int
    missing: int
    points: list[float]
    below: list[int]
    upto: list[int]


class Categories(TypedDict):
    """The distribution of a category: rows by level, and of all levels that are not listed."""

    rows: int
    missing: int
    counts: dict[str, int]
    other: int


Summary: TypeAlias = Numbers | Categories
Reference: TypeAlias = Mapping[str, Summary]


def summary(quantities: "Mapping[str, pd.Series]") -> dict[str, Summary]:
    """The summaries of quantities by name: of numbers, or of text, which are categories."""
    summaries: dict[str, Summary] = {}
    for name, values in list(quantities.items())[:QUANTITIES]:
        is_number = values.dtype.kind in "iuf"
        summaries[str(name)] = numbers(values) if is_number else categories(values)
    return summaries


def numbers(values: "pd.Series") -> Numbers:
    """The summary of numbers; NaN is missing."""
    present = np.sort(values.to_numpy(np.float64, na_value=np.nan))
    present = present[~np.isnan(present)]
    points = np.unique(present)
    if len(points) > POINTS:
        # Values that occur, so that a value that many rows have, such as 0, is a point.
        shares = np.linspace(0, 1, POINTS)
        points = np.unique(np.quantile(present, shares, method="inverted_cdf"))
    return Numbers(
        rows=len(values),
        missing=len(values) - len(present),
        points=points.tolist(),
        below=np.searchsorted(present, points, side="left").tolist(),
        upto=np.searchsorted(present, points, side="right").tolist(),
    )


def categories(values: "pd.Series") -> Categories:
    """The summary of categories, as text; the most frequent first, equally frequent ones sorted."""
    present = values.dropna().astype("str")
    counts = present.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    frequent = counts.iloc[:LEVELS]
    return Categories(
        rows=len(values),
        missing=len(values) - len(present),
        counts={str(level): int(count) for level, count in frequent.items()},
        other=int(counts.iloc[LEVELS:].sum()),
    )
