"""What each column of a table is, and how its files are written."""

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from ...strict import Strict

if TYPE_CHECKING:
    pass


SPLITS = ("hash",)


class Columns(Strict):
    """What each column of a table is, and how its files are written; `target` is null where no row has a label."""

    names: list[str] | None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    unknown: str | None
    key: str | None
    target: str | None
    ignored: list[str]
    numeric: list[str]
    categorical: list[str]

    @model_validator(mode="after")
    def each_column_has_one_role(self) -> Self:
        for name in self.all:
            if self.all.count(name) > 1:
                raise ValueError(
                    f"`{name}` is named twice; a column is key, target, ignored, numeric or categorical"
                )
            if self.names is not None and name not in self.names:
                raise ValueError(
                    f"`{name}` is not among `names`; name the columns of the file there, in its order"
                )
        return self

    @property
    def features(self) -> list[str]:
        return [*self.numeric, *self.categorical]

    @property
    def all(self) -> list[str]:
        return [
            *filter(None, [self.key]),
            *self.ignored,
            *self.features,
            *filter(None, [self.target]),
        ]
