"""Baselines of stars: the mean of all ratings, and that mean with a bias of the user and one of the film.

Each is `fit(train, columns) -> answer`, and `answer(rows)` gives what a model of this task gives.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ..recommendation.baselines import Answer, additive, places

SHRINKAGE = 5.0  # ratings of 0 that are added to those of each user and film
ROUNDS = 50  # after which nothing moves any more that a metric shows


def global_mean(train: pd.DataFrame, columns: Any) -> Answer:
    """The mean of `train`, for every film and user alike."""
    _, _, users, items = places(train, columns)
    mean = float(train[columns.rating].mean())
    return additive(train, columns, np.zeros(users), np.full(items, mean), "stars", lambda s: s)


def user_item_bias(train: pd.DataFrame, columns: Any) -> Answer:
    """mean + b_u + b_i, clipped to the scale: min over b of sum (r - mean - b_u - b_i)^2 + 5 (sum b_u^2 + sum b_i^2).

    Solved by turns, each bias the shrunk mean of what the others leave (Koren 2008, eq. 2).
    """
    user, item, users, items = places(train, columns)
    mean = float(train[columns.rating].mean())
    left = train[columns.rating].to_numpy(float) - mean
    b_u, n_u, n_i = (
        np.zeros(users),
        np.bincount(user, minlength=users),
        np.bincount(item, minlength=items),
    )
    for _ in range(ROUNDS):
        b_i = np.bincount(item, left - b_u[user], items) / (n_i + SHRINKAGE)
        b_u = np.bincount(user, left - b_i[item], users) / (n_u + SHRINKAGE)
    low, high = columns.values[0], columns.values[-1]
    return additive(train, columns, b_u, mean + b_i, "stars", lambda s: np.clip(s, low, high))


BASELINES: dict[str, Callable[[pd.DataFrame, Any], Answer]] = {
    "global_mean": global_mean,
    "user_item_bias": user_item_bias,
}
