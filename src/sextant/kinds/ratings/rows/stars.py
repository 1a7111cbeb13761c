"""Ratings as numbers on the scale that conf names."""

import pandas as pd

from ....errors import DataError
from ...numbers import numbers_or_faults
from ...tables import first_place
from ..columns import Columns

LISTED_VALUES = 20  # a longer scale is named by its ends


def checked_ratings(
    ratings: pd.DataFrame, columns: Columns, allow_missing: bool = False
) -> pd.DataFrame:
    """Rows with float64 ratings; with `allow_missing`, a rating may be missing.

    Raises DataError for a rating that is not one of `values`, and a pair (user, item) that occurs
    twice.
    """
    rows = ratings.copy()
    rows[columns.rating] = stars_of(ratings[columns.rating], columns, allow_missing)
    repeated = rows.duplicated([columns.user, columns.item]).to_numpy()
    if repeated.any():
        user, item = rows.loc[repeated, [columns.user, columns.item]].iloc[0]
        raise DataError(
            f"{first_place(rows, repeated)} repeats {columns.user} {user}, {columns.item} {item};"
            " keep one row, or say in `repeated` in the conf which rating stays"
        )
    return rows


def stars_of(column: pd.Series, columns: Columns, allow_missing: bool) -> pd.Series:
    """Ratings as float64; NaN for missing ones, if these are allowed.

    Raises DataError for one that is not on the scale, or missing.
    """
    stars, _ = numbers_or_faults(column, columns.ratings)
    missing = column.isna().to_numpy()
    if allow_missing:
        missing = missing | stars.isin(columns.unrated).to_numpy()
        stars = stars.mask(missing)
    elif missing.any():
        raise DataError(
            f"{first_place(column, missing)} has no `{columns.rating}`; expected one of"
            f" {_scale(columns)}; correct the row, or name the mark of such rows in `unknown`"
        )
    wrong = ~stars.isin(columns.values).to_numpy() & ~missing
    if wrong.any():
        raise DataError(
            f"{first_place(column, wrong)} has `{columns.rating}`"
            f" {column.iloc[int(wrong.argmax())]}; expected one of {_scale(columns)}; correct the"
            " row"
        )
    return stars


def _scale(columns: Columns) -> str:
    """The values of the scale for a message."""
    values = [f"{value:g}" for value in columns.values]
    if len(values) > LISTED_VALUES:
        return f"{len(values):,} values from {values[0]} to {values[-1]}"
    return ", ".join(values)
