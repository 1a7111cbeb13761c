"""How many stars will this user give this film? And which of the unseen films should come first?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...kinds.ratings.rows import TARGET
from ..recommendation.metrics import OPTIONS, as_answers, output, rank_of, retrieval, truth

__all__ = ["METRICS", "OPTIONS", "answers", "calibrate", "contributions", "score", "watch"]

METRICS = {"rmse": "down", "mae": "down", "recall_at_10": "up", "ndcg_at_10": "up"}
OUTPUTS = ("stars",)


def calibrate(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """Nothing: stars are answered as the net gives them."""
    return {}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Any,
    calibration: Mapping[str, float],
    top_k: int = 10,
) -> pd.DataFrame:
    """`user`, `item`, `title`, `stars`, `rank`: one for each row that asks, `top_k` for each user who asks none.

    Stars are clipped to the scale, the rank is of what they were before.
    """
    columns = encoder.columns
    low, high = columns.values[0], columns.values[-1]
    scores = output(outputs, "stars").double().numpy()
    return as_answers(
        scores,
        rows,
        columns,
        encoder.items,
        encoder.titles,
        {"stars": lambda s: np.clip(s, low, high)},
        top_k,
    )


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> dict[str, float]:
    """The metrics of the task over the pairs that `rows` asks for, in float64: errors pooled over all ratings."""
    columns = encoder.columns
    known = truth(rows, columns)
    stars = known[TARGET].to_numpy(np.float64)
    user, rank = known[columns.user].to_numpy(), answers["rank"].to_numpy()
    return _score(answers["stars"].to_numpy(np.float64), stars, user, rank, stars >= columns.like)


def contributions(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> intervals.Sample:
    """What RMSE is made of: the squared error of each pair, drawn with its user."""
    known = truth(rows, encoder.columns)
    squares = (answers["stars"].to_numpy(np.float64) - known[TARGET].to_numpy(np.float64)) ** 2
    return intervals.root_mean(squares, known[encoder.columns.user])


def watch(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The metrics on val during training."""
    asked = batch.target > 0
    whole, unseen = output(outputs, "stars").double().numpy(), ((batch.known == 0) | asked).numpy()
    user, item = (index.numpy() for index in asked.nonzero(as_tuple=True))
    rank = np.zeros(len(user), int)
    for one, own in zip(*_groups(user), strict=True):
        rank[own] = rank_of(whole[one, item[own]], whole[one, unseen[one]])
    low, high = batch.values[0, 0].item(), batch.values[0, -1].item()
    given = np.clip(whole[user, item], low, high)
    return _score(given, batch.stars.double().numpy(), user, rank, batch.liked.numpy())


def _groups(user: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Each user of a sorted array, and where the rows lie."""
    ones, starts = np.unique(user, return_index=True)
    return ones, np.split(np.arange(len(user)), starts[1:])


def _score(
    stars: np.ndarray, truth: np.ndarray, user: np.ndarray, rank: np.ndarray, liked: np.ndarray
) -> dict[str, float]:
    error = stars - truth
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        **retrieval(user, rank, liked),
    }
