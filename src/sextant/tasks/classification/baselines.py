"""Baselines of classification: majority class, logistic regression, boosted trees of tables.

A conf may name further ones: the nearest neighbours, a random forest of tables, and of clips a
convolutional net on a picture that has no motion.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ... import trees
from .metrics import SMALLEST, as_answers

MOST_NEIGHBOURS = 15  # of which val chooses the number
FOREST_TREES = 500  # of a random forest
# Of a convolutional net on a picture of a clip: channels by stage, rows of a step, learning rate.
CNN_WIDTHS = (16, 32, 64)
CNN_BATCH = 64
CNN_RATE = 0.003

if TYPE_CHECKING:
    from typing import Protocol

    from torch import Tensor, nn

    from ... import contracts
    from .metrics import Labelled, TargetColumn

    class Table(Labelled, trees.Encoder, Protocol):
        """What the trees read of the encoder of a table."""

    class Clips(Labelled, Protocol):
        """What the nets read of the encoder of clips."""

        def stills(self, rows: pd.DataFrame) -> Mapping[str, Tensor]:
            """The `mean` and the `last` frame of each clip, (rows, channels, size, size)."""


def majority(train: pd.DataFrame, columns: "TargetColumn") -> "contracts.Answer":
    """Predict the most frequent class of `train` for every row.

    The probabilities are the shares of the classes in `train`. Of equally frequent classes, the
    first in sorted order is predicted.
    """
    shares = train[columns.target].value_counts(normalize=True).sort_index()

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = np.tile(shares.to_numpy(float), (len(rows), 1))
        answers = as_answers(probs, shares.index.tolist(), columns.positive)
        return answers.set_axis(rows.index)

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
        return as_answers(probs, model.classes_.tolist(), columns.positive).set_axis(rows.index)

    return answer


def gradient_boosting(
    train: pd.DataFrame, columns: "TargetColumn", encoder: "Table", val: pd.DataFrame
) -> "contracts.Answer":
    """Fit gradient-boosted trees; val chooses their size by the log loss."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def build(leaves: int, count: int) -> Any:
        return HistGradientBoostingClassifier(
            max_leaf_nodes=leaves,
            max_iter=count,
            categorical_features=trees.is_categorical(encoder),
            early_stopping=False,
            random_state=0,
        )

    val_features = trees.features(encoder, val)
    places = pd.Index(encoder.classes).get_indexer(pd.Index(val[columns.target]))

    def log_loss(model: Any) -> float:
        probs = model.predict_proba(val_features)[np.arange(len(val)), places]
        return float(-np.log(np.clip(probs, SMALLEST, 1)).mean())

    # Codes and not labels, so that labels of any type do, and the columns are those of `classes`.
    target = pd.Index(encoder.classes).get_indexer(pd.Index(train[columns.target]))
    model = trees.grown(build, trees.features(encoder, train), target, log_loss)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = model.predict_proba(trees.features(encoder, rows))
        return as_answers(probs, encoder.classes, columns.positive).set_axis(rows.index)

    return answer


def nearest_neighbours(
    train: pd.DataFrame, columns: "TargetColumn", encoder: "Labelled", val: pd.DataFrame
) -> "contracts.Answer":
    """Answer with the classes of the k training rows that are nearest in the flat features.

    Val chooses k by accuracy. A probability is the share of the class among the k, shrunk towards
    equal shares by one row, so that none is 0.
    """
    from sklearn.neighbors import NearestNeighbors

    classes = pd.Index(encoder.classes)
    target = classes.get_indexer(pd.Index(train[columns.target]))
    neighbours = NearestNeighbors(algorithm="brute").fit(encoder.flat(train))

    def probs_of(rows: pd.DataFrame, k: int) -> np.ndarray:
        nearest = neighbours.kneighbors(encoder.flat(rows), k, return_distance=False)
        return _shares(target[nearest], len(classes))

    most = min(MOST_NEIGHBOURS, len(train))
    nearest = neighbours.kneighbors(encoder.flat(val), most, return_distance=False)
    truth = classes.get_indexer(pd.Index(val[columns.target]))
    hits = []
    for k in range(1, most + 1):
        predictions = _shares(target[nearest[:, :k]], len(classes)).argmax(1)
        hits.append((predictions == truth).sum())
    best = 1 + int(np.argmax(hits))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        answers = as_answers(probs_of(rows, best), encoder.classes, columns.positive)
        return answers.set_axis(rows.index)

    return answer


def random_forest(
    train: pd.DataFrame, columns: "TargetColumn", encoder: "Table"
) -> "contracts.Answer":
    """Fit a random forest with scikit-learn's defaults but for the number of trees.

    More trees never make it worse, so that it needs no part to choose anything on.
    """
    from sklearn.ensemble import RandomForestClassifier

    target = pd.Index(encoder.classes).get_indexer(pd.Index(train[columns.target]))
    model = RandomForestClassifier(FOREST_TREES, random_state=0)
    model.fit(trees.features(encoder, train), target)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = model.predict_proba(trees.features(encoder, rows))
        return as_answers(probs, encoder.classes, columns.positive).set_axis(rows.index)

    return answer


def cnn_last_frame(
    train: pd.DataFrame,
    columns: "TargetColumn",
    encoder: "Clips",
    val: pd.DataFrame,
    *,
    max_epochs: int = 10,
) -> "contracts.Answer":
    """Train a convolutional net on the last frame of each clip that a model sees."""
    return _cnn_on_stills("last", train, columns, encoder, val, max_epochs)


def cnn_mean_frame(
    train: pd.DataFrame,
    columns: "TargetColumn",
    encoder: "Clips",
    val: pd.DataFrame,
    *,
    max_epochs: int = 10,
) -> "contracts.Answer":
    """Train a convolutional net on the mean of the frames of each clip that a model sees.

    It shows where something was, but not when.
    """
    return _cnn_on_stills("mean", train, columns, encoder, val, max_epochs)


def _cnn_on_stills(
    name: str,
    train: pd.DataFrame,
    columns: "TargetColumn",
    encoder: "Clips",
    val: pd.DataFrame,
    max_epochs: int,
) -> "contracts.Answer":
    """Train on one picture of each clip; val chooses the epoch by the log loss."""
    import torch

    classes = pd.Index(encoder.classes)

    def batch_of(rows: pd.DataFrame) -> "tuple[Tensor, Tensor]":
        target = classes.get_indexer(pd.Index(rows[columns.target]))
        return encoder.stills(rows)[name], torch.from_numpy(target.astype(np.int64))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _trained_cnn(batch_of(train), batch_of(val), len(classes), max_epochs)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        probs = _log_probs(net, encoder.stills(rows)[name]).exp().double().numpy()
        return as_answers(probs, encoder.classes, columns.positive).set_axis(rows.index)

    return answer


def _trained_cnn(
    train: "tuple[Tensor, Tensor]", val: "tuple[Tensor, Tensor]", classes: int, max_epochs: int
) -> "nn.Module":
    """Three stages of convolution, batch normalisation and pooling, by AdamW on batches of
    CNN_BATCH, with a rate that falls to 0 along half a cosine."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    images, target = train
    layers: list[nn.Module] = []
    n_in = images.shape[1]
    for width in CNN_WIDTHS:
        convolution = nn.Conv2d(n_in, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        n_in = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, classes)]
    net = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(net.parameters(), CNN_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
    best = (np.inf, net)
    for _ in range(max_epochs):
        net.train()
        for rows in torch.randperm(len(images)).split(CNN_BATCH):
            if len(rows) > 1:  # of one row, a normalised channel has no variance
                optimizer.zero_grad()
                F.cross_entropy(net(images[rows]), target[rows]).backward()
                optimizer.step()
        scheduler.step()
        loss = F.nll_loss(_log_probs(net, val[0]), val[1]).item()
        if loss < best[0]:
            best = (loss, copy.deepcopy(net))
    return best[1]


def _log_probs(net: "nn.Module", images: "Tensor") -> "Tensor":
    """The log probabilities of the classes, (rows, classes)."""
    import torch

    net.eval()
    with torch.no_grad():
        return torch.cat([net(chunk).log_softmax(1) for chunk in images.split(CNN_BATCH)])


def _shares(neighbours: np.ndarray, classes: int) -> np.ndarray:
    """Shares of the classes, (rows, classes), among the codes of neighbours, (rows, k)."""
    counts = np.zeros((len(neighbours), classes))
    rows = np.arange(len(neighbours))
    for column in neighbours.T:
        counts[rows, column] += 1
    return (counts + 1 / classes) / (neighbours.shape[1] + 1)


BASELINES: "dict[str, contracts.Fit]" = {
    "majority": majority,
    "logistic_regression": logistic_regression,
    "gradient_boosting": gradient_boosting,
}
FURTHER: "dict[str, contracts.Fit]" = {
    "nearest_neighbours": nearest_neighbours,
    "random_forest": random_forest,
    "cnn_last_frame": cnn_last_frame,
    "cnn_mean_frame": cnn_mean_frame,
}
KINDS = {
    "gradient_boosting": ("tabular",),
    "random_forest": ("tabular",),
    "cnn_last_frame": ("clips",),
    "cnn_mean_frame": ("clips",),
}
