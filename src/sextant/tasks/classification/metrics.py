"""Metrics of classification: predict one of several classes, with calibrated probabilities."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals

METRICS = {"accuracy": "up", "auroc": "up", "log_loss": "down", "brier": "down"}
OUTPUTS = ("logits",)  # (rows, classes)

NEWTON_STEPS = 50  # an upper bound; a handful are enough unless the start is far away
# Probabilities are clipped to this in the log loss. Without it, one mistake of probability 1 makes
# it infinite, which JSON cannot hold.
SMALLEST = 1e-15

Label: TypeAlias = bool | int | float | str


class TargetColumn(Protocol):
    """What classification reads of `columns`."""

    @property
    def target(self) -> str:
        """The name of the column of labels."""


class Labelled(Protocol):
    """What classification reads of an encoder."""

    @property
    def columns(self) -> TargetColumn: ...

    @property
    def classes(self) -> Sequence[Label]:
        """The labels, sorted; a net's class i is the label at i."""

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Standardised features, (rows, features) in float64, for the baselines."""


class Targets(Protocol):
    """What classification reads of a batch."""

    @property
    def target(self) -> Tensor:
        """The class numbers, (rows,) in int64."""


def calibrate(outputs: Mapping[str, Tensor], batch: Targets) -> dict[str, float]:
    """Fit the temperature T of softmax(logits / T) on val.

    T minimises the summed cross entropy of logits / T, plus (1/T - 1)^2 / 2. The second term weighs
    as little as one row. Without it, a val part without a wrong prediction would give T = 0, and
    the first wrong row later would have an unbounded loss. Source, without the second term: Guo et
    al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    logits = outputs["logits"].double()
    target_logits = logits.gather(1, batch.target[:, None])[:, 0]
    # The objective is strictly convex in 1/T, so Newton's method finds its only minimum.
    inverse = 1.0
    for _ in range(NEWTON_STEPS):
        probs = (inverse * logits).softmax(1)
        mean = (probs * logits).sum(1)
        gradient = (mean - target_logits).sum() + (inverse - 1)
        curvature = ((probs * logits**2).sum(1) - mean**2).sum() + 1
        step = float(gradient / curvature)
        inverse = min(max(inverse - step, 0.05), 20.0)
        if abs(step) < 1e-10:
            break
    # Rounded, because the last digits of a float64 differ between processors.
    return {"temperature": round(1 / inverse, 9)}


def probabilities(outputs: Mapping[str, Tensor], calibration: Mapping[str, float]) -> np.ndarray:
    """Return softmax(logits / temperature), (rows, classes) in float64."""
    # Without calibration, as in tests, the temperature is 1.
    temperature = calibration.get("temperature", 1.0)
    return (outputs["logits"].double() / temperature).softmax(1).numpy()


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Labelled,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """Return one answer per row; see `as_answers` for the columns."""
    return as_answers(probabilities(outputs, calibration), encoder.classes)


def as_answers(probs: np.ndarray, classes: Sequence[Label]) -> pd.DataFrame:
    """Return answers from the class probabilities, (rows, classes), of a net or a baseline.

    `prediction` is the most probable class. With two classes, `probability` is that of the last
    one. With more, it is that of the predicted one, and each class has a column
    `probability_<class>`.
    """
    columns: dict[str, pd.Series | np.ndarray] = {
        "prediction": pd.Series(pd.Index(classes).take(probs.argmax(1)))
    }
    if len(classes) == 2:
        columns["probability"] = probs[:, 1]
    else:
        columns["probability"] = probs.max(1)
        for i, label in enumerate(classes):
            columns[f"probability_{label}"] = probs[:, i]
    return pd.DataFrame(columns)


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Labelled) -> dict[str, float]:
    """Return the metrics of the answers to labelled `rows`; see `scores`."""
    return scores(answers, rows[encoder.columns.target], encoder.classes)


def contributions(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Labelled) -> intervals.Sample:
    """Return the Sample of accuracy: whether each row is predicted correctly."""
    correct = answers["prediction"].to_numpy() == rows[encoder.columns.target].to_numpy()
    return intervals.mean(correct)


def watch(outputs: Mapping[str, Tensor], batch: Targets) -> dict[str, float]:
    """Return the metrics on val during training, calibrated on val itself.

    An epoch is chosen by what will be answered. Label smoothing, for example, puts a floor under
    the log loss of uncalibrated probabilities: on MNIST it kept epoch 3 of 8, whose accuracy was
    0.9895 where that of the last one was 0.9922. The labels are class numbers.
    """
    classes = list(range(outputs["logits"].shape[1]))
    targets = pd.Series(batch.target.numpy())
    probs = probabilities(outputs, calibrate(outputs, batch))
    return scores(as_answers(probs, classes), targets, classes)


def scores(answers: pd.DataFrame, truth: pd.Series, classes: Sequence[Label]) -> dict[str, float]:
    """Return the metrics of answers, in float64; `truth` is the label of each row.

    `auroc` is the mean over the classes of one against the rest. `brier` is the mean squared error
    of the probabilities, summed over classes; of two classes, that of the last one alone.
    """
    target = pd.Index(classes).get_indexer(pd.Index(truth))
    two = len(classes) == 2
    if two:
        last = answers["probability"].to_numpy(np.float64)
        probs = np.column_stack([1 - last, last])
        aurocs = [intervals.auroc(last, target == 1).observed]
    else:
        probs = answers[[f"probability_{label}" for label in classes]].to_numpy(np.float64)
        aurocs = []
        for i in range(len(classes)):
            aurocs.append(intervals.auroc(probs[:, i], target == i).observed)
    target_probs = np.clip(probs[np.arange(len(target)), target], SMALLEST, 1)
    squared = (probs - np.eye(len(classes))[target]) ** 2
    return {
        "accuracy": float((answers["prediction"].to_numpy() == truth.to_numpy()).mean()),
        "auroc": float(np.mean(aurocs)),
        "log_loss": float(-np.log(target_probs).mean()),
        "brier": float(squared[:, 1].mean() if two else squared.sum(1).mean()),
    }
