"""Ratings: who gave which film how many stars, known for some pairs only; any delimiter, with or without a header.

A row with a rating is known; a row without one asks for that film. So a part and a question are read alike: of the part
to be answered, the known rows of each user (from train only, marked `context`, never scored) come first, and then
those asked for, whose stars stand in `target` and not in the rating.

The catalogue (all films with their titles, all users) belongs to all rows and travels as the frame's attribute, so that
the sizes of a model follow from u.item and u.user and not from what a part happens to hold.
"""

import csv
import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ..errors import DataError, words
from ..strict import Strict
from . import CONTEXT, PARTS, parts_by_hash, scored

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("hash",)
TARGET, CATALOGUE = "target", "catalogue"
UNKNOWN_USER = -1


class Table(Strict):
    """How one file is written: `names` are its first columns in their order where it has no header."""

    delimiter: Annotated[str, Field(min_length=1)]
    encoding: str
    names: Annotated[list[str], Field(min_length=1)] | None


class Columns(Strict):
    """What the columns are called, what a rating can be, and which files say what."""

    user: str
    item: str
    rating: str
    title: str
    values: Annotated[list[float], Field(min_length=2)]
    like: float
    ratings: Table
    files: Annotated[list[str], Field(min_length=1)]
    test_files: list[str]
    items: Table
    items_file: str
    users: Table
    users_file: str

    @model_validator(mode="after")
    def values_rise_and_some_are_liked(self) -> Self:
        if (
            self.values != sorted(set(self.values))
            or not self.values[0] < self.like <= self.values[-1]
        ):
            raise ValueError(
                f"`like` {self.like:g} does not divide the rising `values` {self.values}; give both anew"
            )
        return self

    @property
    def all(self) -> list[str]:
        given = self.ratings.names or [self.user, self.item, self.rating]
        return [*given, *([] if self.title in given else [self.title])]


class Raw(NamedTuple):
    """The files as they came: ratings with `test` where the source fixes that part, films, users."""

    ratings: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame


# --- the twin ---------------------------------------------------------------------------------------------------------


class Twin(Strict):
    """The stand-in: tastes that come in clusters, which no sum of a user's and a film's bias can follow.

    stars = bias of the user + bias of the film + taste[cluster of the user, genre of the film] + noise, cut into the
    `shares` of the ratings. `bias`, `taste` and `noise` are standard deviations.
    """

    seed: int
    users: Annotated[int, Field(ge=1)]
    items: Annotated[int, Field(ge=1)]
    ratings: Annotated[int, Field(ge=1)]
    test: Annotated[int, Field(ge=0)]
    test_users: Annotated[int, Field(ge=1)]
    least: Annotated[int, Field(ge=1)]
    shares: list[float]
    clusters: Annotated[int, Field(ge=1)]
    genres: Annotated[list[str], Field(min_length=1)]
    bias: float
    taste: float
    noise: Annotated[float, Field(gt=0)]
    words: Annotated[list[str], Field(min_length=2)]
    repeated_titles: Annotated[int, Field(ge=0)]
    unknown: Annotated[int, Field(ge=1)]


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder` in the upstream format: delimiters, encodings, a test file of its own."""
    rng = np.random.default_rng(twin.seed)
    genre = rng.integers(len(twin.genres), size=twin.items)
    rated = _rated(twin, rng)
    stars = _stars(twin, genre, rated, rng)
    users, items = np.nonzero(rated)
    seconds = 874724710 + rng.integers(18_561_928, size=len(users))
    rows = np.column_stack([users + 1, items + 1, stars[users, items], seconds])
    eligible = np.flatnonzero(users < twin.test_users)
    test = np.zeros(len(rows), bool)
    test[rng.choice(eligible, twin.test, replace=False)] = True
    folder.mkdir(parents=True, exist_ok=True)
    kept = [rows[~test], rows[test]] if columns.test_files else [rows]
    for file, part in zip([columns.files[0], *columns.test_files[:1]], kept, strict=True):
        _write(
            folder / file,
            columns.ratings,
            [columns.user, columns.item, columns.rating, "timestamp"],
            part.tolist(),
        )
    heading = [columns.item, columns.title, "released", "video", "address", *twin.genres]
    _write(folder / columns.items_file, columns.items, heading, _films(twin, genre, rng))
    people = zip(rng.integers(7, 74, twin.users), rng.random(twin.users) < 0.71, strict=True)
    jobs, zips = rng.integers(len(JOBS), size=twin.users), rng.integers(1000, 99999, twin.users)
    lines = [
        [i + 1, age, "M" if man else "F", JOBS[jobs[i]], f"{zips[i]:05}" if i % 52 else "V3N4P"]
        for i, (age, man) in enumerate(people)
    ]
    _write(
        folder / columns.users_file,
        columns.users,
        [columns.user, "age", "gender", "occupation", "zip"],
        lines,
    )


JOBS = [
    "administrator",
    "artist",
    "educator",
    "engineer",
    "librarian",
    "other",
    "programmer",
    "student",
    "writer",
]


def _rated(twin: Twin, rng: np.random.Generator) -> np.ndarray:
    """(users, items): who rated what. Few films get most ratings, few users give most, each film has one."""
    popular = rng.normal(0, 1.7, twin.items)
    counts = _counts(twin, np.exp(rng.normal(0, 1.3, twin.users)))
    wish = popular + rng.gumbel(size=(twin.users, twin.items))
    alone = rng.integers(twin.users, size=twin.items)
    place = np.argsort(np.argsort(-wish, axis=1), axis=1)
    rated = place < counts[:, None]
    for item in np.flatnonzero(
        ~rated.any(axis=0)
    ):  # a film that nobody chose takes the place of a popular one
        user = alone[item]
        most = np.where(rated[user], rated.sum(axis=0), 0).argmax()
        rated[user, most], rated[user, item] = False, True
    return rated


def _counts(twin: Twin, eager: np.ndarray) -> np.ndarray:
    """How many films each user rates: `least`, and the rest by how eager they are, at most 0.4 of all films."""
    left, most = twin.ratings - twin.least * twin.users, int(0.4 * twin.items)
    share = left / eager.sum()
    for _ in range(50):  # what is cut from the most eager goes to the others
        share *= left / np.minimum(share * eager, most).sum()
    counts: np.ndarray = twin.least + np.minimum(np.floor(share * eager), most).astype(int)
    rest = twin.ratings - counts.sum()
    counts[np.argsort(eager, kind="stable")[:rest]] += 1
    return counts


def _stars(
    twin: Twin, genre: np.ndarray, rated: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(users, items): the planted stars, cut so that the rated ones have the twin's shares."""
    cluster = rng.integers(twin.clusters, size=twin.users)
    taste = rng.normal(size=(twin.clusters, len(twin.genres)))
    taste = (taste - taste.mean(axis=0)) / taste.std(axis=0) * twin.taste
    score = (
        rng.normal(0, twin.bias, (twin.users, 1))
        + rng.normal(0, twin.bias, twin.items)
        + taste[cluster][:, genre]
        + rng.normal(0, twin.noise, rated.shape)
    )
    cuts = np.quantile(score[rated], np.cumsum(twin.shares)[:-1] / sum(twin.shares))
    return np.searchsorted(cuts, score) + 1


def _films(twin: Twin, genre: np.ndarray, rng: np.random.Generator) -> list[list[Any]]:
    """The rows of the film file: id, title, dates, address, one flag a genre; some titles twice, one film unknown."""
    titles: list[str] = []
    for n in range(twin.items):
        first, second = rng.integers(len(twin.words), size=2)
        titles.append(
            f"{twin.words[first]} {twin.words[second]} {n + 1} ({1922 + int(76 * rng.random() ** 0.15)})"
        )
    for n in range(twin.repeated_titles):
        titles[-1 - n] = titles[n]
    lines = []
    for n, title in enumerate(titles):
        flags = [int(g == genre[n]) for g in range(len(twin.genres))]
        year = title[-5:-1]
        line = [
            n + 1,
            title,
            f"01-Jan-{year}",
            "",
            f"http://films.example/title-exact?{n + 1}",
            *flags,
        ]
        lines.append(line if n + 1 != twin.unknown else [n + 1, "unknown", "", "", "", *flags])
    return lines


def _write(path: Path, table: Table, heading: list[str], rows: list[list[Any]]) -> None:
    lines = [*([] if table.names else [heading]), *rows]
    text = "".join(table.delimiter.join(map(str, line)) + "\n" for line in lines)
    path.write_bytes(text.encode(table.encoding))


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
        said = f"{path.name} is no table with delimiter {table.delimiter!r}: {words(error)}"
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
            f"{path.name} is no table: {words(error)}; expected {columns.user}, {columns.item}, {columns.rating}"
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
    rows = _checked(raw.ratings, columns)
    for frame, name, file in (items, users):
        strange = ~rows[name].isin(frame[name])
        if strange.any():
            raise DataError(
                f"row {_first(strange)} has `{name}` {rows[name][strange].iloc[0]}, which {file} lacks"
            )
    rows.attrs[CATALOGUE] = json.dumps(
        {
            "items": raw.items[columns.item].astype(int).tolist(),
            "titles": raw.items[columns.title].astype(str).tolist(),
            "users": raw.users[columns.user].astype(int).tolist(),
        }
    )
    return rows


def _checked(ratings: pd.DataFrame, columns: Columns, unrated: bool = False) -> pd.DataFrame:
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
            f"row {_first(wrong)} has `{columns.rating}` {ratings[columns.rating][wrong].iloc[0]};"
            f" expected one of {known}; correct the row"
        )
    rows[columns.rating] = stars
    twice = rows.duplicated([columns.user, columns.item]).to_numpy()
    if twice.any():
        user, item = rows.loc[twice, [columns.user, columns.item]].iloc[0]
        raise DataError(
            f"row {_first(twice)}: {columns.user} {user} and {columns.item} {item} are there twice; keep one row"
        )
    return rows


def _ids(column: pd.Series, name: str, file: str | None = None) -> pd.Series:
    """Ids as integers; raises DataError for one that is no whole number from 1, or that a float may have rounded."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = ~((numbers >= 1) & (numbers < 2**53) & (numbers == np.floor(numbers))).to_numpy()
    if wrong.any():
        where = f"{file} " if file else ""
        raise DataError(
            f"{where}row {_first(wrong)} has `{name}` {column[wrong].iloc[0]};"
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


# --- from rows to tensors ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """One row a user. A code is 0 where there is no rating, else 1 for the lowest of `values`, 2 for the next, …

    user (users) int64: the place in the catalogue, UNKNOWN_USER for a new one; known (users, items) uint8: the codes
    that may be looked at; target (users, items) uint8: those asked for. In train both are the same. The scale is the
    same in each row: values (users, levels) float32, the stars of each code; like (users) float32, from where on a film
    is liked.
    """

    user: "Tensor"
    known: "Tensor"
    target: "Tensor"
    values: "Tensor"
    like: "Tensor"

    @property
    def stars(self) -> "Tensor":
        """(pairs) float32: the stars of the target, where there is one, row by row."""
        return self.values[0][self.target[self.target > 0].long() - 1]

    @property
    def liked(self) -> "Tensor":
        """(pairs) bool: whether the target was liked, in the order of `stars`."""
        return self.stars >= self.like[0]


class Encoder:
    """Rows to a Batch by the catalogue: which column a film has, and its title."""

    def __init__(self, columns: Columns, items: list[int], titles: list[str], users: list[int]):
        self.columns, self.items, self.titles, self.users = columns, items, titles, users

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """From the catalogue that the training rows carry."""
        return cls(columns, **catalogue(rows))

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON; no rating is among it."""
        return {"items": self.items, "titles": self.titles, "users": self.users}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, **state)

    @property
    def sizes(self) -> dict[str, Any]:
        """What a family's constructor may ask for before its `*`."""
        values, like = self.columns.values, self.columns.like
        return {"users": len(self.users), "items": len(self.items), "values": values, "like": like}

    def encode(self, rows: pd.DataFrame) -> Batch:
        """One row for each user, in the order in which they first appear."""
        import torch  # two seconds, which pull, validate and prepare need not wait for

        users, at = users_of(rows, self.columns)
        item = _indexer(self.items, rows[self.columns.item])
        found = {}
        for name in (self.columns.rating, TARGET):
            stars = rows[name].to_numpy(float) if name in rows else np.full(len(rows), np.nan)
            there = ~np.isnan(stars)
            codes = np.zeros((len(users), len(self.items)), np.uint8)
            codes[at[there], item[there]] = np.searchsorted(self.columns.values, stars[there]) + 1
            found[name] = torch.from_numpy(codes)
        user = torch.from_numpy(_indexer(self.users, users))
        values = torch.tensor(self.columns.values, dtype=torch.float32).expand(len(users), -1)
        like = torch.tensor(self.columns.like, dtype=torch.float32).expand(len(users))
        return Batch(user, found[self.columns.rating], found[TARGET], values, like)

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows that are asked with, as `encode` takes them; other columns of the upstream file may be there.

        Raises DataError for a missing or surplus column, ids and ratings that are none, a film that training did not
        know, a pair that is there twice. Warns of a user of whom no rating is given: the answer is then the films'.
        """
        columns = self.columns
        needed = [columns.user, columns.item, columns.rating]
        missing = [name for name in needed if name not in frame]
        surplus = [str(name) for name in frame if name not in [*columns.all, TARGET, CONTEXT]]
        if missing or surplus:
            got = "; ".join(
                f"{w} column {', '.join(n)}"
                for w, n in (("missing", missing), ("surplus", surplus))
                if n
            )
            raise DataError(f"{got}; expected {', '.join(needed)}; name the columns as in training")
        if frame.empty:
            raise DataError("no rows to answer; give some ratings of at least one user")
        rows = _checked(frame[needed].reset_index(drop=True), columns, unrated=True)
        strange = _indexer(self.items, rows[columns.item]) < 0
        if strange.any():
            raise DataError(
                f"row {_first(strange)} names {columns.item} {rows[columns.item][strange].iloc[0]}, which training did"
                f" not know; the {len(self.items):,} known ones go from {min(self.items)} to {max(self.items)}"
            )
        silent = rows.groupby(columns.user)[columns.rating].count() == 0
        if silent.any():
            warnings.warn(
                f"nothing is known of {columns.user} {', '.join(map(str, silent.index[silent][:5]))}"
                f"{', …' if silent.sum() > 5 else ''}: answered as the average user",
                stacklevel=2,
            )
        return rows

    def schema(self) -> list[tuple[str, str, bool]]:
        """Columns that are asked with: a row with a rating is known, a row without one (NaN) asks for that film."""
        columns = self.columns
        return [
            (columns.user, "long", True),
            (columns.item, "long", True),
            (columns.rating, "double", True),
        ]

    def question(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them."""
        types = {"double": np.float64, "long": np.int64}
        return pd.DataFrame(
            {name: rows[name].astype(types[kind]) for name, kind, _ in self.schema()}
        )

    def example(self) -> pd.DataFrame:
        """Two users made up, who rated the first films; the second asks for one."""
        first, second, third = (self.items * 3)[:3]
        low, *_, high = self.columns.values
        lines = [(1, first, high), (1, second, low), (2, first, high), (2, third, np.nan)]
        return self.question(
            pd.DataFrame(lines, columns=[self.columns.user, self.columns.item, self.columns.rating])
        )


def users_of(rows: pd.DataFrame, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The users in the order in which they first appear, and of each row the place of its user among them."""
    at, users = pd.factorize(rows[columns.user])
    return np.asarray(users), at


def _indexer(known: list[int], ids: Any) -> np.ndarray:
    """The place of each id among the known ones, -1 for one that is not there."""
    return pd.Index(known).get_indexer(pd.Index(ids)).astype(np.int64)


def _first(wrong: Any) -> int:
    return int(np.flatnonzero(np.asarray(wrong))[0]) + 1
