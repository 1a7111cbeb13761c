"""Baselines of likes: always like, and logistic regression on who rates and what is rated.

Each is `fit(train, columns) -> answer`, and `answer(rows)` gives what a model of this task gives.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ..recommendation.baselines import Answer, additive, places


def always_like(train: pd.DataFrame, columns: Any) -> Answer:
    """The share of liked films in `train`, for every film and user alike."""
    share = float((train[columns.rating] >= columns.like).mean())
    _, _, users, items = places(train, columns)
    return additive(
        train,
        columns,
        np.zeros(users),
        np.zeros(items),
        "probability",
        lambda s: np.full_like(s, share),
    )


def bias_logistic(train: pd.DataFrame, columns: Any) -> Answer:
    """log odds = intercept + bias of the user + bias of the film: logistic regression on both, one-hot (L2, C = 1)."""
    user, item, users, items = places(train, columns)
    pairs = np.concatenate([user, users + item])  # one-hot: two ones a row
    each = np.tile(np.arange(len(train)), 2)
    x = csr_matrix((np.ones(len(pairs)), (each, pairs)), (len(train), users + items))
    model = LogisticRegression(max_iter=10_000).fit(x, train[columns.rating] >= columns.like)
    biases, intercept = model.coef_[0], model.intercept_[0]
    return additive(
        train, columns, biases[:users], intercept + biases[users:], "probability", expit
    )


BASELINES: dict[str, Callable[[pd.DataFrame, Any], Answer]] = {
    "always_like": always_like,
    "bias_logistic": bias_logistic,
}
