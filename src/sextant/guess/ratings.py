"""Ratings: which columns are user, item and rating, which file has the titles, and the scale."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd

from ..errors import UsageError
from .dates import is_unix_seconds
from .facts import Facts
from .reading import Reading

ENDING = r"s?[\W_]*(id|no|key)?s?"
USER = re.compile(
    rf"(.*[\W_])?(user|reader|customer|member|person|viewer|reviewer|client){ENDING}|uid",
    re.IGNORECASE,
)
ITEM = re.compile(
    r"(.*[\W_])?(item|movie|film|book|product|song|artist|anime|business|game|recipe|joke|beer"
    rf"|hotel|restaurant|article|track|show){ENDING}|isbn|asin|iid|mid",
    re.IGNORECASE,
)
RATING = re.compile(r"(.*[\W_])?(ratings?|stars?|scores?|overall|votes?|grade)", re.IGNORECASE)
TIME = re.compile(r"(.*[\W_])?(timestamp|time|date|unix.*|tstamp)", re.IGNORECASE)
TITLE = re.compile(r"(.*[\W_])?(title|name)", re.IGNORECASE)
RATINGS_FILE = re.compile(r"(.*[\W_])?(ratings?|reviews?)([\W_].*)?|u\.data", re.IGNORECASE)
ITEMS_FILE = re.compile(
    r"(.*[\W_])?(movies?|items?|books?|films?|products?|animes?|titles?|catalog(ue)?|songs?|games?)"
    r"([\W_].*)?|u\.item",
    re.IGNORECASE,
)
USERS_FILE = re.compile(
    r"(.*[\W_])?(users?|readers?|customers?|members?)([\W_].*)?|u\.user", re.IGNORECASE
)
MOST_VALUES = 101  # different ratings, as 0 to 10 in tenths
MOST_STARS = 20  # different ratings in a file without names of columns
LEAST_REPEATS = 2  # ratings of a user on average
SHARES = {"train": 0.64, "val": 0.08, "gate": 0.08, "test": 0.2}


class Roles(NamedTuple):
    """The columns of a file of ratings; `time` is None if it has none."""

    user: str
    item: str
    rating: str
    time: str | None


@dataclass
class Ratings:
    """The files of ratings, items and users with their columns, and the scale."""

    ratings: Reading
    roles: Roles
    items: Reading | None
    title: str | None
    users: Reading | None
    values: list[float]
    like: float
    unrated: float | None = None  # the value that means that there is no rating
    repeated: int = 0  # rows whose user and item another row has as well
    doubts: list[str] = field(default_factory=list)


def is_ratings_file(name: str) -> bool:
    """Whether a file is named as one of ratings."""
    return RATINGS_FILE.fullmatch(name) is not None


def roles(reading: Reading, chosen: Mapping[str, str]) -> Roles | None:
    """The columns of user, item and rating; None if a table has none.

    Without a header the order is that of MovieLens: user, item, rating, time.
    """
    if not reading.has_header and "user" not in chosen:
        return _roles_by_place(reading.columns)
    by_role: dict[str, str] = {}
    for role, pattern in (("user", USER), ("item", ITEM), ("rating", RATING), ("time", TIME)):
        for column in reading.columns:
            fits = pattern.fullmatch(column.name) is not None
            if role in chosen:
                fits = column.name == chosen[role]
            if fits and column.name not in by_role.values():
                by_role[role] = column.name
                break
    if not by_role.keys() >= {"user", "item", "rating"}:
        return None
    if "time" not in by_role:
        for column in reading.columns:
            is_free = column.name not in by_role.values()
            if is_free and is_unix_seconds(column.texts.head(1000).tolist()):
                by_role["time"] = column.name
                break
    by_name = {column.name: column for column in reading.columns}
    user = by_name[by_role["user"]]
    if not _is_scale(by_name[by_role["rating"]]) or len(user.texts) < LEAST_REPEATS * user.distinct:
        return None
    return Roles(by_role["user"], by_role["item"], by_role["rating"], by_role.get("time"))


def _roles_by_place(columns: Sequence[Facts]) -> Roles | None:
    if len(columns) != 4 or not _is_scale(columns[2]) or columns[2].distinct > MOST_STARS:
        return None
    if columns[0].is_unique or not columns[0].is_whole or not columns[1].is_whole:
        return None
    if not is_unix_seconds(columns[3].texts.head(1000).tolist()):
        return None
    return Roles(columns[0].name, columns[1].name, columns[2].name, columns[3].name)


def _is_scale(column: Facts) -> bool:
    return column.is_number and 2 <= column.distinct <= MOST_VALUES


def ratings(
    reading: Reading, column_roles: Roles, lists: Sequence[Reading], chosen: Mapping[str, str]
) -> Ratings:
    """Ratings with their scale, and the lists of items and users among the `others`.

    Raises UsageError for a scale of one value.
    """
    if not reading.has_header:
        column_roles = Roles("user", "item", "rating", "timestamp")
        reading = renamed(reading, [name for name in column_roles if name is not None])
    by_name = {column.name: column for column in reading.columns}
    scale = by_name[column_roles.rating].values
    values = sorted(float(value) for value in scale.unique())
    doubts = []
    unrated = None
    zeros = float((scale == 0).mean())
    if len(values) > 2 and values[0] == 0 and values[1] >= 1 and zeros > 0.2:
        unrated = 0.0
        values = values[1:]
        doubts.append(f"{zeros:.0%} of the ratings are 0, taken for none")
    if len(values) < 2:
        raise UsageError(f"`{column_roles.rating}` has one value; expected a scale of two or more")
    values = filled(values)
    pairs = pd.DataFrame(
        {"user": by_name[column_roles.user].texts, "item": by_name[column_roles.item].texts}
    )
    repeated = int(pairs.duplicated().sum())
    if repeated:
        doubts.append(f"{repeated:,} pairs are rated twice: the last rating stays")
    result = Ratings(
        ratings=reading,
        roles=column_roles,
        items=None,
        title=None,
        users=_users(lists, column_roles.user),
        values=values,
        like=float(chosen["like"]) if "like" in chosen else middle(values),
        unrated=unrated,
        repeated=repeated,
        doubts=doubts,
    )
    _add_items(result, lists, chosen.get("title"))
    return result


def renamed(reading: Reading, names: Sequence[str]) -> Reading:
    """A file without a header with other names for its first columns; the rest have none."""
    columns = []
    for column, name in zip(reading.columns, names, strict=False):
        columns.append(column._replace(name=name))
    return replace(reading, form={**reading.form, "names": list(names)}, columns=columns)


def filled(values: Sequence[float]) -> list[float]:
    """A scale with the values that no row happens to have, where its steps are equal."""
    steps = [round(later - value, 6) for value, later in zip(values[:-1], values[1:], strict=True)]
    step = min(steps)
    count = round((values[-1] - values[0]) / step) + 1
    even = [round(values[0] + number * step, 6) for number in range(min(count, MOST_VALUES + 1))]
    if count <= 3 * len(values) and {round(value, 6) for value in values} <= set(even):
        return even
    return list(values)


def middle(values: Sequence[float]) -> float:
    """The lowest value in the upper half of the scale: 3 of 1 to 5."""
    half = (values[0] + values[-1]) / 2
    return next(value for value in values if value >= half and value > values[0])


# --- the lists of items and users ---------------------------------------------------------------


def _users(lists: Sequence[Reading], user: str) -> Reading | None:
    for reading in lists:
        if not USERS_FILE.fullmatch(reading.file) or not reading.columns[0].is_unique:
            continue
        if not reading.has_header:
            return renamed(reading, [user])
        if any(column.name == user for column in reading.columns):
            return reading
    return None


def _add_items(result: Ratings, lists: Sequence[Reading], chosen: str | None) -> None:
    """Set the file of items and its column of titles."""
    item = result.roles.item
    for reading in lists:
        if not ITEMS_FILE.fullmatch(reading.file):
            continue
        title = chosen or _title(reading)
        names = [column.name for column in reading.columns]
        if title not in names:
            result.doubts.append(f"{reading.file} has no column of titles (TITLE=…)")
            continue
        if not reading.has_header:
            place = names.index(title)
            between = [f"column_{number}" for number in range(2, place + 1)]
            result.items = renamed(reading, [item, *between, "title"])
            result.title = "title"
            return
        if item not in names:
            result.doubts.append(f"{reading.file} has no column `{item}`, so no titles are read")
            continue
        result.items = reading
        result.title = title
        return


def _title(reading: Reading) -> str | None:
    """The column of the titles: the one that is named so, or the first one of many texts."""
    if reading.has_header:
        for column in reading.columns[1:]:
            if TITLE.fullmatch(column.name):
                return column.name
    for column in reading.columns[1:]:
        is_text = not column.is_number and not column.date
        if is_text and column.distinct > 0.8 * len(column.texts):
            return column.name
    return None
