"""Baselines of classification: the majority class, and logistic regression on the encoder's flat features.

Each is `fit(train, columns) -> answer`, and `answer(rows)` gives what a model of this task gives, in the rows' order. A
baseline that names `encoder` gets the one that was fitted on the same rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from .metrics import as_answers

Answer = Callable[[pd.DataFrame], pd.DataFrame]


def majority(train: pd.DataFrame, columns: Any) -> Answer:
    """Always the most frequent class of `train` (of equals, the first in sorted order), with the shares of `train`."""
    shares = train[columns.target].value_counts(normalize=True).sort_index()

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = np.tile(shares.to_numpy(float), (len(rows), 1))
        return as_answers(probs, shares.index.tolist()).set_axis(rows.index)

    return answer


def logistic_regression(train: pd.DataFrame, columns: Any, encoder: Any) -> Answer:
    """Logistic regression (L2, C = 1), fitted by L-BFGS until it stands still."""
    model = LogisticRegression(max_iter=10_000)
    model.fit(encoder.flat(train), train[columns.target].to_numpy())

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = model.predict_proba(encoder.flat(rows))
        return as_answers(probs, model.classes_.tolist()).set_axis(rows.index)

    return answer


BASELINES: dict[str, Callable[..., Answer]] = {
    "majority": majority,
    "logistic_regression": logistic_regression,
}
