"""Ratings as tensors, a user a row."""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from ..parts import CONTEXT

if TYPE_CHECKING:
    from torch import Tensor
from ..parts import first_row
from .columns import Columns
from .rows import TARGET, catalogue, checked, users_of

UNKNOWN_USER = -1


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
        rows = checked(frame[needed].reset_index(drop=True), columns, unrated=True)
        strange = _indexer(self.items, rows[columns.item]) < 0
        if strange.any():
            raise DataError(
                f"row {first_row(strange)} names {columns.item} {rows[columns.item][strange].iloc[0]}, which training did"
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

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
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
        return self.inputs(
            pd.DataFrame(lines, columns=[self.columns.user, self.columns.item, self.columns.rating])
        )


def _indexer(known: list[int], ids: Any) -> np.ndarray:
    """The place of each id among the known ones, -1 for one that is not there."""
    return pd.Index(known).get_indexer(pd.Index(ids)).astype(np.int64)
