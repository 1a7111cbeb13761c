"""Ratings as rows: read, repaired, split into four parts, and written.

A row with a rating is known to the model; a row without one asks for that film. Parts and input
rows have the same form: a part other than train contains the known ratings of its users, all from
train and marked in the column `context`, followed by the rows that are scored, whose stars are in
`target` and not in the rating.

The catalogue (all films with their titles, all users) belongs to all rows and travels as an
attribute of the frame. So the sizes of a net follow from the catalogue, not from the rows of a
part.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd

from ...errors import DataError, describe
from ..parts import CONTEXT, PARTS, first_row, scored
from ..splits import SEPARATOR, HashSplit, parts_by_hash
from ..tables import check_columns
from .columns import Columns, Table

TARGET = "target"  # the column of the stars to predict
CATALOGUE = "catalogue"  # the attribute of a frame with the Catalogue as JSON


class Raw(NamedTuple):
    """The raw files as frames. `ratings` has a column `test`, true in rows of `test_files`."""

    ratings: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame


class Catalogue(TypedDict):
    """All films with their titles, and all users, in the order of their files."""

    items: list[int]
    titles: list[str]
    users: list[int]


# --- read ---------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> Raw:
    """Ratings, films and users; raises DataError for a missing, empty or unreadable file."""
    ratings = []
    for file in columns.files:
        rows = _read_file(folder / file, columns.ratings, columns.needed)
        ratings.append(rows.assign(test=False))
    for file in columns.test_files:
        rows = _read_file(folder / file, columns.ratings, columns.needed)
        ratings.append(rows.assign(test=True))
    items_needed = [columns.item, columns.title]
    return Raw(
        ratings=pd.concat(ratings, ignore_index=True),
        items=_read_file(folder / columns.items_file, columns.items, items_needed),
        users=_read_file(folder / columns.users_file, columns.users, [columns.user]),
    )


def _read_file(path: Path, table: Table, needed: list[str]) -> pd.DataFrame:
    text = _decoded(path, table.encoding)
    if not text.strip():
        raise DataError(f"{path.name} is empty; expected {', '.join(needed)}")
    rows = _parsed(text, table, path.name)
    check_columns(rows, needed, path.name)
    return rows


def _decoded(path: Path, encoding: str) -> str:
    try:
        return path.read_bytes().decode(encoding)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `make pull`") from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{path.name} is not {encoding}: byte 0x{byte:02x} at {error.start:,}; set its encoding"
            " in the conf (MovieLens uses latin-1)"
        ) from None


def _parsed(text: str, table: Table, file: str) -> pd.DataFrame:
    delimiter = table.delimiter
    if len(delimiter) > 1:
        # pandas takes a delimiter of several characters as a regular expression, with a slow
        # parser.
        text = text.replace(delimiter, SEPARATOR)
        delimiter = SEPARATOR
    # Files without a header are not CSV: a title may begin with a quotation mark, which would
    # otherwise swallow all lines up to the next one.
    try:
        return pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=None if table.names else "infer",
            names=table.names,
            usecols=range(len(table.names)) if table.names else None,
            quoting=csv.QUOTE_NONE if table.names else csv.QUOTE_MINIMAL,
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(
            f"{file} is not a table with delimiter {table.delimiter!r}: {describe(error)}; correct"
            " it, or name another file"
        ) from None


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Input rows: CSV with a header, Parquet, JSON records, or ratings in the upstream format.

    Raises DataError for a file that is missing or not a table.
    """
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            return pd.read_json(path, orient="records")
        if path.suffix == ".csv":
            return pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a file of ratings") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError) as error:
        raise DataError(
            f"{path.name} is not a table: {describe(error)}; expected {', '.join(columns.needed)}"
        ) from None
    return _read_file(path, columns.ratings, columns.needed)


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Every rating with the title of its film or none, for the expectations."""
    titles = raw.items.drop_duplicates(columns.item).set_index(columns.item)[columns.title]
    rows: pd.DataFrame = raw.ratings.drop(columns="test")
    rows = rows.assign(**{columns.title: rows[columns.item].map(titles)})
    return rows[columns.all]


# --- repair -------------------------------------------------------------------------------------


def repair(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Ratings with integer ids and float64 stars, and with the catalogue as an attribute.

    Raises DataError for an id that is not a positive integer, a film or user that is listed
    twice, a film without a title, a rating that is not one of `values`, a pair that is rated
    twice, and a rating of a film or by a user that the catalogue lacks.
    """
    _check_catalogue(raw, columns)
    rows = checked_ratings(raw.ratings, columns)
    _check_membership(rows[columns.item], raw.items, columns.items_file)
    _check_membership(rows[columns.user], raw.users, columns.users_file)
    lists = Catalogue(
        items=raw.items[columns.item].astype(int).tolist(),
        titles=raw.items[columns.title].astype(str).tolist(),
        users=raw.users[columns.user].astype(int).tolist(),
    )
    rows.attrs[CATALOGUE] = json.dumps(lists)
    return rows


def _check_catalogue(raw: Raw, columns: Columns) -> None:
    _check_unique_ids(raw.items[columns.item], columns.items_file)
    _check_unique_ids(raw.users[columns.user], columns.users_file)
    titles = raw.items[columns.title]
    untitled = titles.isna() | (titles.astype(str).str.strip() == "")
    if untitled.any():
        item = raw.items.loc[untitled, columns.item].iloc[0]
        raise DataError(
            f"{columns.items_file}: {columns.item} {item} has no `{columns.title}`; add one"
            " (MovieLens writes `unknown`)"
        )


def _check_unique_ids(column: pd.Series, file: str) -> None:
    ids = _ids(column, file)
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise DataError(f"{file} lists `{column.name}` {repeated.iloc[0]} twice; keep one line")


def _check_membership(ids: pd.Series, listed: pd.DataFrame, file: str) -> None:
    unlisted = ~ids.isin(listed[ids.name])
    if unlisted.any():
        raise DataError(
            f"row {first_row(unlisted)} has `{ids.name}` {ids[unlisted].iloc[0]}, which {file}"
            " lacks; add it there, or remove the row"
        )


def checked_ratings(
    ratings: pd.DataFrame, columns: Columns, allow_missing: bool = False
) -> pd.DataFrame:
    """Rows with integer ids and float64 ratings; with `allow_missing`, a rating may be missing.

    Raises DataError for an id that is not a positive integer, a rating that is not one of
    `values`, and a pair (user, item) that occurs twice.
    """
    rows = ratings.copy()
    for name in (columns.user, columns.item):
        rows[name] = _ids(rows[name])
    rows[columns.rating] = _stars(ratings[columns.rating], columns, allow_missing)
    repeated = rows.duplicated([columns.user, columns.item]).to_numpy()
    if repeated.any():
        user, item = rows.loc[repeated, [columns.user, columns.item]].iloc[0]
        raise DataError(
            f"row {first_row(repeated)} repeats {columns.user} {user}, {columns.item} {item}; keep"
            " one row"
        )
    return rows


def _stars(column: pd.Series, columns: Columns, allow_missing: bool) -> pd.Series:
    stars = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = ~stars.isin(columns.values).to_numpy()
    if allow_missing:
        is_empty = np.array([value == "" for value in column], bool)  # as a CSV file has it
        wrong &= ~(column.isna().to_numpy() | is_empty)
    if wrong.any():
        expected = ", ".join(f"{value:g}" for value in columns.values)
        raise DataError(
            f"row {first_row(wrong)} has `{columns.rating}` {column[wrong].iloc[0]}; expected one"
            f" of {expected}; correct the row"
        )
    return stars


def _ids(column: pd.Series, file: str = "") -> pd.Series:
    """Ids as int64; raises DataError for one that is not a whole number from 1 to 2**53 - 1.

    Above that a float64, which JSON and some CSV files give, cannot hold every whole number: two
    ids could become one.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    usable = (numbers >= 1) & (numbers < 2**53) & (numbers == np.floor(numbers))
    wrong = ~usable.to_numpy()
    if wrong.any():
        where = f"{file} row" if file else "row"
        raise DataError(
            f"{where} {first_row(wrong)} has `{column.name}` {column[wrong].iloc[0]}; expected a"
            " whole number from 1 to 2**53 - 1; correct the row"
        )
    return numbers.astype(np.int64)


# --- parts --------------------------------------------------------------------------------------


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Four parts by a salted hash of the pair (user, item); rows of `test_files` are the test part.

    Every part but train begins with all ratings that its users have in train, marked as context.
    """
    # Joined by a separator, so that user 1, item 23 and user 12, item 3 have different keys.
    keys = rows[columns.user].astype(str) + SEPARATOR + rows[columns.item].astype(str)
    part_index = np.where(rows["test"], PARTS.index("test"), parts_by_hash(keys, split))
    own_rows = {}
    for index, name in enumerate(PARTS):
        own_rows[name] = rows[part_index == index].drop(columns="test")
    train = own_rows["train"]
    train = train.assign(**{TARGET: train[columns.rating], CONTEXT: False})
    parts = {"train": train.reset_index(drop=True)}
    for name in PARTS[1:]:
        to_score = own_rows[name]
        history = train[train[columns.user].isin(to_score[columns.user])]
        history = history.assign(**{TARGET: np.nan, CONTEXT: True})
        hidden = {TARGET: to_score[columns.rating], CONTEXT: False, columns.rating: np.nan}
        parts[name] = pd.concat([history, to_score.assign(**hidden)], ignore_index=True)
        parts[name].attrs = rows.attrs
    return parts


def check_parts(parts: Mapping[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a pair is in two parts, or a part has no likes or no dislikes."""
    pair = [columns.user, columns.item]
    pairs = pd.concat([scored(rows)[pair].assign(part=name) for name, rows in parts.items()])
    repeated = pairs[pairs.duplicated(pair, keep=False)]
    if len(repeated):
        user, item = repeated[pair].iloc[0]
        places = repeated[(repeated[pair] == [user, item]).all(axis=1)]["part"]
        raise DataError(
            f"{columns.user} {user}, {columns.item} {item} lies in {' and in '.join(places)}; keep"
            " one row"
        )
    for name, rows in parts.items():
        liked = scored(rows)[TARGET] >= columns.like
        if liked.nunique() < 2:
            raise DataError(
                f"part {name} ({len(liked)} ratings) lacks likes or dislikes; add ratings, or"
                " change `split` in the conf"
            )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part with its catalogue; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part that `write` wrote."""
    return pd.read_parquet(path.with_suffix(".parquet"))


def catalogue(rows: pd.DataFrame) -> Catalogue:
    """The catalogue that prepared rows carry."""
    lists: Catalogue = json.loads(rows.attrs[CATALOGUE])
    return lists


def users_of(rows: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The users in order of first appearance, (users,), and the position in it by row, (rows,)."""
    positions, users = pd.factorize(rows[columns.user])
    return np.asarray(users), positions


# --- profile ------------------------------------------------------------------------------------


def profile(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Training ratings by stars, and per user and per film."""
    train = parts["train"]
    lists = catalogue(train)
    stars = {}
    for value in columns.values:
        stars[f"{value:g}"] = int((train[columns.rating] == value).sum())
    profiles = {
        columns.rating: stars,
        columns.user: _counts(train[columns.user], lists["users"]),
        columns.item: _counts(train[columns.item], lists["items"]),
    }
    return {"columns": profiles}


def _counts(ids: pd.Series, listed: list[int]) -> dict[str, float]:
    """How many ids are listed, how many of them have no rating, and the ratings of each."""
    ratings = ids.value_counts().reindex(listed, fill_value=0)
    return {
        "count": len(listed),
        "without": int((ratings == 0).sum()),
        "ratings_min": float(ratings.min()),
        "ratings_median": float(ratings.median()),
        "ratings_max": float(ratings.max()),
    }
