"""Ratings as rows: read, repaired, split into four parts, and written.

A row with a rating is known to the model; a row without one asks for that film. Parts and input
rows have the same form: a part other than train contains the known ratings of its users, all from
train and marked in the column `context`, followed by the rows that are scored, whose stars are in
`target` and not in the rating.

An id is the text that is written. Where all ids of a column are whole numbers in their usual
notation, they are kept as int64, which changes neither the part nor the code of a row.

The catalogue (all films with their titles, all users) belongs to all rows and travels as an
attribute of the frame. So the sizes of a net follow from the catalogue, not from the rows of a
part.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, TypedDict

import numpy as np
import pandas as pd

from ....errors import DataError
from ...formats import COMPRESSED, FILE, LINE, Format, read_table, unpacked
from ...levels import matched, text_of
from ...numbers import numbers_or_faults
from ...parts import CONTEXT, PARTS, scored
from ...splits import SEPARATOR, HashSplit, parts_by_hash
from ...tables import Finding, check_columns, first_place
from ..columns import Columns

TARGET = "target"  # the column of the stars to predict
CATALOGUE = "catalogue"  # the attribute of a frame with the Catalogue as JSON
UNLISTED = "unlisted"  # the attribute with the number of films that the catalogue lacked, if any

Ids: TypeAlias = list[int] | list[str]

WHOLE = re.compile(r"0|[1-9][0-9]{0,15}")  # a whole number in its usual notation
# Above this a float64, which JSON and some other files give, cannot hold every whole number: two
# ids could become one.
LARGEST_ID = 2**53 - 1
SHOWN = 3  # ids or values in a message
SEVERAL = 0.1  # a larger share of ratings of unlisted items is a failed `warning`, not an `info`
HEAD = 65_536  # bytes at the beginning of a file, in which its header is
LISTED_VALUES = 20  # a longer scale is named by its ends


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


class Catalogue(TypedDict):
    """All films with their titles, and all users, in the order of their files.

    What no file lists comes last, in ascending order.
    """

    items: Ids
    titles: list[str]
    users: Ids


# --- read ---------------------------------------------------------------------------------------


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
    rows = single(_listed(_rated(rows, columns, counts), items, columns, counts), columns, counts)
    if users is None:
        users = pd.DataFrame({columns.user: _sorted_ids(set(rows[columns.user]))}, dtype=object)
    if items is None:
        unlisted = _sorted_ids(in_matrix | set(rows[columns.item]))
        return Raw(rows, _titled_by_id(unlisted, columns), users, [], counts)
    if columns.unlisted != "keep":
        return Raw(rows, items, users, [], counts)
    unlisted = _sorted_ids((in_matrix | set(rows[columns.item])) - set(items[columns.item]))
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
    _count(counts, f"ratings of items that {columns.items_file} lacks", int((~is_listed).sum()))
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


def _count(counts: dict[str, int], reason: str, rows: int) -> None:
    if rows:
        counts[reason] = counts.get(reason, 0) + rows


def _read_ratings(
    path: Path, columns: Columns, counts: dict[str, int], first_user: int
) -> pd.DataFrame:
    if not path.exists():
        raise DataError(f"{path} does not exist; run `make pull`")
    rows, empty = read_table(path, columns.ratings.as_written, columns.needed)
    _count(counts, "empty rows", empty)
    if columns.ratings.layout == "matrix":
        return _from_matrix(rows, columns, first_user)
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
    _count(counts, f"empty rows of {path.name}", empty)
    check_columns(rows, needed, path.name)
    return rows.assign(**{needed[0]: ids(rows[needed[0]])})


def _from_matrix(rows: pd.DataFrame, columns: Columns, first_user: int = 1) -> pd.DataFrame:
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


def _rated(rows: pd.DataFrame, columns: Columns, counts: dict[str, int]) -> pd.DataFrame:
    """The rows without those whose rating means that there is none."""
    is_matrix = columns.ratings.layout == "matrix"
    if is_matrix:
        rows = rows[rows[columns.rating].notna()]
    if columns.unrated:
        stars, _ = numbers_or_faults(rows[columns.rating], columns.ratings)
        for value in columns.unrated:
            is_none = int((stars == value).sum())
            _count(counts, f"ratings of {value:g}, which mean none", is_none)
        rows = rows[~stars.isin(columns.unrated)]
    if columns.ratings.unknown and not is_matrix:
        is_missing = rows[columns.rating].isna()
        _count(counts, "rows without a rating", int(is_missing.sum()))
        rows = rows[~is_missing]
    return rows


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
    _count(counts, "ratings of a pair that has another", int(is_surplus.sum()))
    return rows[~is_surplus]


def _with_means(rows: pd.DataFrame, positions: np.ndarray, columns: Columns) -> pd.DataFrame:
    """The ratings at `positions` replaced by the value that is nearest to the mean of their pair.

    Of two values that are equally near it is the lower one. Raises DataError for a rating that is
    not one of `values`.
    """
    repeated = rows.iloc[positions]
    stars = _stars(repeated[columns.rating], columns, allow_missing=False)
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


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Input rows: ratings in the upstream format, or CSV with a header, Parquet, JSON.

    Raises DataError for a file that is missing or not a table.
    """
    form: Format = columns.ratings.as_written
    is_upstream = (form.delimiter, form.names, form.skip) == (",", None, 0)
    is_plain = not is_upstream and _has_header(path, columns.needed)
    if is_plain:
        form = Format(unknown=form.unknown)
    rows = read_table(path, form, columns.needed).rows
    if columns.ratings.layout == "matrix" and columns.item not in rows:
        return _rated(_from_matrix(rows, columns), columns, {})
    if is_plain:
        # Here, because later the numbers would be read by the marks of the upstream format.
        stars, is_wrong = numbers_or_faults(rows[columns.rating], form)
        if not is_wrong.any():
            return rows.assign(**{columns.rating: stars})
    return rows


def _has_header(path: Path, names: Sequence[str]) -> bool:
    """Whether the first line with content has the names of columns, with commas between them."""
    if path.suffix.lower() in (*COMPRESSED, ".zip"):
        start = unpacked(path)[1][:HEAD]
    else:
        try:
            with path.open("rb") as stream:
                start = stream.read(HEAD)
        except OSError:
            return False  # read_table reports it
    for line in re.split(r"\r\n|\r|\n", start.decode("utf-8-sig", "replace")):
        cells = {cell.strip().strip('"').strip() for cell in line.split(",")}
        if cells != {""}:
            return set(names) <= cells
    return False


# --- ids ----------------------------------------------------------------------------------------


def ids(column: pd.Series, listed: Iterable[object] | None = None) -> pd.Series:
    """Ids as text; those that mean one of the `listed` ids as it is listed.

    Raises DataError for a missing id, and for a number that is not whole or that a float may have
    rounded.
    """
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"{first_place(column, missing)} has no `{column.name}`; expected an id in each row;"
            " correct the row, or remove it"
        )
    if column.dtype.kind not in "iu" and not isinstance(column.dtype, pd.StringDtype):
        _check_typed_ids(column)
    if listed is not None:
        return matched(column, map(str, listed))
    texts = {value: text_of(value) for value in column.unique()}
    return column.map(texts).astype(object)


def _check_typed_ids(column: pd.Series) -> None:
    """Raise DataError for a float that is no id, and for a truth value."""
    usable = np.array([_is_id(value) for value in column], bool)
    if not usable.all():
        value = column.iloc[int((~usable).argmax())]
        raise DataError(
            f"{first_place(column, ~usable)} has `{column.name}` {value}; expected text, or a whole"
            " number up to 2**53 - 1; correct the row"
        )


def _is_id(value: object) -> bool:
    if isinstance(value, float | np.floating):
        number = float(value)
        return number.is_integer() and abs(number) <= LARGEST_ID
    return not isinstance(value, bool | np.bool_)


def as_ids(texts: Iterable[str]) -> Ids:
    """Ids as whole numbers if all are written as such, otherwise as text."""
    listed = list(texts)
    if all(_is_whole(text) for text in listed):
        return [int(text) for text in listed]
    return listed


def _is_whole(text: str) -> bool:
    return WHOLE.fullmatch(text) is not None and int(text) <= LARGEST_ID


def _sorted_ids(texts: Iterable[str]) -> list[str]:
    """Ids in ascending order, those that are whole numbers first."""
    return sorted(texts, key=lambda text: (0, int(text), "") if _is_whole(text) else (1, 0, text))


def typed_ids(column: pd.Series, listed: Ids) -> pd.Series:
    """Ids as text in the type of the `listed` ones; an id that is no number stays text."""
    if not listed or isinstance(listed[0], str):
        return column.astype("str")
    texts = {text: int(text) if _is_whole(text) else text for text in column.unique()}
    return column.map(texts)


# --- the table ----------------------------------------------------------------------------------


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Every rating with the title of its film or none, for the expectations."""
    titles = raw.items.drop_duplicates(columns.item).set_index(columns.item)[columns.title]
    rows = _typed(raw.ratings.drop(columns="test"), columns)
    rows = rows.assign(**{columns.title: raw.ratings[columns.item].map(titles)})
    return rows[columns.all]


def _typed(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """The rows with numbers in the columns that have nothing else; ids are whole numbers or text.

    A rating that is no number leaves its column as text, so that the expectations report it.
    """
    typed = {}
    for name in rows.columns:
        column = rows[name]
        if name in (columns.user, columns.item):
            all_whole = all(_is_whole(text) for text in column.unique())
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


# --- repair -------------------------------------------------------------------------------------


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
    rows = _typed(rows, columns).assign(
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


def checked_ratings(
    ratings: pd.DataFrame, columns: Columns, allow_missing: bool = False
) -> pd.DataFrame:
    """Rows with float64 ratings; with `allow_missing`, a rating may be missing.

    Raises DataError for a rating that is not one of `values`, and a pair (user, item) that occurs
    twice.
    """
    rows = ratings.copy()
    rows[columns.rating] = _stars(ratings[columns.rating], columns, allow_missing)
    repeated = rows.duplicated([columns.user, columns.item]).to_numpy()
    if repeated.any():
        user, item = rows.loc[repeated, [columns.user, columns.item]].iloc[0]
        raise DataError(
            f"{first_place(rows, repeated)} repeats {columns.user} {user}, {columns.item} {item};"
            " keep one row, or say in `repeated` in the conf which rating stays"
        )
    return rows


def _stars(column: pd.Series, columns: Columns, allow_missing: bool) -> pd.Series:
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
    items = _counts(train[columns.item], lists["items"])
    if UNLISTED in train.attrs:
        items["unlisted"] = train.attrs[UNLISTED]
    profiles = {
        columns.rating: stars,
        columns.user: _counts(train[columns.user], lists["users"]),
        columns.item: items,
    }
    return {"columns": profiles}


def _counts(column: pd.Series, listed: Ids) -> dict[str, float]:
    """How many ids are listed, how many of them have no rating, and the ratings of each."""
    ratings = column.value_counts().reindex(listed, fill_value=0)
    return {
        "count": len(listed),
        "without": int((ratings == 0).sum()),
        "ratings_min": float(ratings.min()),
        "ratings_median": float(ratings.median()),
        "ratings_max": float(ratings.max()),
    }
