"""Baselines of classification: the majority class, and logistic regression on one-hot categories and scaled numbers.

Each is `fit(train, columns) -> answer`, and `answer(rows)` gives what a model of this task gives, in the rows' order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ..tasks.classification import as_answers

Answer = Callable[[pd.DataFrame], pd.DataFrame]

UNKNOWN = "unknown"


def majority(train: pd.DataFrame, columns: Any) -> Answer:
    """Always the most frequent class of `train` (of equals, the first in sorted order), with the shares of `train`."""
    shares = train[columns.target].value_counts(normalize=True).sort_index()

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = np.tile(shares.to_numpy(float), (len(rows), 1))
        return as_answers(probs, shares.index.tolist()).set_axis(rows.index)

    return answer


def logistic_regression(train: pd.DataFrame, columns: Any) -> Answer:
    """Logistic regression (L2, C = 1), fitted by L-BFGS until it stands still.

    A missing number becomes the median, a missing category a level of its own; one that `train` lacks is none.
    """
    transform = ColumnTransformer(
        [
            ("numeric", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(columns.numeric)),
            ("categorical", OneHotEncoder(handle_unknown="ignore"), list(columns.categorical)),
        ]
    )
    model = make_pipeline(transform, LogisticRegression(max_iter=10_000))
    model.fit(_features(train, columns), train[columns.target].to_numpy())

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = model.predict_proba(_features(rows, columns))
        return as_answers(probs, model.classes_.tolist()).set_axis(rows.index)

    return answer


BASELINES: dict[str, Callable[[pd.DataFrame, Any], Answer]] = {
    "majority": majority,
    "logistic_regression": logistic_regression,
}


def _features(rows: pd.DataFrame, columns: Any) -> pd.DataFrame:
    """Numbers as float64 and categories as text, so that 1 and "1" are one level."""
    numeric = rows[list(columns.numeric)].astype(float)
    categories = rows[list(columns.categorical)].astype(object)
    return pd.concat([numeric, categories.where(categories.notna(), UNKNOWN).astype(str)], axis=1)
