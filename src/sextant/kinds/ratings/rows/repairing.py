"""Rows of ratings repaired: typed, checked against the catalogue, and with it as an attribute."""

import json

import pandas as pd

from ....errors import DataError
from ...tables import first_place
from ..columns import Columns
from .catalogues import CATALOGUE, UNLISTED, Catalogue
from .facts import typed_rows
from .identifiers import as_ids, typed_ids
from .reading import Raw
from .stars import checked_ratings


def repair(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Ratings with ids and float64 stars, and with the catalogue as an attribute.

    Raises DataError for a film or user that is listed twice, a film without a title, a rating that
    is not one of `values`, a pair that is rated twice, and a rating of a film or by a user that the
    catalogue lacks.
    """
    _check_catalogue(raw, columns)
    rows = checked_ratings(raw.ratings, columns)
    _check_membership(rows[columns.item], raw.items, columns.items_file)
    _check_membership(rows[columns.user], raw.users, columns.users_file)
    lists = Catalogue(
        items=as_ids(raw.items[columns.item]),
        titles=raw.items[columns.title].astype(str).tolist(),
        users=as_ids(raw.users[columns.user]),
    )
    stars = rows[columns.rating]
    rows = typed_rows(rows, columns).assign(
        **{
            columns.user: typed_ids(rows[columns.user], lists["users"]),
            columns.item: typed_ids(rows[columns.item], lists["items"]),
            columns.rating: stars,
        }
    )
    rows = rows.reset_index(drop=True)
    rows.attrs[CATALOGUE] = json.dumps(lists)
    if raw.unlisted:
        rows.attrs[UNLISTED] = len(raw.unlisted)
    return rows


def _check_catalogue(raw: Raw, columns: Columns) -> None:
    _check_unique(raw.items[columns.item])
    _check_unique(raw.users[columns.user])
    titles = raw.items[columns.title]
    untitled = titles.isna() | (titles.astype(str).str.strip() == "")
    if untitled.any():
        item = raw.items.loc[untitled, columns.item].iloc[0]
        raise DataError(
            f"{columns.items_file}: {columns.item} {item} has no `{columns.title}`; add one"
            " (MovieLens writes `unknown`)"
        )


def _check_unique(listed: pd.Series) -> None:
    repeated = listed.duplicated().to_numpy()
    if repeated.any():
        value = listed.iloc[int(repeated.argmax())]
        raise DataError(
            f"{first_place(listed, repeated)} lists `{listed.name}` {value} for a second time; keep"
            " one line"
        )


def _check_membership(column: pd.Series, listed: pd.DataFrame, file: str | None) -> None:
    unlisted = ~column.isin(listed[column.name]).to_numpy()
    if unlisted.any():
        raise DataError(
            f"{first_place(column, unlisted)} has `{column.name}`"
            f" {column.iloc[int(unlisted.argmax())]}, which {file} lacks; add it there, or remove"
            " the row"
        )
