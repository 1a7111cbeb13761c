"""Baselines of stars: the mean of all ratings, and that mean plus a user's and a film's bias.

Each is `fit(train, columns) -> answer`; `answer(rows)` has the columns of the task's answers.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..recommendation.baselines import additive, pairs

if TYPE_CHECKING:
    from ... import contracts
    from ...kinds.ratings.columns import Columns

# The L2 penalty of the biases. It has the effect of five more ratings of each user and film, all
# equal to what the other terms predict.
SHRINKAGE = 5.0
ROUNDS = 50  # of alternating least squares; further rounds change no digit that a metric prints


def global_mean(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """The mean rating of `train`, for every user and film."""
    _, _, users, items = pairs(train, columns)
    mean = float(train[columns.rating].mean())

    def unchanged(scores: np.ndarray) -> np.ndarray:
        return scores

    # The mean is the bias of every film, so that an unknown user gets it too.
    return additive(train, columns, np.zeros(users), np.full(items, mean), "stars", unchanged)


def user_item_bias(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """stars = mean + b_u + b_i, clipped to the scale.

    The biases minimise sum (r - mean - b_u - b_i)^2 + 5 (sum b_u^2 + sum b_i^2) (Koren 2008, eq.
    2), by alternating least squares: each is the shrunk mean of the residuals of the other.
    """
    user, item, users, items = pairs(train, columns)
    mean = float(train[columns.rating].mean())
    residuals = train[columns.rating].to_numpy(float) - mean
    ratings_of_user = np.bincount(user, minlength=users)
    ratings_of_item = np.bincount(item, minlength=items)
    b_u = np.zeros(users)
    for _ in range(ROUNDS):
        # Each bias is the exact minimum for the present value of the other: no step size is needed.
        item_sums = np.bincount(item, residuals - b_u[user], items)
        b_i = item_sums / (ratings_of_item + SHRINKAGE)
        user_sums = np.bincount(user, residuals - b_i[item], users)
        b_u = user_sums / (ratings_of_user + SHRINKAGE)
    lowest, highest = columns.values[0], columns.values[-1]

    def clipped(scores: np.ndarray) -> np.ndarray:
        return np.clip(scores, lowest, highest)

    return additive(train, columns, b_u, mean + b_i, "stars", clipped)


BASELINES: "dict[str, contracts.Fit]" = {
    "global_mean": global_mean,
    "user_item_bias": user_item_bias,
}
