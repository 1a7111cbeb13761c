"""todo: the baselines of the task, each fitted on the same rows as the model.

A baseline is `fit(train, columns) -> answer`, and gets `encoder`, `net` and `val` if its signature
names them. contracts.py (TaskBaselines) describes what it may take from conf.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from .metrics import Columns, as_answers

Answer = Callable[[pd.DataFrame], pd.DataFrame]


def mean(train: pd.DataFrame, columns: Columns) -> Answer:
    """The mean of train, for every row: the trivial baseline."""
    value = float(train[columns.target].mean())

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        return as_answers(np.full(len(rows), value))

    return answer


def linear_regression(train: pd.DataFrame, columns: Columns) -> Answer:
    """Least squares on all other columns."""
    features = [name for name in train.columns if name != columns.target]
    model = LinearRegression().fit(train[features].to_numpy(np.float64), train[columns.target])

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        return as_answers(model.predict(rows[features].to_numpy(np.float64)))

    return answer


BASELINES = {"mean": mean, "linear_regression": linear_regression}  # the trivial one first
