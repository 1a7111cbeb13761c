"""Ratings as tensors: one row per user, one column per film."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from ..formats import trimmed
from ..parts import CONTEXT
from ..remarks import Remarks
from ..tables import first_place, numbered, without_surplus
from .columns import Columns
from .rows import (
    TARGET,
    Ids,
    catalogue,
    checked_ratings,
    ids,
    single,
    typed_ids,
    users_of,
)

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN_USER = -1  # the position of a user that the catalogue lacks
BYTE_SCALE = 255  # values whose codes fit into a byte, beside 0 for no rating


class Batch(NamedTuple):
    """One row per user. A code is 0 for no rating, 1 for the lowest of `values`, 2 for the next, …

    user: (users,) int64, position in the catalogue, or UNKNOWN_USER.
    observed: (users, items) uint8, codes of the known ratings: what the net may read. A scale of
    more than 255 values has codes of int16.
    target: as `observed`, codes of the ratings to predict; in train the same as `observed`.
    values: (users, levels) float32, the stars of each code; the same in every row.
    like: (users,) float32, from how many stars on a film is liked; the same in every row.
    """

    user: "Tensor"
    observed: "Tensor"
    target: "Tensor"
    values: "Tensor"
    like: "Tensor"

    @property
    def stars(self) -> "Tensor":
        """(pairs,) float32: the stars of all ratings in `target`, user by user."""
        return self.values[0][self.target[self.target > 0].long() - 1]

    @property
    def liked(self) -> "Tensor":
        """(pairs,) bool: which of `stars` are a like."""
        return self.stars >= self.like[0]


class Encoder:
    """Turns rows into a Batch; the catalogue fixes the column of each film."""

    def __init__(self, columns: Columns, items: Ids, titles: list[str], users: Ids):
        self.columns = columns
        self.items = items
        self.titles = titles
        self.users = users

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Take the catalogue that the training rows carry."""
        return cls(columns, **catalogue(rows))

    def state(self) -> dict[str, Any]:
        """The catalogue, as JSON; it contains no ratings."""
        return {"items": self.items, "titles": self.titles, "users": self.users}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, **state)

    @property
    def sizes(self) -> dict[str, int | float | list[float]]:
        """What a family's constructor may name before its `*`."""
        return {
            "users": len(self.users),
            "items": len(self.items),
            "values": self.columns.values,
            "like": self.columns.like,
        }

    def encode(self, rows: pd.DataFrame) -> Batch:
        """One row per user, in order of first appearance."""
        import torch  # takes two seconds, which pull, validate and prepare do not need

        columns = self.columns
        users, user_rows = users_of(rows, columns)
        item_columns = _positions(self.items, rows[columns.item])
        shape = (len(users), len(self.items))
        observed = self._codes(rows[columns.rating], user_rows, item_columns, shape)
        if TARGET in rows:
            target = self._codes(rows[TARGET], user_rows, item_columns, shape)
        else:
            target = np.zeros(shape, observed.dtype)
        return Batch(
            user=torch.from_numpy(_positions(self.users, users)),
            observed=torch.from_numpy(observed),
            target=torch.from_numpy(target),
            values=torch.tensor(columns.values, dtype=torch.float32).expand(len(users), -1),
            like=torch.tensor(columns.like, dtype=torch.float32).expand(len(users)),
        )

    def _codes(
        self,
        column: pd.Series,
        user_rows: np.ndarray,
        item_columns: np.ndarray,
        shape: tuple[int, int],
    ) -> np.ndarray:
        """(users, items): the code of each rating in the column, 0 if there is none."""
        stars = column.to_numpy(float)
        rated = ~np.isnan(stars)
        is_byte = len(self.columns.values) <= BYTE_SCALE
        codes = np.zeros(shape, np.uint8 if is_byte else np.int16)
        levels = np.searchsorted(self.columns.values, stars[rated]) + 1
        codes[user_rows[rated], item_columns[rated]] = levels
        return codes

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Input rows as `encode` takes them; other columns of the upstream file are dropped.

        Ids, marks and numbers are read by the rules of training. Raises DataError for a missing
        column, no rows, a missing id, an invalid rating, a pair that occurs twice, and a
        film that the catalogue lacks. Warns of rows that a rule leaves out.
        """
        columns = self.columns
        # The other columns of a file of ratings, and those of a prepared part, give no warning.
        allowed = [*columns.all, TARGET, CONTEXT]
        frame = without_surplus(frame, columns.needed, allowed)
        rows = numbered(trimmed(frame, columns.ratings))
        rows = self._checked(rows[rows.notna().any(axis=1)])
        unlisted = _positions(self.items, rows[columns.item]) < 0
        if unlisted.any():
            item = rows[columns.item].iloc[int(unlisted.argmax())]
            raise DataError(
                f"{first_place(rows, unlisted)} has {columns.item} {item}, which is not one of the"
                f" {len(self.items):,} in training ({self._shown_items()}); remove the row"
            )
        return rows[columns.needed].reset_index(drop=True)

    def _checked(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows with ids as training has them, float64 ratings, and one row of each pair."""
        columns = self.columns
        if frame.empty:
            raise DataError("no rows to answer; send some ratings of at least one user")
        read = {
            columns.user: ids(frame[columns.user], self.users),
            columns.item: ids(frame[columns.item], self.items),
        }
        left_out: dict[str, int] = {}
        rows = single(frame.assign(**read), columns, left_out)
        for reason, count in left_out.items():
            warnings.warn(f"left out {count:,} {reason}", stacklevel=4)
        rows = checked_ratings(rows, columns, allow_missing=True)
        users = typed_ids(rows[columns.user], self.users)
        items = typed_ids(rows[columns.item], self.items)
        return rows.assign(**{columns.user: users, columns.item: items})

    def _shown_items(self) -> str:
        """Which ids the items have, for a message."""
        if isinstance(self.items[0], str):
            return f"such as {self.items[0]}"
        return f"{min(self.items)} to {max(self.items)}"

    def remarks(self, rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
        """What is unusual about the user of each answer: that no rating of the user is known."""
        user = self.columns.user
        ratings = rows.groupby(user)[self.columns.rating].count()
        is_unknown = answers[user].isin(ratings.index[ratings == 0]).to_numpy()
        remarks = Remarks(len(answers))
        for answer in np.flatnonzero(is_unknown):
            name = answers[user].iloc[answer]
            text = f"no rating is known of {user} {name}: answered as the average user"
            remarks.add(answer, text)
        return remarks.texts()

    def schema(self) -> list[tuple[str, str, bool]]:
        """The input columns: name, MLflow type, whether it is required.

        A row with a rating is known; a row without one (NaN) asks for that film.
        """
        columns = self.columns
        return [
            (columns.user, _mlflow_type(self.users), True),
            (columns.item, _mlflow_type(self.items), True),
            (columns.rating, "double", True),
        ]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them, in the types of `schema`."""
        columns = self.columns
        return pd.DataFrame(
            {
                columns.user: _as_listed(rows[columns.user], self.users),
                columns.item: _as_listed(rows[columns.item], self.items),
                columns.rating: rows[columns.rating].astype(np.float64),
            }
        )

    def example(self) -> pd.DataFrame:
        """A synthetic input example: two users with ratings; the second also asks for a film."""
        first, second, third = (self.items * 3)[:3]  # also if there are fewer than three films
        low, high = self.columns.values[0], self.columns.values[-1]
        lines = [(1, first, high), (1, second, low), (2, first, high), (2, third, np.nan)]
        return self.inputs(pd.DataFrame(lines, columns=self.columns.needed))


def _is_text(listed: Ids) -> bool:
    return bool(listed) and isinstance(listed[0], str)


def _mlflow_type(listed: Ids) -> str:
    return "string" if _is_text(listed) else "long"


def _as_listed(column: pd.Series, listed: Ids) -> pd.Series:
    """Ids in the type of the listed ones."""
    return column.astype(str).astype(object) if _is_text(listed) else column.astype(np.int64)


def _positions(listed: Ids, wanted: Sequence[int] | np.ndarray | pd.Series) -> np.ndarray:
    """The position of each id in the list, -1 for an id that the list lacks."""
    return pd.Index(listed).get_indexer(pd.Index(wanted)).astype(np.int64)
