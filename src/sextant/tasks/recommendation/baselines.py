"""Baselines of likes and stars: a score that is the sum of a user's and a film's bias."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ...kinds.ratings.rows import catalogue, users_of
from .metrics import as_answers

if TYPE_CHECKING:
    from ... import contracts
    from ...kinds.ratings.columns import Columns


class Pairs(NamedTuple):
    """Users and films of rows of ratings, as places in the catalogue.

    `user` and `item` are (rows); `users` and `items` count the users and films of the catalogue.
    """

    user: np.ndarray
    item: np.ndarray
    users: int
    items: int


def pairs(train: pd.DataFrame, columns: "Columns") -> Pairs:
    """The user and the film of each row of `train`."""
    entries = catalogue(train)
    user = pd.Index(entries["users"]).get_indexer(pd.Index(train[columns.user]))
    item = pd.Index(entries["items"]).get_indexer(pd.Index(train[columns.item]))
    return Pairs(user, item, len(entries["users"]), len(entries["items"]))


def additive(
    train: pd.DataFrame,
    columns: "Columns",
    user_bias: np.ndarray,
    item_bias: np.ndarray,
    name: str,
    transform: Callable[[np.ndarray], np.ndarray],
) -> "contracts.Answer":
    """A baseline whose score is user_bias + item_bias, and its answer `name` is `transform` of it.

    `user_bias` (users) and `item_bias` (items) are in the order of the catalogue of `train`. The
    bias of a user whom `train` does not have is 0.
    """
    entries = catalogue(train)
    user_places = pd.Index(entries["users"])

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        users, _ = users_of(rows, columns)
        place = user_places.get_indexer(pd.Index(users))
        bias = np.where(place < 0, 0.0, user_bias[place])
        return as_answers(
            bias[:, None] + item_bias,
            rows,
            columns,
            entries["items"],
            entries["titles"],
            name,
            transform,
        )

    return answer
