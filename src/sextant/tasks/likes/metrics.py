"""Task likes: will this user like this film?

The answer is a calibrated probability. A film is liked if its rating is `columns.like` or more.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ... import intervals
from ...kinds.ratings.rows import TARGET
from ..recommendation.metrics import OPTIONS as OPTIONS
from ..recommendation.metrics import as_answers, output, requests_of, targets

if TYPE_CHECKING:
    from ...kinds.ratings.encoder import Batch, Encoder

METRICS = {"auroc": "up", "accuracy": "up", "log_loss": "down"}
OUTPUTS = ("log_odds",)

# Newton's method takes 4 steps on the twin's val; the limit ends a loop that does not converge
# because of rounding errors.
NEWTON_STEPS = 50
SMALLEST_STEP = 1e-10
# A slope outside of this range means that val contradicts the ranking, or that it has too few rows.
LARGEST_SLOPE = 100
LEAST_PROBABILITY = 1e-15  # keeps the log loss finite if a probability of 0 or 1 was wrong


def calibrate(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """Slope and offset of the log odds, fitted on val by logistic regression (Platt 1999).

    `log_odds` is (users, items). The loss is convex in both numbers, so that Newton's method needs
    no step size. If the slope is outside of 0..LARGEST_SLOPE, the result is slope 1 and offset 0,
    which change nothing.
    """
    log_odds = output(outputs, "log_odds")[batch.target > 0].double()
    liked = batch.liked.double()
    design = torch.stack([log_odds, torch.ones_like(log_odds)], 1)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    ridge = 1e-9 * torch.eye(2, dtype=torch.float64)  # the Hessian may be singular: one row, say
    for _ in range(NEWTON_STEPS):
        probs = (design @ weights).sigmoid()
        hessian = design.T @ (design * (probs * (1 - probs))[:, None]) + ridge
        step = torch.linalg.solve(hessian, design.T @ (probs - liked))
        weights = weights - step
        if float(step.abs().max()) < SMALLEST_STEP:
            break
    slope, offset = weights.tolist()
    if not 0 < slope < LARGEST_SLOPE:
        slope, offset = 1.0, 0.0
    # Nine digits survive JSON, and hide the last ones, which differ between processors.
    return {"slope": round(slope, 9), "offset": round(offset, 9)}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: "Encoder",
    calibration: Mapping[str, float],
    top_k: int = 10,
) -> pd.DataFrame:
    """User, film, title, `probability` that the film is liked, and `rank`.

    One answer for each row without a rating, and `top_k` for each user who has no such row.
    """

    def probability(log_odds: np.ndarray) -> np.ndarray:
        return _probability(log_odds, calibration)

    return as_answers(
        output(outputs, "log_odds").double().numpy(),
        rows,
        encoder.columns,
        encoder.items,
        encoder.titles,
        "probability",
        probability,
        top_k,
    )


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder") -> dict[str, float]:
    """The metrics of the task, in float64, over all requests of `rows` together."""
    liked = targets(rows, encoder.columns)[TARGET].to_numpy() >= encoder.columns.like
    return _score(answers["probability"].to_numpy(np.float64), liked)


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: "Encoder", metric: str = "auroc"
) -> intervals.Sample:
    """The Sample of a metric over the requests; a bootstrap draws users."""
    truth = targets(rows, encoder.columns)
    liked = truth[TARGET].to_numpy() >= encoder.columns.like
    probs = answers["probability"].to_numpy(np.float64)
    user = truth[encoder.columns.user]
    if metric == "accuracy":
        return intervals.mean((probs >= 0.5) == liked, user)
    if metric == "log_loss":
        return intervals.mean(-np.log(likelihood(probs, liked)), user)
    return intervals.auroc(probs, liked, user)


def watch(outputs: Mapping[str, Tensor], batch: "Batch") -> dict[str, float]:
    """The metrics on val after an epoch, calibrated on val itself, as the answers will be."""
    user, item, _, liked = requests_of(batch)
    log_odds = output(outputs, "log_odds").double().numpy()[user, item]
    return _score(_probability(log_odds, calibrate(outputs, batch)), liked)


def likelihood(probs: np.ndarray, liked: np.ndarray) -> np.ndarray:
    """The probability given to what happened, at least LEAST_PROBABILITY; all are (requests)."""
    return np.clip(np.where(liked, probs, 1 - probs), LEAST_PROBABILITY, 1)


def _probability(log_odds: np.ndarray, calibration: Mapping[str, float]) -> np.ndarray:
    """The calibrated probability of each element of `log_odds`, in float64."""
    odds_against = np.exp(-(calibration["slope"] * log_odds + calibration["offset"]))
    return np.asarray(1 / (1 + odds_against))


def _score(probs: np.ndarray, liked: np.ndarray) -> dict[str, float]:
    return {
        "auroc": intervals.auroc(probs, liked).observed,
        "accuracy": float(((probs >= 0.5) == liked).mean()),
        "log_loss": float(-np.log(likelihood(probs, liked)).mean()),
    }
