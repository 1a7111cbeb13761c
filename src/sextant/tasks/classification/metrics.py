"""Metrics of classification: predict one of several classes, with calibrated probabilities.

The column `positive` of an answer names the class whose probability is in `probability`. From
which probability on that class is predicted can be chosen on val, by `schedule.decide` in the
model's conf.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import UsageError
from ...kinds.parts import positive_class

if TYPE_CHECKING:
    from ...config import Decide

METRICS = {"accuracy": "up", "auroc": "up", "log_loss": "down", "brier": "down"}
OUTPUTS = ("logits",)  # (rows, classes)
OPTIONS = {"all_classes": False}  # whether an answer has the probability of each class

NEWTON_STEPS = 50  # an upper bound; a handful are enough unless the start is far away
# Probabilities are clipped to this in the log loss. Without it, one mistake of probability 1 makes
# it infinite, which JSON cannot hold.
SMALLEST = 1e-15

Label: TypeAlias = bool | int | float | str
PROBABILITY = "probability_"  # the prefix of the columns with the probability of each class


class TargetColumn(Protocol):
    """What classification reads of `columns`."""

    @property
    def target(self) -> str:
        """The name of the column of labels."""

    @property
    def positive(self) -> Label | None:
        """The class that `probability` is about; None: the last one in sorted order."""


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


def check(encoder: Labelled) -> None:
    """Raise UsageError if the target of the rows is a number and no class."""
    target: str | None = encoder.columns.target
    if not encoder.classes and target is not None:
        raise UsageError(
            f"`{target}` is a number and no class; choose task regression in params.yaml, or write"
            " `target_type: class` in `columns` of the data set's conf"
        )


# --- calibration --------------------------------------------------------------------------------


def calibrate(
    outputs: Mapping[str, Tensor],
    batch: Targets,
    encoder: Labelled | None = None,
    decide: "Decide | None" = None,
) -> dict[str, float]:
    """Fit the temperature on val and, if conf has `schedule.decide`, the `threshold`.

    Raises UsageError for more than two classes with `decide` and without `columns.positive`.
    """
    calibration = {"temperature": temperature(outputs, batch)}
    if decide is not None and encoder is not None:
        probs = probabilities(outputs, calibration)
        place = _decided_class(encoder)
        happened = batch.target.numpy() == place
        calibration["threshold"] = threshold(probs[:, place], happened, decide)
    return calibration


def temperature(outputs: Mapping[str, Tensor], batch: Targets) -> float:
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
    return round(1 / inverse, 9)


def threshold(probs: np.ndarray, happened: np.ndarray, decide: "Decide") -> float:
    """Return the probability from which on the positive class is predicted.

    `probs`, (rows,), are its probabilities on val and `happened`, (rows,) of bool, says which rows
    are of that class. A number in `decide.threshold` is taken as it is. Otherwise every cut between
    two probabilities is tried: `cost` takes the lowest cost of missed rows and false alarms on val,
    `threshold: f1` the highest F1. Of equally good cuts, the one is taken that is nearest to the
    threshold of lowest expected cost, false_alarm / (false_alarm + missed), or to one half.
    """
    if isinstance(decide.threshold, float):
        return decide.threshold
    ends = np.unique(np.concatenate([[0.0], probs, [1.0]]))
    cuts = (ends[:-1] + ends[1:]) / 2
    # Rows at or above each cut: all of them, and those of the positive class.
    above = len(probs) - np.searchsorted(np.sort(probs), cuts)
    hits = happened.sum() - np.searchsorted(np.sort(probs[happened]), cuts)
    missed = happened.sum() - hits
    false_alarms = above - hits
    if decide.costs is None:
        loss = -2 * hits / np.maximum(2 * hits + false_alarms + missed, 1)
        expected = 0.5
    else:
        loss = decide.costs.missed * missed + decide.costs.false_alarm * false_alarms
        expected = decide.costs.false_alarm / (decide.costs.false_alarm + decide.costs.missed)
    best = cuts[np.isclose(loss, loss.min(), rtol=0, atol=1e-12)]
    nearest = best[np.abs(best - expected).argmin()]
    return round(float(nearest), 9)


def _decided_class(encoder: Labelled) -> int:
    """The number of the class that `decide` is about."""
    positive = positive_class(encoder.classes, encoder.columns.positive)
    if positive is not None:
        return list(encoder.classes).index(positive)
    if len(encoder.classes) > 2:
        raise UsageError(
            f"`decide` needs to know which of the {len(encoder.classes)} classes it is about; name"
            " it as `positive` in `columns` of the data set's conf"
        )
    return len(encoder.classes) - 1


# --- answers ------------------------------------------------------------------------------------


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
    probs = probabilities(outputs, calibration)
    table = as_answers(probs, encoder.classes, encoder.columns.positive)
    return decided(table, encoder, calibration) if "threshold" in calibration else table


def as_answers(
    probs: np.ndarray, classes: Sequence[Label], positive: Label | None = None
) -> pd.DataFrame:
    """Return answers from the class probabilities, (rows, classes), of a net or a baseline.

    `prediction` is the most probable class, and `probability` is that of the class in the column
    `positive`: of `columns.positive` if the conf names it, or else of the last of two classes, and
    of the predicted one of more. With more than two, each class has a column `probability_<class>`.
    """
    labels = pd.Series(pd.Index(classes))
    predicted = probs.argmax(1)
    named = positive_class(classes, positive)
    if named is not None:
        place = np.full(len(probs), list(classes).index(named))
    elif len(classes) == 2:
        place = np.ones(len(probs), int)
    else:
        place = predicted
    columns: dict[str, pd.Series | np.ndarray] = {
        "prediction": labels.take(predicted).reset_index(drop=True),
        "probability": probs[np.arange(len(probs)), place],
        "positive": labels.take(place).reset_index(drop=True),
    }
    if len(classes) > 2:
        for i, label in enumerate(classes):
            columns[f"{PROBABILITY}{label}"] = probs[:, i]
    return pd.DataFrame(columns)


def public(answers: pd.DataFrame, all_classes: bool = False) -> pd.DataFrame:
    """Return answers as a caller sees them: each class has a column with `all_classes` only."""
    if all_classes:
        return answers
    names = [name for name in answers if not str(name).startswith(PROBABILITY)]
    return answers[names]


def decided(
    answers: pd.DataFrame, encoder: Labelled, calibration: Mapping[str, float]
) -> pd.DataFrame:
    """Return answers, of any model or baseline, with the predictions of one decision rule.

    With a `threshold` in the calibration, the positive class is predicted from that probability on,
    and otherwise the most probable of the others. Without one, the most probable class is.
    """
    probs = np.array(class_probabilities(answers, encoder.classes))  # a copy, which may be changed
    predicted = probs.argmax(1)
    if "threshold" in calibration:
        place = _decided_class(encoder)
        is_positive = probs[:, place] >= calibration["threshold"]
        probs[:, place] = -1.0
        predicted = np.where(is_positive, place, probs.argmax(1))
    predictions = pd.Series(pd.Index(encoder.classes)).take(predicted)
    return answers.assign(prediction=predictions.set_axis(answers.index))


def explained(answers: pd.DataFrame, base: pd.DataFrame, encoder: Labelled) -> np.ndarray:
    """Return the probability of the class that `base`, the answers to be explained, predict."""
    probs = class_probabilities(answers, encoder.classes)
    predicted = pd.Index(encoder.classes).get_indexer(pd.Index(base["prediction"]))
    return probs[np.arange(len(probs)), predicted]


def class_probabilities(answers: pd.DataFrame, classes: Sequence[Label]) -> np.ndarray:
    """Return the probability of each class, (rows, classes) in float64."""
    if len(classes) != 2:
        return answers[[f"{PROBABILITY}{label}" for label in classes]].to_numpy(np.float64)
    named = answers["probability"].to_numpy(np.float64)
    if _named_class(answers, classes) == str(classes[0]):
        return np.column_stack([named, 1 - named])
    return np.column_stack([1 - named, named])


def _named_class(answers: pd.DataFrame, classes: Sequence[Label]) -> str:
    """The text of the class that `probability` is about, with two classes.

    Models that were registered before the column `positive` was introduced do not name it. They
    predict it where it is the more probable one, and the other one elsewhere.
    """
    if "positive" in answers:
        return _text(answers["positive"].iloc[0])
    predicted = answers["prediction"][answers["probability"] > 0.5]
    if len(predicted):
        return _text(predicted.iloc[0])
    other = _text(answers["prediction"].iloc[0])
    return str(classes[0]) if other == str(classes[1]) else str(classes[1])


def _text(label: Label) -> str:
    """A label as text; a whole number that is held as a float has no decimals."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Labelled) -> dict[str, float]:
    """Return the metrics of the answers to labelled `rows`; see `scores`."""
    return scores(answers, rows[encoder.columns.target], encoder.classes)


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Labelled, metric: str = "accuracy"
) -> intervals.Sample:
    """Return the Sample of a metric; of accuracy, whether each row is predicted correctly."""
    truth = rows[encoder.columns.target]
    if metric == "accuracy":
        return intervals.mean(answers["prediction"].to_numpy() == truth.to_numpy())
    target = pd.Index(encoder.classes).get_indexer(pd.Index(truth))
    probs = class_probabilities(answers, encoder.classes)
    two = len(encoder.classes) == 2
    if metric == "log_loss":
        return intervals.mean(-np.log(np.clip(probs[np.arange(len(target)), target], SMALLEST, 1)))
    if metric == "brier":
        squared = (probs - np.eye(len(encoder.classes))[target]) ** 2
        return intervals.mean(squared[:, 1] if two else squared.sum(1))
    areas = []
    for i in range(1 if two else 0, len(encoder.classes)):
        areas.append(intervals.auroc(probs[:, i], target == i))

    def mean_area(weights: np.ndarray) -> float:
        return float(np.mean([area.score(weights) for area in areas]))

    return intervals.Sample(mean_area, areas[0].groups)


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
    probs = class_probabilities(answers, classes)
    aurocs = []
    for i in range(1 if two else 0, len(classes)):
        aurocs.append(intervals.auroc(probs[:, i], target == i).observed)
    target_probs = np.clip(probs[np.arange(len(target)), target], SMALLEST, 1)
    squared = (probs - np.eye(len(classes))[target]) ** 2
    return {
        "accuracy": float((answers["prediction"].to_numpy() == truth.to_numpy()).mean()),
        "auroc": float(np.mean(aurocs)),
        "log_loss": float(-np.log(target_probs).mean()),
        "brier": float(squared[:, 1].mean() if two else squared.sum(1).mean()),
    }


def verdict(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    encoder: Labelled,
    calibration: Mapping[str, float],
) -> str:
    """Return what the decision rule finds and misses, in a sentence; empty without a threshold."""
    if "threshold" not in calibration:
        return ""
    positive = encoder.classes[_decided_class(encoder)]
    is_positive = rows[encoder.columns.target].to_numpy() == positive
    predicted = answers["prediction"].to_numpy() == positive
    hits = int((predicted & is_positive).sum())
    return (
        f"`{encoder.columns.target}` = {positive} is predicted from a probability of"
        f" {calibration['threshold']:.4g} on, chosen on val: {hits:,} of {is_positive.sum():,} such"
        f" rows are found, and {predicted.sum() - hits:,} of {predicted.sum():,} such predictions"
        " are wrong."
    )
