"""Baselines of classification: the majority class, and logistic regression on flat features."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .metrics import as_answers

if TYPE_CHECKING:
    from ... import contracts
    from .metrics import Labelled, TargetColumn


def majority(train: pd.DataFrame, columns: "TargetColumn") -> "contracts.Answer":
    """Predict the most frequent class of `train` for every row.

    The probabilities are the shares of the classes in `train`. Of equally frequent classes, the
    first in sorted order is predicted.
    """
    shares = train[columns.target].value_counts(normalize=True).sort_index()

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = np.tile(shares.to_numpy(float), (len(rows), 1))
        return as_answers(probs, shares.index.tolist()).set_axis(rows.index)

    return answer


def logistic_regression(
    train: pd.DataFrame, columns: "TargetColumn", encoder: "Labelled"
) -> "contracts.Answer":
    """Fit logistic regression with an L2 penalty, C = 1, by L-BFGS.

    C is scikit-learn's default and is not tuned, so that the baseline needs no part to choose it
    on.
    """
    from sklearn.linear_model import LogisticRegression  # a second, which `check` need not wait for

    # L-BFGS stops when it has converged, far below 10,000 iterations; the default of 100 is too few
    # for wide tables, and scikit-learn would warn.
    model = LogisticRegression(max_iter=10_000)
    model.fit(encoder.flat(train), train[columns.target].to_numpy())

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = model.predict_proba(encoder.flat(rows))
        return as_answers(probs, model.classes_.tolist()).set_axis(rows.index)

    return answer


BASELINES: "dict[str, contracts.Fit]" = {
    "majority": majority,
    "logistic_regression": logistic_regression,
}
