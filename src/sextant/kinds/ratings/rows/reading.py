"""The ratings of the files, with the lists of items and users."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ....errors import DataError
from ...formats import FILE, LINE, Format, read_table
from ...numbers import numbers_or_faults
from ...tables import check_columns
from ..columns import Columns
from .identifiers import ids, sorted_ids
from .repeated import add_count, single

SHOWN = 3  # ids or values in a message


class Raw(NamedTuple):
    """The raw files as frames, with ids as text.

    `ratings` has a column `test`, true in rows of `test_files`. `items` and `users` also have those
    of the ratings that no file lists; `unlisted` are such items. `left_out` counts the rows that
    are not in `ratings`, by the reason.
    """

    ratings: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    unlisted: list[str]
    left_out: dict[str, int]


def read(folder: Path, columns: Columns) -> Raw:
    """Ratings, films and users, without the rows that a rule of the conf leaves out.

    Raises DataError for a file that is missing, empty or not in its format, and for a row that
    lacks an id.
    """
    counts: dict[str, int] = {}
    items = _read_items(folder, columns, counts)
    users = _read_users(folder, columns, counts)
    rows = _read_all_ratings(folder, columns, counts)
    listed_users = None if users is None else users[columns.user]
    listed_items = None if items is None else items[columns.item]
    read_ids = {
        columns.user: ids(rows[columns.user], listed_users),
        columns.item: ids(rows[columns.item], listed_items),
    }
    rows = rows.assign(**read_ids)
    # Every column of a matrix is an item, also one that nobody has rated.
    in_matrix = set(rows[columns.item]) if columns.ratings.layout == "matrix" else set()
    rows = single(
        _listed(rated_rows(rows, columns, counts), items, columns, counts), columns, counts
    )
    if users is None:
        users = pd.DataFrame({columns.user: sorted_ids(set(rows[columns.user]))}, dtype=object)
    if items is None:
        unlisted = sorted_ids(in_matrix | set(rows[columns.item]))
        return Raw(rows, _titled_by_id(unlisted, columns), users, [], counts)
    if columns.unlisted != "keep":
        return Raw(rows, items, users, [], counts)
    unlisted = sorted_ids((in_matrix | set(rows[columns.item])) - set(items[columns.item]))
    return Raw(rows, _with_unlisted(items, unlisted, columns), users, unlisted, counts)


def _read_all_ratings(folder: Path, columns: Columns, counts: dict[str, int]) -> pd.DataFrame:
    """The rows of all files of ratings; the column `test` says whether a row is of `test_files`."""
    tables: list[pd.DataFrame] = []
    for file in [*columns.files, *columns.test_files]:
        first_user = 1 + sum(table[columns.user].nunique() for table in tables)
        rows = _read_ratings(folder / file, columns, counts, first_user)
        tables.append(rows.assign(test=file in columns.test_files))
    return pd.concat(tables)


def _read_items(folder: Path, columns: Columns, counts: dict[str, int]) -> pd.DataFrame | None:
    if columns.items_file is None:
        return None
    needed = [columns.item, columns.title]
    return _read_list(folder / columns.items_file, columns.items.as_written, needed, counts)


def _read_users(folder: Path, columns: Columns, counts: dict[str, int]) -> pd.DataFrame | None:
    # The users may also be listed by a file of ratings, which has each of them many times.
    if columns.users_file is None or columns.users_file in columns.files:
        return None
    form = columns.users.as_written
    return _read_list(folder / columns.users_file, form, [columns.user], counts)


def _listed(
    rows: pd.DataFrame, items: pd.DataFrame | None, columns: Columns, counts: dict[str, int]
) -> pd.DataFrame:
    """The rows whose items are listed, if the conf leaves out the others; otherwise all."""
    if items is None:
        return rows
    _check_joined(rows[columns.item], items[columns.item], str(columns.items_file))
    if columns.unlisted != "leave_out":
        return rows
    is_listed = rows[columns.item].isin(items[columns.item])
    add_count(counts, f"ratings of items that {columns.items_file} lacks", int((~is_listed).sum()))
    return rows[is_listed]


def _check_joined(rated: pd.Series, listed: pd.Series, file: str) -> None:
    """Raise DataError if no rated item is listed: the ids of the files are written differently."""
    if len(rated) and len(listed) and not rated.isin(listed).any():
        raise DataError(
            f"{file} lists none of the rated items: it has {_examples(listed)} in `{listed.name}`,"
            f" and the ratings have {_examples(rated)}; expected the same ids in both"
        )


def _examples(column: pd.Series) -> str:
    values = [str(value) for value in column.unique()[:SHOWN]]
    return ", ".join(values)


def passed_over(raw: Raw) -> dict[str, int]:
    """How many rows `read` left out, by the reason."""
    return raw.left_out


def _read_ratings(
    path: Path, columns: Columns, counts: dict[str, int], first_user: int
) -> pd.DataFrame:
    if not path.exists():
        raise DataError(f"{path} does not exist; run `make pull`")
    rows, empty = read_table(path, columns.ratings.as_written, columns.needed)
    add_count(counts, "empty rows", empty)
    if columns.ratings.layout == "matrix":
        return from_matrix(rows, columns, first_user)
    needed = list(columns.needed)
    if columns.time is not None:
        needed.append(columns.time)
    check_columns(rows, needed, path.name)
    return rows


def _read_list(
    path: Path, form: Format, needed: Sequence[str], counts: dict[str, int]
) -> pd.DataFrame:
    """A file of items or users, whose ids are in the first of the `needed` columns."""
    if not path.exists():
        raise DataError(f"{path} does not exist; run `make pull`")
    rows, empty = read_table(path, form, needed)
    add_count(counts, f"empty rows of {path.name}", empty)
    check_columns(rows, needed, path.name)
    return rows.assign(**{needed[0]: ids(rows[needed[0]])})


def from_matrix(rows: pd.DataFrame, columns: Columns, first_user: int = 1) -> pd.DataFrame:
    """One row per cell of a matrix of users by items.

    The users are in the column `user`, or in a first column without a name; without such a column
    they are numbered from `first_user` on.
    """
    names = [str(name) for name in rows.columns]
    user_name = None
    if columns.user in names:
        user_name = columns.user
    elif names[0] == "Unnamed: 0":
        user_name = names[0]
    not_items = {user_name, *columns.ratings.ignored}
    item_names = [name for name in names if name not in not_items]
    users = [str(number) for number in range(first_user, first_user + len(rows))]
    if user_name is not None:
        users = ids(rows[user_name].rename(columns.user)).tolist()
    return pd.DataFrame(
        {
            columns.user: np.repeat(np.asarray(users, object), len(item_names)),
            columns.item: np.tile(np.asarray(item_names, object), len(rows)),
            columns.rating: rows[item_names].to_numpy(object).ravel(),
        },
        index=rows.index.repeat(len(item_names)),
    )


def rated_rows(rows: pd.DataFrame, columns: Columns, counts: dict[str, int]) -> pd.DataFrame:
    """The rows without those whose rating means that there is none."""
    is_matrix = columns.ratings.layout == "matrix"
    if is_matrix:
        rows = rows[rows[columns.rating].notna()]
    if columns.unrated:
        stars, _ = numbers_or_faults(rows[columns.rating], columns.ratings)
        for value in columns.unrated:
            is_none = int((stars == value).sum())
            add_count(counts, f"ratings of {value:g}, which mean none", is_none)
        rows = rows[~stars.isin(columns.unrated)]
    if columns.ratings.unknown and not is_matrix:
        is_missing = rows[columns.rating].isna()
        add_count(counts, "rows without a rating", int(is_missing.sum()))
        rows = rows[~is_missing]
    return rows


def _titled_by_id(unlisted: Sequence[str], columns: Columns) -> pd.DataFrame:
    """Items that no file lists, whose title is their id."""
    return pd.DataFrame({columns.item: unlisted, columns.title: unlisted}, dtype=object)


def _with_unlisted(items: pd.DataFrame, unlisted: Sequence[str], columns: Columns) -> pd.DataFrame:
    """The listed items, followed by the others."""
    if not unlisted:
        return items
    further = _titled_by_id(unlisted, columns)
    files = [str(columns.items_file)] * len(unlisted)
    further.index = pd.MultiIndex.from_arrays([files, [0] * len(unlisted)], names=[FILE, LINE])
    return pd.concat([items, further])
