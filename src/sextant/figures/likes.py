"""Liked or not, to look at: a classifier of pairs, by how much is known of the user, and what its units know."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..data.ratings import TARGET
from ..tasks._recommendation import truth
from . import classification, in_style
from ._recommendation import by_known, units


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any = None,
    train: Any = None,
) -> dict[str, Figure]:
    """The figures by name; `answers` and those of each baseline are to what `rows` asks, in the same order."""
    liked = truth(rows, columns)[TARGET] >= columns.like
    labels = pd.DataFrame({"liked": np.where(liked, "yes", "no")})
    as_classes = {name: _classes(given) for name, given in baselines.items()}
    found = classification.figures(_classes(answers), labels, SimpleNamespace(target="liked"), as_classes)
    return {
        **found,
        "known": by_known({"model": answers, **baselines}, rows, columns, "log loss", _log_loss(columns)),
        **units(model, train),
    }


def _classes(given: pd.DataFrame) -> pd.DataFrame:
    probability = given["probability"].to_numpy()
    return pd.DataFrame({"prediction": np.where(probability >= 0.5, "yes", "no"), "probability": probability})


def _log_loss(columns: Any) -> Any:
    def score(given: pd.DataFrame, questions: pd.DataFrame) -> float:
        liked = questions[TARGET].to_numpy() >= columns.like
        p = given["probability"].to_numpy()
        return float(-np.log(np.clip(np.where(liked, p, 1 - p), 1e-15, 1)).mean())

    return score
