"""What the baselines of likes and stars share: a score for each pair made of one number a user and one a film."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ...kinds.ratings.rows import catalogue, users_of
from .metrics import as_answers

Answer = Callable[[pd.DataFrame], pd.DataFrame]


def places(train: pd.DataFrame, columns: Any) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Of each row the place of its user and of its film in the catalogue, and how many there are of both."""
    known = catalogue(train)
    user = pd.Index(known["users"]).get_indexer(train[columns.user])
    item = pd.Index(known["items"]).get_indexer(train[columns.item])
    return user, item, len(known["users"]), len(known["items"])


def additive(
    train: pd.DataFrame,
    columns: Any,
    user: np.ndarray,
    item: np.ndarray,
    name: str,
    of: Callable[[np.ndarray], np.ndarray],
) -> Answer:
    """Answers `of` user + item; a user that training did not know adds nothing."""
    known = catalogue(train)
    index = pd.Index(known["users"])

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        users, _ = users_of(rows, columns)
        at = index.get_indexer(users)
        own = np.where(at < 0, 0.0, user[at])
        return as_answers(
            own[:, None] + item, rows, columns, known["items"], known["titles"], {name: of}
        )

    return answer
