"""Ratings as rows: read, checked, split into four parts and written."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ...errors import DataError, describe
from ..parts import CONTEXT, PARTS, scored
from ..splits import parts_by_hash

if TYPE_CHECKING:
    pass
from ..parts import first_row
from .columns import Columns, Table

TARGET, CATALOGUE = "target", "catalogue"


class Raw(NamedTuple):
    """The files as they came: ratings with `test` where the source fixes that part, films, users."""

    ratings: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame


# --- from raw files to four parts -------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> Raw:
    """Ratings, films and users of `folder`; raises DataError for a file that is not there, empty or unreadable."""
    asked = [(file, False) for file in columns.files] + [
        (file, True) for file in columns.test_files
    ]
    pair = [columns.user, columns.item, columns.rating]
    ratings = [
        _read(folder / file, columns.ratings, pair).assign(test=test) for file, test in asked
    ]
    return Raw(
        pd.concat(ratings, ignore_index=True),
        _read(folder / columns.items_file, columns.items, [columns.item, columns.title]),
        _read(folder / columns.users_file, columns.users, [columns.user]),
    )


def _read(path: Path, table: Table, needed: list[str]) -> pd.DataFrame:
    try:
        text = path.read_bytes().decode(table.encoding)
    except FileNotFoundError:
        raise DataError(f"{path} is not there; `make pull` brings it") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not {table.encoding}: byte 0x{error.object[error.start]:02x} at {error.start:,};"
            " name its encoding in the conf (MovieLens writes latin-1)"
        ) from None
    if len(table.delimiter) > 1:  # the fast parser takes one character
        text = text.replace(table.delimiter, "\x1f")
    if not text.strip():
        raise DataError(f"{path.name} is empty; expected {', '.join(needed)}")
    try:
        found = pd.read_csv(
            io.StringIO(text),
            sep=table.delimiter if len(table.delimiter) == 1 else "\x1f",
            header=None if table.names else "infer",
            names=table.names,
            usecols=range(len(table.names)) if table.names else None,
            quoting=csv.QUOTE_NONE
            if table.names
            else csv.QUOTE_MINIMAL,  # a title may begin with a quotation mark
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        said = f"{path.name} is no table with delimiter {table.delimiter!r}: {describe(error)}"
        raise DataError(f"{said}; correct it, or name another file") from None
    missing = [name for name in needed if name not in found]
    if missing:
        raise DataError(
            f"{path.name} lacks column {', '.join(missing)}; found {', '.join(map(str, found.columns))};"
            " correct the file, or name the columns in its conf as the file does"
        )
    return found


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Rows to ask with: CSV with a header, Parquet, JSON records, or a file written as upstream writes its ratings."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            return pd.read_json(path, orient="records")
        if path.suffix == ".csv":
            return pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path} is not there; name a file of ratings") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError) as error:
        raise DataError(
            f"{path.name} is no table: {describe(error)}; expected {columns.user}, {columns.item}, {columns.rating}"
        ) from None
    return _read(path, columns.ratings, [columns.user, columns.item, columns.rating])


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """What the expectations look at: every rating with the title of its film, empty where the film has none."""
    titles = raw.items.drop_duplicates(columns.item).set_index(columns.item)[columns.title]
    found: pd.DataFrame = raw.ratings.drop(columns="test")
    return found.assign(**{columns.title: found[columns.item].map(titles)})[columns.all]


def repair(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Ratings as whole ids and stars, with the catalogue as their attribute.

    Raises DataError for an id below 1, a user or film that the other files lack, a film that is twice in them or has no
    title, a rating that is none of `values`, and a pair rated twice.
    """
    items, users = (
        (raw.items, columns.item, columns.items_file),
        (raw.users, columns.user, columns.users_file),
    )
    for frame, name, file in (items, users):
        ids = _ids(frame[name], name, file)
        if ids.duplicated().any():
            raise DataError(
                f"{file} has `{name}` {ids[ids.duplicated()].iloc[0]} twice; each may stand there once"
            )
    untitled = raw.items[columns.title].isna() | (
        raw.items[columns.title].astype(str).str.strip() == ""
    )
    if untitled.any():
        raise DataError(
            f"{columns.items_file}: {columns.item} {raw.items.loc[untitled, columns.item].iloc[0]} has no"
            f" `{columns.title}`; give it one (MovieLens itself writes `unknown`)"
        )
    rows = checked(raw.ratings, columns)
    for frame, name, file in (items, users):
        strange = ~rows[name].isin(frame[name])
        if strange.any():
            raise DataError(
                f"row {first_row(strange)} has `{name}` {rows[name][strange].iloc[0]}, which {file} lacks"
            )
    rows.attrs[CATALOGUE] = json.dumps(
        {
            "items": raw.items[columns.item].astype(int).tolist(),
            "titles": raw.items[columns.title].astype(str).tolist(),
            "users": raw.users[columns.user].astype(int).tolist(),
        }
    )
    return rows


def checked(ratings: pd.DataFrame, columns: Columns, unrated: bool = False) -> pd.DataFrame:
    """Rows whose ids are whole numbers from 1 and whose ratings are among `values` (or missing, where `unrated`)."""
    rows = ratings.copy()
    for name in (columns.user, columns.item):
        rows[name] = _ids(rows[name], name)
    stars = pd.to_numeric(rows[columns.rating], errors="coerce").astype(float)
    missing = ratings[columns.rating].isna().to_numpy() | np.array(
        [value == "" for value in ratings[columns.rating]]
    )
    wrong = ~stars.isin(columns.values).to_numpy() & ~(
        missing if unrated else np.zeros(len(rows), bool)
    )
    if wrong.any():
        known = ", ".join(f"{value:g}" for value in columns.values)
        raise DataError(
            f"row {first_row(wrong)} has `{columns.rating}` {ratings[columns.rating][wrong].iloc[0]};"
            f" expected one of {known}; correct the row"
        )
    rows[columns.rating] = stars
    twice = rows.duplicated([columns.user, columns.item]).to_numpy()
    if twice.any():
        user, item = rows.loc[twice, [columns.user, columns.item]].iloc[0]
        raise DataError(
            f"row {first_row(twice)}: {columns.user} {user} and {columns.item} {item} are there twice; keep one row"
        )
    return rows


def _ids(column: pd.Series, name: str, file: str | None = None) -> pd.Series:
    """Ids as integers; raises DataError for one that is no whole number from 1, or that a float may have rounded."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = ~((numbers >= 1) & (numbers < 2**53) & (numbers == np.floor(numbers))).to_numpy()
    if wrong.any():
        where = f"{file} " if file else ""
        raise DataError(
            f"{where}row {first_row(wrong)} has `{name}` {column[wrong].iloc[0]};"
            " ids are whole numbers from 1 and below 2**53; correct it"
        )
    return numbers.astype(np.int64)


def split(rows: pd.DataFrame, columns: Columns, split: Any) -> dict[str, pd.DataFrame]:
    """Four parts by a salted hash of the pair (user, item); where the source fixes a test part, that is test.

    Every part but train carries all that train knows of its users, marked as context.
    """
    keys = rows[columns.user].astype(str) + "\x1f" + rows[columns.item].astype(str)
    part = np.where(rows["test"], PARTS.index("test"), parts_by_hash(keys, split))
    own = {name: rows[part == i].drop(columns="test") for i, name in enumerate(PARTS)}
    train = own["train"].assign(**{TARGET: own["train"][columns.rating], CONTEXT: False})
    parts = {"train": train.reset_index(drop=True)}
    for name in PARTS[1:]:
        asked = own[name].assign(
            **{TARGET: own[name][columns.rating], CONTEXT: False, columns.rating: np.nan}
        )
        known = train[train[columns.user].isin(asked[columns.user])].assign(
            **{TARGET: np.nan, CONTEXT: True}
        )
        parts[name] = pd.concat([known, asked], ignore_index=True)
        parts[name].attrs = rows.attrs
    return parts


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError where a pair lies in two parts, or a part has nothing to score or lacks likes or dislikes."""
    pairs = [columns.user, columns.item]
    seen = pd.concat([scored(rows)[pairs].assign(part=name) for name, rows in parts.items()])
    twice = seen[seen.duplicated(pairs, keep=False)]
    if len(twice):
        user, item = twice[pairs].iloc[0]
        places = twice[(twice[pairs] == [user, item]).all(axis=1)]["part"]
        raise DataError(
            f"{columns.user} {user}, {columns.item} {item} lies in {' and in '.join(places)}; keep one row"
        )
    for name, rows in parts.items():
        liked = scored(rows)[TARGET] >= columns.like
        if liked.nunique() < 2:
            raise DataError(
                f"part {name} ({len(liked)} ratings) lacks likes or dislikes;"
                " bring more rows, or change `split` in the conf"
            )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part with its catalogue; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part written by `write`."""
    return pd.read_parquet(path.with_suffix(".parquet"))


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, Any]:
    """What a reader asks of the training ratings: how many of each, and how many a user gave and a film got."""
    train = parts["train"]
    stars = {f"{value:g}": int((train[columns.rating] == value).sum()) for value in columns.values}
    found: dict[str, Any] = {columns.rating: stars}
    whole = catalogue(train)
    for name, there in ((columns.user, whole["users"]), (columns.item, whole["items"])):
        counts = train[name].value_counts().reindex(there, fill_value=0)
        found[name] = {
            "count": len(there),
            "without": int((counts == 0).sum()),
            **{f"ratings_{key}": float(getattr(counts, key)()) for key in ("min", "median", "max")},
        }
    return {"columns": found}


def catalogue(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """`items` and their `titles`, and `users`, in the order of their files."""
    found: dict[str, list[Any]] = json.loads(rows.attrs[CATALOGUE])
    return found


def users_of(rows: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The users in the order in which they first appear, and of each row the place of its user among them."""
    at, users = pd.factorize(rows[columns.user])
    return np.asarray(users), at
