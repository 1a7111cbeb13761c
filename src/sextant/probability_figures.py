"""Figures of predicted probabilities: ROC curve, calibration and confusion matrix.

They are shared by the tasks whose answers are class probabilities, in the columns of
classification's answers: `prediction`, `probability`, and `probability_<class>` of more than two
classes. With two classes, callers pass the one that `probability` is about as the last.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import COLORS, INK, canvas, line, tooltip, tooltips
from .intervals import wilson

if TYPE_CHECKING:
    from .tasks.classification.metrics import Label

BINS = np.linspace(0, 1, 11)  # edges of the bins of predicted probability
RATES = np.round(np.linspace(0, 1, 41), 3)  # false positive rates that have a tooltip
THRESHOLD = 0.5  # of two classes, the last is predicted from this probability on by default
MAX_NUMBERED = 12  # with more classes, a number no longer fits into its cell

Answers = Mapping[str, pd.DataFrame]  # by name, the model's first
Scores = Mapping[str, Mapping[str, float]]  # metrics by name of the answers


def classifier_figures(
    answers: Answers,
    scores: Scores,
    truth: pd.Series,
    classes: "Sequence[Label]",
    threshold: float = THRESHOLD,
) -> dict[str, Figure]:
    """ROC curve, calibration and confusion matrix of the answers by name, the model's first.

    `scores` has `auroc` and `brier` of each; `truth` is the label of each row, and its name is that
    of the target. The last of two `classes` is the one that `probability` is about, and is
    predicted from `threshold` on.
    """
    return {
        "roc": roc(answers, scores, truth, classes, threshold),
        "calibration": calibration(answers, scores, truth, classes),
        "confusion": confusion(answers["model"], truth, classes, threshold),
    }


# --- ROC ----------------------------------------------------------------------------------------


def roc(
    answers: Answers,
    scores: Scores,
    truth: pd.Series,
    classes: "Sequence[Label]",
    threshold: float = THRESHOLD,
) -> Figure:
    """True positive rate against false positive rate.

    With more than two classes, there is a thin line for each class against the rest, and a thick
    one for their mean.
    """
    figure = canvas("ROC curve")
    axes = figure.add_subplot()
    if len(classes) > 2:
        _one_against_rest(axes, answers["model"], truth, classes)
    tooltip_rates = {}
    for i, (name, table) in enumerate(answers.items()):
        false_positive, true_positive = _mean_rates(table, truth, classes)
        label = f"{name}, AUC {scores[name]['auroc']:.4f}"
        axes.plot(false_positive, true_positive, **line(i), label=label)
        tooltip_rates[name] = np.interp(RATES, false_positive, true_positive)
    if len(classes) == 2:
        _threshold_point(axes, answers["model"], truth, classes, threshold)
    axes.set(xlabel="false positive rate (fraction)", ylabel="true positive rate (fraction)")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    tooltips(axes, RATES, tooltip_rates, "false positive rate", ".3f")
    legend = f"thin lines: each class of {truth.name} against the rest; thick lines: their mean"
    if len(classes) == 2:
        legend = f"positive: {truth.name} = {classes[-1]}"
    figure.set_label(f"AUC on {len(truth):,} rows: {_listed(scores, 'auroc')}; {legend}.")
    return figure


def _one_against_rest(
    axes: Axes, answers: pd.DataFrame, truth: pd.Series, classes: "Sequence[Label]"
) -> None:
    for i, label in enumerate(classes):
        rates = _rates(truth == label, answers[f"probability_{label}"])
        color = COLORS[i % len(COLORS)]
        axes.plot(*rates, color=color, linewidth=0.8, alpha=0.6, label=f"{label} against the rest")


def _threshold_point(
    axes: Axes,
    answers: pd.DataFrame,
    truth: pd.Series,
    classes: "Sequence[Label]",
    threshold: float,
) -> None:
    """Mark the point of the curve at the threshold, where the predictions are made."""
    positive = truth.to_numpy() == classes[-1]
    predicted = answers["prediction"].to_numpy() == classes[-1]
    axes.plot(
        predicted[~positive].mean(),
        predicted[positive].mean(),
        "o",
        color=COLORS[0],
        markersize=7,
        label=f"model at threshold {threshold:.3g}",
    )


def _rates(positive: pd.Series, probability: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The false and the true positive rate at every threshold."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(positive.to_numpy(), probability.to_numpy())
    return false_positive, true_positive


def _mean_rates(
    answers: pd.DataFrame, truth: pd.Series, classes: "Sequence[Label]"
) -> tuple[np.ndarray, np.ndarray]:
    """The rates of the last of two classes; with more, the mean of each class against the rest."""
    if len(classes) == 2:
        return _rates(truth == classes[-1], answers["probability"])
    grid = np.linspace(0, 1, 201)
    true_positive = []
    for label in classes:
        rates = _rates(truth == label, answers[f"probability_{label}"])
        true_positive.append(np.interp(grid, *rates))
    return grid, np.mean(true_positive, axis=0)


# --- calibration --------------------------------------------------------------------------------


def calibration(
    answers: Answers, scores: Scores, truth: pd.Series, classes: "Sequence[Label]"
) -> Figure:
    """Observed share against predicted probability in ten bins; below, the model's rows per bin."""
    figure = canvas("Calibration of the probabilities", height=5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    texts: dict[int, list[str]] = {}  # for the tooltips, by number of the bin
    for i, (name, table) in enumerate(answers.items()):
        probability, happened = _events(table, truth, classes)
        counts, predicted, observed = _reliability(probability, happened)
        label = f"{name}, Brier {scores[name]['brier']:.4f}"
        above.plot(predicted, observed, **line(i), marker="o", markersize=4, label=label)
        for place, share in zip(np.flatnonzero(counts).tolist(), observed, strict=True):
            text = f"{name} {share:.3f} of {counts[place]:,} rows"
            texts.setdefault(place, []).append(text)
        if name == "model":
            low, high = wilson(observed, counts[counts > 0])
            above.vlines(predicted, low, high, color=COLORS[0], linewidth=1, alpha=0.7)
            width = np.diff(BINS)
            below.bar(BINS[:-1], counts, width=width, align="edge", color=COLORS[0], alpha=0.6)
    _bin_tooltips(above, texts)
    _bin_tooltips(below, texts)
    event = "the predicted class"
    if len(classes) == 2:
        event = f"{truth.name} = {classes[-1]}"
    below.set(xlabel=f"predicted probability of {event} (fraction)", ylabel="rows (count)")
    above.set(ylabel="observed share (fraction)", ylim=(-0.02, 1.02), xlim=(-0.01, 1.01))
    # Above the axes: inside, one of the curves always runs under it.
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    figure.set_label(
        f"Brier score: {_listed(scores, 'brier')}. On the diagonal, the observed share equals the"
        " predicted probability. Vertical lines: 95 % intervals of the model's shares."
    )
    return figure


def _bin_tooltips(axes: Axes, texts: Mapping[int, Sequence[str]]) -> None:
    for place, parts in texts.items():
        low, high = BINS[place : place + 2]
        text = f"probability {low:.1f} to {high:.1f}; observed share: {', '.join(parts)}"
        tooltip(axes, (low, high), (0, 1), text, axes.get_xaxis_transform())


def _events(
    answers: pd.DataFrame, truth: pd.Series, classes: "Sequence[Label]"
) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each row's event, and whether it happened, as 0 or 1.

    With two classes, the event is the last one; with more, it is the predicted one.
    """
    happened = truth.to_numpy() == answers["prediction"].to_numpy()
    if len(classes) == 2:
        happened = truth.to_numpy() == classes[-1]
    return answers["probability"].to_numpy(float), np.asarray(happened, float)


def _reliability(
    probability: np.ndarray, happened: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows per bin; and of the bins with rows, the mean probability and the observed share."""
    n = len(BINS) - 1
    bins = np.clip(np.digitize(probability, BINS) - 1, 0, n - 1)
    counts = np.bincount(bins, minlength=n)
    filled = counts > 0
    predicted = np.bincount(bins, probability, n)[filled] / counts[filled]
    observed = np.bincount(bins, happened, n)[filled] / counts[filled]
    return counts, predicted, observed


# --- confusion ----------------------------------------------------------------------------------


def confusion(
    answers: pd.DataFrame,
    truth: pd.Series,
    classes: "Sequence[Label]",
    threshold: float = THRESHOLD,
) -> Figure:
    """Rows by true and predicted class; the tint and the percentage are of the true class."""
    table = pd.crosstab(truth.to_numpy(), answers["prediction"].to_numpy())
    labels = list(classes)
    counts = table.reindex(index=labels, columns=labels, fill_value=0).to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = canvas("Confusion matrix")
    axes = figure.add_subplot()
    axes.grid(False)
    for row, column in np.ndindex(shares.shape):
        count, share = counts[row, column], shares[row, column]
        if len(classes) <= MAX_NUMBERED:
            size = 11 if len(classes) < 5 else 7
            text = f"{count:,}\n{share:.1%}"
            axes.text(column, row, text, ha="center", va="center", fontsize=size)
        if count:
            _tint(axes, row, column, share)
            text = f"{count:,} of {counts[row].sum():,} ({share:.1%})"
            text = f"true {classes[row]}, predicted {classes[column]}: {text}"
            tooltip(axes, (column - 0.5, column + 0.5), (row - 0.5, row + 0.5), text)
    if len(classes) <= MAX_NUMBERED:
        axes.set_xticks(range(len(classes)), map(str, classes))
        axes.set_yticks(range(len(classes)), map(str, classes))
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5))
    axes.set(xlabel=f"predicted {truth.name}", ylabel=f"true {truth.name}")
    rule = f"the most probable {truth.name} is predicted"
    if len(classes) == 2:
        named = f"{truth.name} = {classes[-1]}"
        rule = f"{named} is predicted from a probability of {threshold:.3g} on"
    recalls = [f"{shares[i, i]:.1%} of {label}" for i, label in enumerate(classes[:MAX_NUMBERED])]
    figure.set_label(
        f"Rows, and their share of the true class; {rule}. Recall: {', '.join(recalls)}."
    )
    return figure


def _tint(axes: Axes, row: int, column: int, share: float) -> None:
    # At most 0.3, so that the text stays readable on it on a white and on a black page.
    alpha = 0.3 * share
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, color=COLORS[0], alpha=alpha, linewidth=0))


# --- shared -------------------------------------------------------------------------------------


def label_probability(
    answers: pd.DataFrame, labels: pd.Series, classes: "Sequence[Label]"
) -> np.ndarray:
    """The probability that each row's answer gives to its entry of `labels`, (rows,) in float64."""
    if len(classes) == 2:
        last = answers["probability"].to_numpy(np.float64)
        return np.where(labels.to_numpy() == classes[-1], last, 1 - last)
    columns = [f"probability_{label}" for label in classes]
    probs = answers[columns].to_numpy(np.float64)
    return probs[np.arange(len(labels)), pd.Index(classes).get_indexer(pd.Index(labels))]


def _listed(scores: Scores, metric: str) -> str:
    """One metric of all answers in words: "model 0.8612, majority 0.5000"."""
    return ", ".join(f"{name} {metrics[metric]:.4f}" for name, metrics in scores.items())
