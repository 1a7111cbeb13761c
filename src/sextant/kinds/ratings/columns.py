"""The block `columns` of conf/dataset/<name>.yaml for ratings: columns, scale and file format.

The ratings are in one or more files, films (items) with their titles in another, users in a third.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from ...strict import Strict

# By a hash of the pair (user, item). A file may fix the test part in addition (`test_files`).
SPLITS = ("hash",)


class Table(Strict):
    """The format of one file.

    `names` are the names of its first columns, in their order, if the file has no header; null if
    it has one.
    """

    delimiter: Annotated[str, Field(min_length=1)]
    encoding: str
    names: Annotated[list[str], Field(min_length=1)] | None


class Columns(Strict):
    """The block `columns` of ratings.

    `user`, `item`, `rating` and `title` are names of columns. `values` are all possible ratings
    in ascending order; a rating of `like` or more is a like. `files` hold the ratings,
    `test_files` those of the test part, where the source fixes it.
    """

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
    def like_is_within_sorted_values(self) -> Self:
        is_sorted = self.values == sorted(set(self.values))
        if not is_sorted or not self.values[0] < self.like <= self.values[-1]:
            raise ValueError(
                "`values` must be sorted, and `like` above the lowest and at most the highest; got"
                f" values {self.values} and like {self.like:g}"
            )
        return self

    @property
    def needed(self) -> list[str]:
        """The columns that a file of ratings must have, and that a caller sends."""
        return [self.user, self.item, self.rating]

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations check."""
        names = list(self.ratings.names or self.needed)
        if self.title not in names:
            names.append(self.title)
        return names


def input_file(columns: Columns, folder: Path) -> Path | None:
    """The first file of ratings, which `make predict` takes as it is; not the catalogue."""
    path = folder / columns.files[0]
    return path if path.is_file() else None
