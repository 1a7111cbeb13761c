"""Baselines of outliers: a constant, the score of a map alone, and three detectors of scikit-learn.

Each is `fit(train, columns, encoder) -> answer`. Features are scaled by their range in training, as
a map reads them. A detector gives a score and no probability: `probability` is then a rising
function of the score, of which the metrics read the order alone. A threshold is the score that one
training row in twenty exceeds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch

from ... import injection
from ...families import maps
from . import metrics

if TYPE_CHECKING:
    from ... import contracts

NEIGHBOURS = 20  # of the local outlier factor: scikit-learn's default


class Encoder(metrics.Encoder, Protocol):
    """What the baselines read of the encoder of a kind."""

    @property
    def scale(self) -> dict[str, tuple[float, float]]:
        """Low end and span of each column of `wide`; distances are those of (x - low) / span."""

    def wide(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as numbers in upstream units, each level of a category as 0 or 1."""


def constant(train: pd.DataFrame, columns: metrics.Columns, encoder: Encoder) -> "contracts.Answer":
    """The share of outliers that the metrics assume, for every row; none is an outlier."""

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"probability": injection.SHARE, "outlier": False}, index=rows.index)

    return answer


def som(
    train: pd.DataFrame,
    columns: metrics.Columns,
    encoder: Encoder,
    *,
    rows: int = 10,
    cols: int = 10,
    sigma: float = 5.0,
    sigma_end: float = 0.5,
    epochs: int = 100,
) -> "contracts.Answer":
    """The outlier score of a self-organizing map: how surprising a row is at its nearest unit.

    The settings are those of conf/model/som.yaml, whose last epoch is nearly always the kept one.
    """
    x = torch.from_numpy(_scaled(train, encoder)).float()
    codebook, variance = maps.batch_map(x, rows, cols, sigma, sigma_end, epochs)

    def scores(table: pd.DataFrame) -> np.ndarray:
        features = torch.from_numpy(_scaled(table, encoder)).float()
        unit = torch.cdist(features, codebook).argmin(1)
        surprise = maps.surprise(features, codebook[unit], variance[unit])
        return surprise.double().numpy()

    return _answering(scores, scores(train))


def isolation_forest(
    train: pd.DataFrame, columns: metrics.Columns, encoder: Encoder
) -> "contracts.Answer":
    """How few random splits isolate a row (Liu, Ting and Zhou, ICDM 2008); 200 trees."""
    from sklearn.ensemble import IsolationForest  # a second, which `check` need not wait for

    model = IsolationForest(n_estimators=200, random_state=0).fit(_scaled(train, encoder))

    def scores(rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(-model.score_samples(_scaled(rows, encoder)))

    return _answering(scores, scores(train))


def local_outlier_factor(
    train: pd.DataFrame, columns: metrics.Columns, encoder: Encoder
) -> "contracts.Answer":
    """How much sparser the training rows are around a row than around its neighbours.

    Breunig, Kriegel, Ng and Sander, "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000.
    """
    from sklearn.neighbors import LocalOutlierFactor

    neighbours = min(NEIGHBOURS, len(train) - 1)
    model = LocalOutlierFactor(n_neighbors=neighbours, novelty=True).fit(_scaled(train, encoder))

    def scores(rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(-model.score_samples(_scaled(rows, encoder)))

    return _answering(scores, scores(train))


def knn_distance(
    train: pd.DataFrame, columns: metrics.Columns, encoder: Encoder
) -> "contracts.Answer":
    """The distance to the nearest training row."""
    from sklearn.neighbors import NearestNeighbors

    x = _scaled(train, encoder)
    model = NearestNeighbors(n_neighbors=1).fit(x)
    # The nearest row of a training row is itself; the second is the nearest other row.
    of_train, _ = NearestNeighbors(n_neighbors=min(2, len(x))).fit(x).kneighbors(x)

    def scores(rows: pd.DataFrame) -> np.ndarray:
        return np.asarray(model.kneighbors(_scaled(rows, encoder))[0][:, 0])

    return _answering(scores, of_train[:, -1])


BASELINES: "dict[str, contracts.Fit]" = {
    "constant": constant,
    "som": som,
    "isolation_forest": isolation_forest,
    "local_outlier_factor": local_outlier_factor,
    "knn_distance": knn_distance,
}


def _scaled(rows: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """Rows in the scale of the encoder, (rows, features) in float64."""
    low, span = np.array(list(encoder.scale.values())).T
    return np.asarray((encoder.wide(rows).to_numpy() - low) / span)


def _answering(
    scores: Callable[[pd.DataFrame], np.ndarray], of_train: np.ndarray
) -> "contracts.Answer":
    """Answers by the scores of rows; `of_train`, (train rows), sets the threshold."""
    threshold = metrics.threshold(of_train)
    width = float(of_train.std()) or 1.0

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        above = (scores(rows) - threshold) / width
        # x / (1 + |x|) keeps the order of far scores, which a logistic function would round to 1.
        probability = 0.5 + 0.5 * above / (1 + np.abs(above))
        table = pd.DataFrame({"probability": probability, "outlier": above > 0})
        return table.set_axis(rows.index)

    return answer
