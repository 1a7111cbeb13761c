"""Task outliers: with what probability is a row an outlier?

No label says what an outlier is. The metrics say how well the probability separates rows from
synthetic outliers, which are rows with each column permuted separately: the area under the ROC
curve, and the average precision where 5 % of the rows are outliers.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ... import injection, intervals

if TYPE_CHECKING:
    from ...contracts import Family

METRICS = {"outlier_auroc": "up", "average_precision": "up"}
OUTPUTS = ("outlier",)


class Batch(Protocol):
    """What `watch` reads of a batch: named tensors, of which these are columns of features."""

    numeric: Tensor
    categories: Tensor

    def _replace(self, *, numeric: Tensor, categories: Tensor) -> "Batch": ...


class Columns(Protocol):
    """What the task reads of the `columns` of a kind."""

    key: str | None

    @property
    def features(self) -> list[str]:
        """The columns that the encoder reads."""


class Encoder(Protocol):
    """What the task reads of the encoder of a kind; the baselines read more."""

    columns: Columns


# --- answers ------------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: object) -> dict[str, float]:
    """The threshold of `outlier`: the probability that one val row in twenty exceeds."""
    return {"threshold": threshold(outputs["outlier"].double().numpy())}


def threshold(scores: np.ndarray) -> float:
    """The score that injection.SHARE of the rows exceed."""
    return round(float(np.quantile(scores, 1 - injection.SHARE)), 9)


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Encoder,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """`probability` of each row to be an outlier, and `outlier`: whether it exceeds the threshold.

    The probability holds where one row in twenty is an outlier, and an outlier is a row whose cells
    come together by chance.
    """
    probability = outputs["outlier"].double().numpy()
    return pd.DataFrame(
        {"probability": probability, "outlier": probability > calibration["threshold"]}
    )


def inputs(rows: pd.DataFrame, encoder: Encoder) -> pd.DataFrame:
    """The rows, then sets of synthetic outliers."""
    return injection.with_injections(rows, encoder.columns.features)


def explained(answers: pd.DataFrame, base: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """Return the probability to be an outlier, of which the reasons are sought."""
    return answers["probability"].to_numpy(np.float64)


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """The metrics of the answers to `inputs(rows)`, in float64, each the mean over the sets."""
    return _scores(answers["probability"].to_numpy(np.float64), len(rows))


def _scores(probabilities: np.ndarray, rows: int) -> dict[str, float]:
    return {
        "outlier_auroc": injection.auroc(probabilities, rows).observed,
        "average_precision": injection.average_precision(probabilities, rows),
    }


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "outlier_auroc"
) -> intervals.Sample:
    """The Sample of a metric, of the answers to `inputs(rows)`."""
    probability = answers["probability"].to_numpy(np.float64)
    if metric == "average_precision":
        return injection.precision(probability, len(rows))
    return injection.auroc(probability, len(rows))


def watch(outputs: Mapping[str, Tensor], batch: Batch, net: torch.nn.Module) -> dict[str, float]:
    """The metrics on val after an epoch, with sets of synthetic outliers made of the val rows.

    The sets are the same after each epoch, and others than those of `inputs`.
    """
    family = cast("Family", net)
    rows = outputs["outlier"].double().numpy()
    probabilities = [rows]
    device = next(net.parameters()).device
    with torch.no_grad():
        for numeric, categories in _permuted_sets(batch):
            permuted = batch._replace(numeric=numeric.to(device), categories=categories.to(device))
            probabilities.append(family.predict(permuted)["outlier"].double().cpu().numpy())
    return _scores(np.concatenate(probabilities), len(rows))


def _permuted_sets(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """INJECTIONS times the columns of a batch, each column permuted separately."""
    generator = torch.Generator().manual_seed(0)

    def permuted(columns: Tensor) -> Tensor:
        return columns.gather(0, torch.rand(columns.shape, generator=generator).argsort(0))

    for _ in range(injection.INJECTIONS):
        yield permuted(batch.numeric), permuted(batch.categories)
