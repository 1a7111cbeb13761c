"""Figures of predicted probabilities: ROC, calibration, confusion; for every task that answers with one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .drawing import COLORS, INK, canvas, line, tell, tell_along
from .intervals import wilson

BINS = np.linspace(0, 1, 11)
RATES = np.round(
    np.linspace(0, 1, 41), 3
)  # false positive rates at which the curves say their values
HALF = 0.5  # the probability from which the last of two classes is predicted
LETTERED = 12  # classes up to which a number still fits into its cell


def classifier_figures(
    everyone: Mapping[str, pd.DataFrame],
    scores: Mapping[str, Mapping[str, float]],
    truth: pd.Series,
    classes: list[Any],
) -> dict[str, Figure]:
    """ROC, calibration and confusion of answers by name, the model's first.

    `scores` holds `auroc` and `brier` of each, `truth` the label of each row.
    """
    target = str(truth.name)
    return {
        "roc": roc(everyone, scores, truth, classes, target),
        "calibration": calibration(everyone, scores, truth, classes, target),
        "confusion": confusion(everyone["model"], truth, classes, target),
    }


def roc(
    everyone: Mapping[str, pd.DataFrame],
    scores: Mapping[str, Any],
    truth: pd.Series,
    classes: list[Any],
    target: str,
) -> Figure:
    """True against false positive rate; of more than two classes each against the rest, and their mean in bold."""
    figure = canvas("ROC: how well it ranks")
    axes = figure.add_subplot()
    if len(classes) > 2:
        for i, label in enumerate(classes):
            rates = _rates(truth == label, everyone["model"][f"probability_{label}"])
            thin: dict[str, Any] = {
                "color": COLORS[i % len(COLORS)],
                "linewidth": 0.8,
                "alpha": 0.6,
            }
            axes.plot(*rates, **thin, label=f"{label} against the rest")
    for i, (name, given) in enumerate(everyone.items()):
        axes.plot(
            *_mean_rates(given, truth, classes),
            **line(i),
            label=f"{name}, AUC {scores[name]['auroc']:.4f}",
        )
    if len(classes) == 2:
        positive, found = (
            labels.to_numpy() == classes[-1] for labels in (truth, everyone["model"]["prediction"])
        )
        at_half = found[~positive].mean(), found[positive].mean()
        axes.plot(
            *at_half, "o", color=COLORS[0], markersize=7, label=f"model, from probability {HALF} on"
        )
    axes.set(xlabel="false positive rate (fraction)", ylabel="true positive rate (fraction)")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    at_each = {
        name: np.interp(RATES, *_mean_rates(given, truth, classes))
        for name, given in everyone.items()
    }
    tell_along(axes, RATES, at_each, "false positive rate", ".3f")
    asked = (
        f"{target} = {classes[-1]}"
        if len(classes) == 2
        else f"each class of {target} in turn, and their mean"
    )
    figure.set_label(
        f"{_each(scores, 'auroc', 'AUC')}, on {len(truth):,} rows; positive is {asked}."
    )
    return figure


def _rates(positive: pd.Series, probability: pd.Series) -> tuple[Any, Any]:
    """(false positive rate, true positive rate) at every threshold."""
    from sklearn.metrics import roc_curve

    return roc_curve(positive.to_numpy(), probability.to_numpy())[:2]


def _mean_rates(given: pd.DataFrame, truth: pd.Series, classes: list[Any]) -> tuple[Any, Any]:
    if len(classes) == 2:
        return _rates(truth == classes[-1], given["probability"])
    at = np.linspace(0, 1, 201)
    each = [
        np.interp(at, *_rates(truth == label, given[f"probability_{label}"])) for label in classes
    ]
    return at, np.mean(each, axis=0)


def calibration(
    everyone: Mapping[str, pd.DataFrame],
    scores: Mapping[str, Any],
    truth: pd.Series,
    classes: list[Any],
    target: str,
) -> Figure:
    """Observed share against predicted probability in ten bins, and how many rows of the model's lie in each."""
    figure = canvas("Calibration: whether its probabilities hold", height=5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    told: dict[int, list[str]] = {}
    above.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for i, (name, given) in enumerate(everyone.items()):
        happened = (
            truth == classes[-1] if len(classes) == 2 else truth.to_numpy() == given["prediction"]
        )
        counts, predicted, observed = _reliability(
            given["probability"].to_numpy(float), np.asarray(happened, float)
        )
        label = f"{name}, Brier {scores[name]['brier']:.4f}"
        above.plot(predicted, observed, **line(i), marker="o", markersize=4, label=label)
        for place, share in zip(np.flatnonzero(counts).tolist(), observed, strict=True):
            told.setdefault(place, []).append(f"{name} {share:.3f} of {counts[place]:,} rows")
        if i == 0:
            above.vlines(
                predicted,
                *wilson(observed, counts[counts > 0]),
                color=COLORS[0],
                linewidth=1,
                alpha=0.7,
            )
            below.bar(
                BINS[:-1], counts, width=np.diff(BINS), align="edge", color=COLORS[0], alpha=0.6
            )
    for place, said in told.items():
        low, high = BINS[place : place + 2]
        words = f"probability {low:.1f} to {high:.1f} came true: {', '.join(said)}"
        for axes in (above, below):
            tell(axes, (low, high), (0, 1), words, axes.get_xaxis_transform())
    two = len(classes) == 2
    below.set(
        xlabel=f"probability given to {f'{target} = {classes[-1]}' if two else 'the predicted class'} (fraction)"
    )
    below.set(ylabel="rows (count)")
    above.set(ylabel="share where it was so (fraction)", ylim=(-0.02, 1.02), xlim=(-0.01, 1.01))
    above.legend(
        loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2
    )  # inside, some curve always runs under it
    figure.set_label(
        f"{_each(scores, 'brier', 'Brier')}; on the diagonal a probability is the share that comes true."
        " Bars through the model's points: 95 % intervals."
    )
    return figure


def _reliability(probability: Any, happened: Any) -> tuple[Any, Any, Any]:
    """Rows per bin, and of the bins that have any: mean probability, share where it happened."""
    bins = np.clip(np.digitize(probability, BINS) - 1, 0, len(BINS) - 2)
    counts, predicted, observed = (
        np.bincount(bins, w, len(BINS) - 1) for w in (None, probability, happened)
    )
    some = counts > 0
    return counts, predicted[some] / counts[some], observed[some] / counts[some]


def confusion(answers: pd.DataFrame, truth: pd.Series, classes: list[Any], target: str) -> Figure:
    """Rows counted by true and by predicted class; the tint and the percentage are shares of the true class."""
    found = pd.crosstab(truth.to_numpy(), answers["prediction"].to_numpy())
    counts = found.reindex(index=classes, columns=classes, fill_value=0).to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = canvas("Confusion: what it mixes up")
    axes = figure.add_subplot()
    axes.grid(False)
    for i, j in np.ndindex(shares.shape):
        if len(classes) <= LETTERED:
            text = f"{counts[i, j]:,}\n{shares[i, j]:.1%}"
            axes.text(j, i, text, ha="center", va="center", fontsize=11 if len(classes) < 5 else 7)
        if counts[i, j]:
            # A tint of at most 0.3, so that the ink stays readable on it in light and in dark.
            tint = 0.3 * shares[i, j]
            axes.add_patch(
                Rectangle((j - 0.5, i - 0.5), 1, 1, color=COLORS[0], alpha=tint, linewidth=0)
            )
            words = f"{counts[i, j]:,} of {counts[i].sum():,} ({shares[i, j]:.1%})"
            words = f"true {classes[i]}, predicted {classes[j]}: {words}"
            tell(axes, (j - 0.5, j + 0.5), (i - 0.5, i + 0.5), words)
    if len(classes) <= LETTERED:
        axes.set_xticks(range(len(classes)), map(str, classes))
        axes.set_yticks(range(len(classes)), map(str, classes))
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5))
    axes.set(xlabel=f"predicted {target}", ylabel=f"true {target}")
    hits = ", ".join(f"{shares[i, i]:.1%} of {label}" for i, label in enumerate(classes[:LETTERED]))
    two = f"{target} = {classes[-1]} is predicted from probability {HALF} on"
    rule = two if len(classes) == 2 else f"the {target} of the highest probability is predicted"
    figure.set_label(f"Counts, and shares of each true class; {rule}. Found: {hits}.")
    return figure


def given_probability(answers: pd.DataFrame, labels: pd.Series, classes: list[Any]) -> np.ndarray:
    """The probability that was given to each row's label."""
    if len(classes) == 2:
        last = answers["probability"].to_numpy(np.float64)
        return np.where(labels.to_numpy() == classes[-1], last, 1 - last)
    each = answers[[f"probability_{label}" for label in classes]].to_numpy(np.float64)
    return each[np.arange(len(labels)), pd.Index(classes).get_indexer(labels)]


def _each(scores: Mapping[str, Any], metric: str, word: str) -> str:
    return f"{word}: " + ", ".join(f"{name} {found[metric]:.4f}" for name, found in scores.items())
