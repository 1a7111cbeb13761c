"""The block `columns` of conf/dataset/<name>.yaml for a table."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ...strict import Strict

SPLITS = ("hash",)


class Columns(Strict):
    """The role of each column of a table, and how its files are written.

    names: the columns of a file without a header, in its order; null if the file has one.
    delimiter: the character between two cells.
    unknown: the text that marks a missing value, in addition to the empty cell; or null.
    key: identifies a row and decides its part; null: the whole row does.
    target: the label; null if rows have no label.
    ignored: neither input nor label.
    numeric, categorical: the features.
    """

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
                    f"`{name}` is named twice; a column is key, target, ignored, numeric or"
                    " categorical"
                )
            if self.names is not None and name not in self.names:
                raise ValueError(
                    f"`{name}` is not among `names`; list all columns of the file in `names`, in"
                    " its order"
                )
        return self

    @property
    def features(self) -> list[str]:
        """The columns that a model reads, numeric ones first."""
        return [*self.numeric, *self.categorical]

    @property
    def all(self) -> list[str]:
        """Every column that has a role."""
        names = [*self.ignored, *self.features]
        if self.key is not None:
            names.insert(0, self.key)
        if self.target is not None:
            names.append(self.target)
        return names
