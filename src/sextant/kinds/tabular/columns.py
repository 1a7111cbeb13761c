"""The block `columns` of conf/dataset/<name>.yaml for a table."""

from collections.abc import Iterable, Sequence
from typing import Literal, Self, TypeAlias

from pydantic import model_validator

from ...errors import DataError
from ..formats import Format, fits_pattern, is_pattern

SPLITS = ("hash",)
COUNTRY = "country"

# What stands in for a missing number: the median of training, the median and a further input that
# says so, or nothing: the row is refused. A missing category is a level of its own, which has to be
# written only for a task that draws missing cells.
Missing: TypeAlias = Literal["median", "indicator", "refuse", "level"]


class Columns(Format):
    """The role of each column of a table, and how its files are written; see Format for the latter.

    key: identifies a row and decides its part; null: the whole row does.
    target: the label; null if rows have no label.
    target_type: whether the target is a class or a number; null: a number if the column holds
        numbers alone, and more than 100 different ones, or more than 20 that are above 30 % of the
        rows.
    positive: the class that `probability` of an answer is about; null: the last in sorted order.
    ignored: neither input nor label.
    numeric, categorical: the features.
    errors: for a numeric column, the column of its measurement errors (standard deviations). It is
        no feature; a family may redraw the numbers within their errors.
    missing: for a numeric column, what a missing number becomes; by default the median. For a
        categorical one, `level`: a missing cell is a level of its own, for every task.
    place: the column that names the country of each row, for a map of the world: one of the others,
        or one without a further role. `country`, where no column is called so, is the key.
    gaps: whether other missing cells stay empty; no conf sets it, but a task that draws them.
    personal: the columns whose values are personal; `make serve LOG=folder` does not keep them.
    test_files: the files that the source reserves for testing, if any. Where they have no labels,
        they are answered and not scored.

    A name with `*`, such as `pixel*`, stands for every column that fits and has no other role.
    """

    key: str | None = None
    target: str | None = None
    ignored: list[str] = []
    numeric: list[str] = []
    categorical: list[str] = []
    errors: dict[str, str] = {}
    missing: dict[str, Missing] = {}
    place: str | None = None
    gaps: bool = False
    personal: list[str] = []
    test_files: list[str] = []
    positive: bool | int | float | str | None = None
    target_type: Literal["class", "number"] | None = None

    @model_validator(mode="after")
    def each_column_has_one_role(self) -> Self:
        for name in self.all:
            if self.all.count(name) > 1:
                raise ValueError(
                    f"`{name}` is named twice; a column is key, target, ignored, numeric or"
                    " categorical, or has the errors of one"
                )
            if self.names is not None and name not in self.names and not is_pattern(name):
                raise ValueError(
                    f"`{name}` is not among `names`; list all columns of the file in `names`, in"
                    " its order"
                )
        for name in self.errors:
            if name not in self.numeric:
                raise ValueError(
                    f"`errors` names `{name}`, which is not numeric; name a column of `numeric`"
                )
        for name in self.personal:
            if name not in self.all:
                raise ValueError(
                    f"`personal` names `{name}`, which has no role; name a column that has one"
                )
        if not self.features:
            raise ValueError("no column is a feature; name some under `numeric` or `categorical`")
        for name, choice in self.missing.items():
            listed = self.categorical if choice == "level" else self.numeric
            if any(_meet(name, other) for other in listed):
                continue
            if choice == "level":
                raise ValueError(
                    f"`missing` has `level` for `{name}`, which is not categorical; choose from:"
                    " median, indicator, refuse"
                )
            raise ValueError(
                f"`missing` names `{name}`, which is not numeric; a missing category is a level"
                " of its own"
            )
        return self

    def joint(self, target_is_number: bool) -> Self:
        """The columns of a task that tells features from targets as little as known cells from
        missing ones: the target is a feature, and what is missing stays empty.

        Only what `missing` says of a column is kept, but for `indicator`.
        """
        roles = {"numeric": list(self.numeric), "categorical": list(self.categorical)}
        if self.target is not None:
            roles["numeric" if target_is_number else "categorical"].append(self.target)
        kept = {name: how for name, how in self.missing.items() if how != "indicator"}
        update = {**roles, "missing": kept, "target": None, "target_type": None, "positive": None}
        return self.model_copy(update={**update, "gaps": True})

    def may_be_empty(self, name: str) -> bool:
        """Whether a missing cell of a feature stays empty; see `gaps`."""
        return self.gaps and name not in self.missing

    @property
    def features(self) -> list[str]:
        """The columns that a model reads, numeric ones first."""
        return [*self.numeric, *self.categorical]

    @property
    def numbers(self) -> list[str]:
        """The columns whose cells are numbers: the numeric ones and their errors."""
        return [*self.numeric, *self.errors.values()]

    @property
    def all(self) -> list[str]:
        """Every column that has a role."""
        names = [*self.ignored, *self.features, *self.errors.values()]
        if self.key is not None:
            names.insert(0, self.key)
        if self.target is not None:
            names.append(self.target)
        if self.place_column is not None and self.place_column not in names:
            names.append(self.place_column)
        return names

    @property
    def place_column(self) -> str | None:
        """The column that names the country of each row; None if there is none."""
        listed = [self.key, self.target, *self.ignored, *self.features, *(self.names or [])]
        if self.place == COUNTRY and self.key is not None and COUNTRY not in listed:
            return self.key
        return self.place

    @property
    def indicators(self) -> list[str]:
        """The numeric columns that have a further input where their number is missing."""
        return [name for name in self.numeric if self.missing.get(name) == "indicator"]

    def resolved(self, names: Iterable[str]) -> Self:
        """The columns with every pattern replaced by those of `names` that fit, in their order.

        Raises DataError for a pattern that none fits, and for a column that two of them fit.
        """
        if not any(is_pattern(name) for name in [*self.all, *self.missing]):
            return self
        present = list(names)
        named = {name for name in self.all if not is_pattern(name) or name in present}
        free = [name for name in present if name not in named]
        roles = {
            "ignored": _resolved(self.ignored, free, present),
            "numeric": _resolved(self.numeric, free, present),
            "categorical": _resolved(self.categorical, free, present),
        }
        chosen = [*roles["ignored"], *roles["numeric"], *roles["categorical"]]
        for name in free:
            if chosen.count(name) > 1:
                raise DataError(
                    f"column `{name}` fits two patterns in the conf; name it, or write narrower"
                    " patterns"
                )
        missing: dict[str, Missing] = {}
        for pattern, choice in self.missing.items():
            for name in [*roles["numeric"], *roles["categorical"]]:
                if name == pattern or fits_pattern(name, pattern):
                    missing[name] = choice
        return self.model_copy(update={**roles, "missing": missing} if self.missing else roles)


def _meet(first: str, second: str) -> bool:
    """Whether two names or patterns may stand for the same column."""
    return first == second or fits_pattern(first, second) or fits_pattern(second, first)


def _resolved(listed: Sequence[str], free: Sequence[str], present: Sequence[str]) -> list[str]:
    """The columns that a list of names and patterns stands for."""
    names: list[str] = []
    for name in listed:
        if not is_pattern(name) or name in present:
            names.append(name)
            continue
        fitting = [column for column in free if fits_pattern(column, name)]
        if not fitting:
            raise DataError(
                f"no column fits `{name}`; found {', '.join(present)[:200]}; correct the pattern in"
                " the conf"
            )
        names += fitting
    return names
