"""Task stars: how many stars will this user give this film, and which films to recommend?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...kinds.ratings.rows import TARGET
from ..recommendation.metrics import (
    CUT,
    as_answers,
    output,
    ranks_in_top,
    requests_of,
    retrieval,
    retrieval_sample,
    targets,
)
from ..recommendation.metrics import OPTIONS as OPTIONS

if TYPE_CHECKING:
    from ...kinds.ratings.encoder import Batch, Encoder

METRICS = {"rmse": "down", "mae": "down", "recall_at_10": "up", "ndcg_at_10": "up"}
OUTPUTS = ("stars",)


def calibrate(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """Nothing: the stars that the net predicts are not corrected."""
    return {}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: "Encoder",
    calibration: Mapping[str, float],
    top_k: int = 10,
) -> pd.DataFrame:
    """User, film, title, `stars`, and `rank`.

    One answer for each row without a rating, and `top_k` for each user who has no such row. Stars
    are clipped to the scale; ranks are those of the unclipped stars, which differ where several
    films would get the highest rating.
    """
    lowest, highest = encoder.columns.values[0], encoder.columns.values[-1]

    def clipped(stars: np.ndarray) -> np.ndarray:
        return np.clip(stars, lowest, highest)

    return as_answers(
        output(outputs, "stars").double().numpy(),
        rows,
        encoder.columns,
        encoder.items,
        encoder.titles,
        "stars",
        clipped,
        top_k,
    )


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> dict[str, float]:
    """The metrics of the task, in float64; the errors are averaged over all requests of `rows`."""
    columns = encoder.columns
    truth = targets(rows, columns)
    stars = truth[TARGET].to_numpy(np.float64)
    user = truth[columns.user].to_numpy()
    preds = answers["stars"].to_numpy(np.float64)
    return _score(preds, stars, user, answers["rank"].to_numpy(), stars >= columns.like)


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder", metric: str = "rmse"
) -> intervals.Sample:
    """The Sample of a metric over the requests; a bootstrap draws users."""
    truth = targets(rows, encoder.columns)
    stars = truth[TARGET].to_numpy(np.float64)
    user = truth[encoder.columns.user]
    if metric in ("recall_at_10", "ndcg_at_10"):
        liked = stars >= encoder.columns.like
        return retrieval_sample(metric, user.to_numpy(), answers["rank"].to_numpy(), liked)
    errors = answers["stars"].to_numpy(np.float64) - stars
    if metric == "mae":
        return intervals.mean(np.abs(errors), user)
    return intervals.root_mean(errors**2, user)


def watch(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """The metrics on val after an epoch."""
    scores = output(outputs, "stars").numpy()
    user, item, stars, liked = requests_of(batch)
    unrated = (batch.observed.numpy() == 0) | (batch.target.numpy() != 0)
    rank = ranks_in_top(CUT, scores, unrated, user, item)
    lowest, highest = batch.values[0, 0].item(), batch.values[0, -1].item()
    preds = np.clip(scores[user, item].astype(np.float64), lowest, highest)
    return _score(preds, stars, user, rank, liked)


def _score(
    preds: np.ndarray, stars: np.ndarray, user: np.ndarray, rank: np.ndarray, liked: np.ndarray
) -> dict[str, float]:
    errors = preds - stars
    return {
        "rmse": float(np.sqrt((errors**2).mean())),
        "mae": float(np.abs(errors).mean()),
        **retrieval(user, rank, liked),
    }
