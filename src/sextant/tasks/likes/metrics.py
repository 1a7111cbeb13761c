"""Will this user like this film? The answer is a calibrated probability; liked is what got `columns.like` or more."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ... import intervals
from ...kinds.ratings.rows import TARGET
from ..recommendation.metrics import OPTIONS, as_answers, output, truth

__all__ = ["METRICS", "OPTIONS", "answers", "calibrate", "contributions", "score", "watch"]

METRICS = {"auroc": "up", "accuracy": "up", "log_loss": "down"}
OUTPUTS = ("log_odds",)


def calibrate(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The slope and offset that val likes best: logistic regression of what was liked on the log odds (Platt 1999).

    `log_odds` is (users, items). The loss is convex in both, so Newton's method needs no step size.
    """
    x, y = output(outputs, "log_odds")[batch.target > 0].double(), batch.liked.double()
    design = torch.stack([x, torch.ones_like(x)], 1)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(50):
        p = (design @ weights).sigmoid()
        curve = design.T @ (design * (p * (1 - p))[:, None]) + 1e-9 * torch.eye(
            2, dtype=torch.float64
        )
        step = torch.linalg.solve(curve, design.T @ (p - y))
        weights = weights - step
        if float(step.abs().max()) < 1e-10:
            break
    slope, offset = weights.tolist()
    if not 0 < slope < 100:  # a ranking that val does not bear out is left as it is
        slope, offset = 1.0, 0.0
    return {"slope": round(slope, 9), "offset": round(offset, 9)}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Any,
    calibration: Mapping[str, float],
    top_k: int = 10,
) -> pd.DataFrame:
    """`user`, `item`, `title`, `probability`, `rank`: one a row that asks, `top_k` for a user without such rows."""

    def probability(log_odds: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(calibration["slope"] * log_odds + calibration["offset"])))

    scores = output(outputs, "log_odds").double().numpy()
    return as_answers(
        scores,
        rows,
        encoder.columns,
        encoder.items,
        encoder.titles,
        {"probability": probability},
        top_k,
    )


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> dict[str, float]:
    """The metrics of the task over the pairs that `rows` asks for, pooled, in float64."""
    liked = truth(rows, encoder.columns)[TARGET].to_numpy() >= encoder.columns.like
    return _score(answers["probability"].to_numpy(np.float64), liked)


def contributions(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Any) -> intervals.Sample:
    """What the area under the ROC is made of: each pair's probability, drawn with its user."""
    known = truth(rows, encoder.columns)
    liked = known[TARGET].to_numpy() >= encoder.columns.like
    return intervals.auroc(
        answers["probability"].to_numpy(np.float64), liked, known[encoder.columns.user]
    )


def watch(outputs: Mapping[str, Tensor], batch: Any) -> dict[str, float]:
    """The metrics on val during training, uncalibrated."""
    return _score(
        output(outputs, "log_odds")[batch.target > 0].double().sigmoid().numpy(),
        batch.liked.numpy(),
    )


def _score(probability: np.ndarray, liked: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    own = np.clip(np.where(liked, probability, 1 - probability), 1e-15, 1)
    return {
        "auroc": float(roc_auc_score(liked, probability)),
        "accuracy": float(((probability >= 0.5) == liked).mean()),
        "log_loss": float(-np.log(own).mean()),
    }
