"""How the files of ratings are written, and what their columns are."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from ...strict import Strict

if TYPE_CHECKING:
    pass


SPLITS = ("hash",)


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
