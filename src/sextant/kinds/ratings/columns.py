"""The block `columns` of conf/dataset/<name>.yaml for ratings: columns, scale and file format.

The ratings are in one or more files; films (items) with their titles, and users, may be listed in
files of their own.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ...strict import Strict
from ..formats import Format

# By a hash of the pair (user, item). A file may fix the test part in addition (`test_files`).
SPLITS = ("hash",)

LARGEST_SCALE = 32_767  # values; codes are whole numbers of at most 16 bits


class Table(Format):
    """The format of one file.

    `names` are the names of its first columns, in their order, if the file has no header. Such a
    file is not CSV: where `quoting` is not set, a quotation mark is a character like any other.
    """

    NAMES_MAY_END_EARLY: ClassVar[bool] = True

    @property
    def as_written(self) -> Self:
        """The format by which the file is read."""
        # A title may begin with a quotation mark, which would otherwise swallow the lines up to
        # the next one.
        if self.names is None or "quoting" in self.model_fields_set:
            return self
        return self.model_copy(update={"quoting": "none"})


class RatingsTable(Table):
    """The format of the files of ratings.

    `layout` is `rows`, one rating in each row, or `matrix`, one user in each row and one item in
    each column, named by the header. Columns in `ignored` are no items.
    """

    layout: Literal["rows", "matrix"] = "rows"
    ignored: list[str] = []


class Range(Strict):
    """A scale in equal steps, from its lowest to its highest value."""

    lowest: float
    highest: float
    step: Annotated[float, Field(gt=0)]

    def values(self) -> list[float]:
        """All values, each the float that its decimals are read as."""
        count = round((self.highest - self.lowest) / self.step)
        values = []
        for index in range(min(count, LARGEST_SCALE) + 1):
            values.append(round(self.lowest + index * self.step, 9))
        return values


def _all_values(values: object) -> object:
    """The values of a scale that is written as a range."""
    if isinstance(values, dict):
        return Range.model_validate(values).values()
    return values


def _as_list(values: object) -> object:
    return values if isinstance(values, list) else [values]


Values = Annotated[
    list[float],
    BeforeValidator(_all_values),
    Field(min_length=2, max_length=LARGEST_SCALE),
]
Numbers = Annotated[list[float], BeforeValidator(_as_list)]


class Columns(Strict):
    """The block `columns` of ratings.

    `user`, `item`, `rating` and `title` are names of columns. `values` are all possible ratings
    in ascending order, as a list or as `{lowest: -10, highest: 10, step: 0.01}`; a rating of `like`
    or more is a like. `files` hold the ratings, `test_files` those of the test part, where the
    source fixes it.

    `items_file` lists the items with their titles; without one the items are those of the ratings,
    and each id is its own title. `users_file` lists the users; without one they are those of the
    ratings. `unlisted` says whether ratings of items that `items_file` lacks are kept, with the id
    as title, left out, or refused.
    `unrated` are ratings that mean that there is none. `repeated` says which rating of a pair
    (user, item) stays if there are several, by their order in the files: `last` by the column
    `time`, if it is named; `mean` takes the value that is nearest to their mean.
    """

    user: str
    item: str
    rating: str
    title: str = "title"
    values: Values
    like: float
    ratings: RatingsTable = RatingsTable()
    files: Annotated[list[str], Field(min_length=1)]
    test_files: list[str] = []
    items: Table = Table()
    items_file: str | None = None
    users: Table = Table()
    users_file: str | None = None
    unlisted: Literal["keep", "leave_out", "refuse"] = "keep"
    unrated: Numbers = []
    repeated: Literal["refuse", "first", "last", "mean"] = "refuse"
    time: str | None = None

    @model_validator(mode="after")
    def like_is_within_sorted_values(self) -> Self:
        is_sorted = self.values == sorted(set(self.values))
        if not is_sorted or not self.values[0] < self.like <= self.values[-1]:
            lowest, highest = self.values[0], self.values[-1]
            scale = f"values {self.values}"
            if len(self.values) > 20:
                scale = f"{len(self.values):,} values from {lowest:g} to {highest:g}"
            raise ValueError(
                "`values` must be sorted, and `like` above the lowest and at most the highest; got"
                f" {scale} and like {self.like:g}"
            )
        return self

    @model_validator(mode="after")
    def rules_fit(self) -> Self:
        rated = sorted(set(self.unrated) & set(self.values))
        if rated:
            raise ValueError(
                f"`unrated` and `values` both have {rated[0]:g}; expected each number in one of"
                " them"
            )
        if self.time is not None and self.repeated != "last":
            raise ValueError(
                f"`time` is `{self.time}`, which only `repeated: last` reads; set it, or remove"
                " `time`"
            )
        return self

    @property
    def needed(self) -> list[str]:
        """The columns that a file of ratings must have, and that a caller sends."""
        return [self.user, self.item, self.rating]

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations check."""
        names = list(self.needed)
        if self.ratings.layout == "rows":
            names = list(self.ratings.names or self.needed)
            if self.time is not None and self.time not in names:
                names.append(self.time)
        if self.title not in names:
            names.append(self.title)
        return names


def input_file(columns: Columns, folder: Path) -> Path | None:
    """The first file of ratings, which `make predict` takes as it is; not the catalogue."""
    path = folder / columns.files[0]
    return path if path.is_file() else None
