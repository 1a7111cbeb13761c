"""Synthetic outliers: rows with each column permuted separately, and how well a score finds them.

Every value of such a row is possible, and the combination is not. They stand in for outliers where
no label says what one is.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from . import intervals

INJECTIONS = 20  # sets of synthetic outliers; a metric is the mean over them
INJECTED_ROWS = 1000  # the largest size of a set, which bounds the time for a large table
SHARE = 0.05  # of outliers among the rows, for the average precision, which depends on it


def with_injections(
    rows: pd.DataFrame,
    features: Sequence[str],
    sets: int = INJECTIONS,
    most: int = INJECTED_ROWS,
) -> pd.DataFrame:
    """The rows, then sets of synthetic outliers, each of at most `most` rows."""
    injections = [_permuted(rows, features, most, seed) for seed in range(sets)]
    return pd.concat([rows, *injections], ignore_index=True)


def _permuted(rows: pd.DataFrame, features: Sequence[str], most: int, seed: int) -> pd.DataFrame:
    """The first `most` rows, with values drawn from all rows, column by column."""
    rng = np.random.default_rng(seed)
    injected = rows.head(most).copy()
    for name in features:
        injected[name] = rows[name].array[rng.permutation(len(rows))[: len(injected)]]
    return injected


def auroc(scores: np.ndarray, rows: int) -> intervals.Sample:
    """The Sample of the area under the ROC curve of the sets against the rows, mean over the sets.

    `scores` has those of `rows` rows first and then INJECTIONS sets of the same size. A row is a
    group, and so are the synthetic outliers at one position of all sets.
    """
    row_scores, injections = scores[:rows], scores[rows:].reshape(INJECTIONS, -1)
    injected = injections.shape[1]
    is_injected = np.repeat([0, 1], [rows, injected])
    areas = []
    for injection in injections:
        areas.append(intervals.auroc(np.concatenate([row_scores, injection]), is_injected))

    def mean_area(weights: np.ndarray) -> float:
        drawn = weights[: rows + injected]  # the weights of the first set are those of each set
        return float(np.mean([area.score(drawn) for area in areas]))

    return intervals.Sample(mean_area, _groups(rows, injected))


def average_precision(scores: np.ndarray, rows: int) -> float:
    """The area under the curve of precision by recall where SHARE of all are outliers.

    `scores` as in `auroc`; the mean over the sets. A set has about as many rows as there are, so
    the synthetic outliers count less than one each: together SHARE of the weight. The area is a sum
    over distinct scores, the gain in recall times the precision, as scikit-learn computes it.
    """
    return precision(scores, rows).observed


def precision(scores: np.ndarray, rows: int) -> intervals.Sample:
    """The Sample of the average precision; `scores` and groups are those of `auroc`."""
    row_scores, injections = scores[:rows], scores[rows:].reshape(INJECTIONS, -1)
    injected = injections.shape[1]
    weight = SHARE / (1 - SHARE) * rows / injected
    shares = np.repeat([1.0, weight], [rows, injected])
    is_injected = np.repeat([0.0, 1.0], [rows, injected])
    sets = []
    for injection in injections:
        both = np.concatenate([row_scores, injection])
        order = np.argsort(-both, kind="stable")
        # The last of each run of equal scores: they are found together.
        ends = np.flatnonzero(np.append(np.diff(both[order]) != 0, True))
        sets.append((order, ends))

    def mean_precision(weights: np.ndarray) -> float:
        drawn = weights[: rows + injected] * shares
        precisions = []
        for order, ends in sets:
            hits = np.cumsum((drawn * is_injected)[order])[ends]
            alarms = np.cumsum(drawn[order])[ends]
            if not hits[-1]:
                return float("nan")
            recall = hits / hits[-1]
            gains = np.diff(recall, prepend=0.0) * hits
            # A run of rows that were not drawn has neither hits nor alarms before the first drawn.
            areas = np.divide(gains, alarms, out=np.zeros_like(gains), where=alarms > 0)
            precisions.append(float(np.sum(areas)))
        return float(np.mean(precisions))

    return intervals.Sample(mean_precision, _groups(rows, injected))


def _groups(rows: int, injected: int) -> np.ndarray:
    """A group for each row, and one for the synthetic outliers at one position of all sets."""
    return np.concatenate([np.arange(rows), np.tile(rows + np.arange(injected), INJECTIONS)])
