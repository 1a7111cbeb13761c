"""Baselines of likes: the share of liked films, and logistic regression on user and film.

Each is `fit(train, columns) -> answer`; `answer(rows)` has the columns of the task's answers.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.special import expit

from ..recommendation.baselines import additive, pairs

if TYPE_CHECKING:
    from ... import contracts
    from ...kinds.ratings.columns import Columns


def always_like(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """The share of liked films in `train`, for every user and film."""
    share = float((train[columns.rating] >= columns.like).mean())
    _, _, users, items = pairs(train, columns)

    def constant(scores: np.ndarray) -> np.ndarray:
        return np.full_like(scores, share)

    return additive(train, columns, np.zeros(users), np.zeros(items), "probability", constant)


def bias_logistic(train: pd.DataFrame, columns: "Columns") -> "contracts.Answer":
    """log odds = intercept + user bias + film bias.

    Fitted by logistic regression on one-hot users and films, with an L2 penalty, C = 1.
    """
    from sklearn.linear_model import LogisticRegression  # a second, which `check` need not wait for

    user, item, users, items = pairs(train, columns)
    # Two ones in each row: the user's column, and after the users' columns the film's.
    column = np.concatenate([user, users + item])
    row = np.tile(np.arange(len(train)), 2)
    x = csr_matrix((np.ones(len(column)), (row, column)), (len(train), users + items))
    model = LogisticRegression(max_iter=10_000).fit(x, train[columns.rating] >= columns.like)
    biases, intercept = model.coef_[0], model.intercept_[0]
    user_bias, item_bias = biases[:users], intercept + biases[users:]
    return additive(train, columns, user_bias, item_bias, "probability", expit)


BASELINES: "dict[str, contracts.Fit]" = {
    "always_like": always_like,
    "bias_logistic": bias_logistic,
}
