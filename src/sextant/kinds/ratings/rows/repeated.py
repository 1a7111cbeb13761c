"""What is rated twice: the rating that stays, by the rule that conf names."""

from datetime import datetime

import numpy as np
import pandas as pd

from ....errors import DataError
from ...formats import Format
from ...numbers import numbers_or_faults
from ...tables import first_place
from ..columns import Columns
from .stars import stars_of


def single(rows: pd.DataFrame, columns: Columns, counts: dict[str, int]) -> pd.DataFrame:
    """One rating of each pair (user, item), by the rule of the conf; rows stay in their order."""
    pair = [columns.user, columns.item]
    rated = rows[rows[columns.rating].notna()]
    is_repeated = rated.duplicated(pair, keep=False)
    if columns.repeated == "refuse" or not is_repeated.any():
        return rows
    # By position, because several rows may have one line: those of a matrix.
    positions = np.flatnonzero(rows[columns.rating].notna())[is_repeated.to_numpy()]
    if columns.repeated == "mean":
        rows = _with_means(rows, positions, columns)
    if columns.time is not None and columns.time in rows:
        # Only the order by time within a pair matters; equal times stay in the order of the files.
        times = _times(rows[columns.time].iloc[positions])
        positions = positions[np.argsort(times, kind="stable")]
    keep = "last" if columns.repeated == "last" else "first"
    is_surplus = np.zeros(len(rows), bool)
    is_surplus[positions] = rows.iloc[positions].duplicated(pair, keep=keep)
    add_count(counts, "ratings of a pair that has another", int(is_surplus.sum()))
    return rows[~is_surplus]


def _with_means(rows: pd.DataFrame, positions: np.ndarray, columns: Columns) -> pd.DataFrame:
    """The ratings at `positions` replaced by the value that is nearest to the mean of their pair.

    Of two values that are equally near it is the lower one. Raises DataError for a rating that is
    not one of `values`.
    """
    repeated = rows.iloc[positions]
    stars = stars_of(repeated[columns.rating], columns, allow_missing=False)
    keys = [repeated[columns.user], repeated[columns.item]]
    means = stars.groupby(keys).transform("mean").to_numpy()
    values = np.asarray(columns.values)
    # In pieces of a pair each, since a scale may be long. Rounded, because a mean may miss the
    # middle of two values by a rounding error.
    nearest = [values[np.abs(values - mean).round(9).argmin()] for mean in means]
    replaced = rows[columns.rating].astype(object).to_numpy().copy()
    replaced[positions] = nearest
    return rows.assign(**{columns.rating: pd.Series(replaced, index=rows.index, dtype=object)})


def _times(column: pd.Series) -> np.ndarray:
    """Times as numbers, (rows,): from numbers, or from dates and times in ISO 8601."""
    numbers, is_wrong = numbers_or_faults(column, Format())
    seconds = numbers.to_numpy().copy()
    for row in np.flatnonzero(is_wrong):
        seconds[row] = _seconds(column.iloc[row])
    unknown = np.isnan(seconds)
    if unknown.any() or (is_wrong.any() and not is_wrong.all()):
        wrong = unknown if unknown.any() else ~is_wrong
        value = column.iloc[int(wrong.argmax())]
        raise DataError(
            f"{first_place(column, wrong)} has {value!r} in `{column.name}`; expected the time of a"
            " rating in Unix seconds, or all in ISO 8601; correct the row"
        )
    return seconds


def _seconds(value: object) -> float:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return float("nan")
    return time.timestamp() if time.tzinfo else (time - datetime(1970, 1, 1)).total_seconds()


def add_count(counts: dict[str, int], reason: str, rows: int) -> None:
    """Add a number of rows that are left out, unless it is 0, to those of its reason."""
    if rows:
        counts[reason] = counts.get(reason, 0) + rows
