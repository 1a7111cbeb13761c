"""A classifier to look at: how well it ranks, whether its probabilities hold, what it mixes up.

Where the rows have an `image`, uint8 (height, width, channels), the worst mistakes are shown themselves.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..intervals import wilson
from ..tasks.classification import score
from . import COLORS, INK, canvas, in_style, line

BINS = np.linspace(0, 1, 11)
LETTERED = 12  # classes up to which a number still fits into its cell
GALLERY = 3, 4  # rows and columns of pictures


@in_style
def figures(
    answers: pd.DataFrame, rows: pd.DataFrame, columns: Any, baselines: Mapping[str, pd.DataFrame]
) -> dict[str, Figure]:
    """The figures by name; `answers` and those of each baseline are to the same `rows`, in the same order."""
    truth = rows[columns.target]
    classes = sorted(truth.unique().tolist())
    everyone = {"model": answers, **baselines}
    asked = SimpleNamespace(columns=columns, classes=classes)  # what `score` reads of an encoder
    scores = {name: score(given, rows, asked) for name, given in everyone.items()}
    found = {
        "roc": _roc(everyone, scores, truth, classes, columns.target),
        "calibration": _calibration(everyone, scores, truth, classes, columns.target),
        "confusion": _confusion(answers, truth, classes, columns.target),
    }
    return found | ({"worst": _worst(answers, rows, classes, columns.target)} if "image" in rows else {})


def _roc(
    everyone: Mapping[str, pd.DataFrame], scores: Mapping[str, Any], truth: pd.Series, classes: list[Any], target: str
) -> Figure:
    """True against false positive rate; of more than two classes each against the rest, and their mean in bold."""
    figure = canvas("ROC: how well it ranks")
    axes = figure.add_subplot()
    if len(classes) > 2:
        for i, label in enumerate(classes):
            rates = _rates(truth == label, everyone["model"][f"probability_{label}"])
            thin: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "linewidth": 0.8, "alpha": 0.6}
            axes.plot(*rates, **thin, label=f"{label} against the rest")
    for i, (name, given) in enumerate(everyone.items()):
        axes.plot(*_mean_rates(given, truth, classes), **line(i), label=f"{name}, AUC {scores[name]['auroc']:.4f}")
    axes.set(xlabel="false positive rate (fraction)", ylabel="true positive rate (fraction)")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    positive = f"{target} = {classes[-1]}" if len(classes) == 2 else f"each class of {target} in turn, and their mean"
    figure.set_label(f"{_each(scores, 'auroc', 'AUC')}, on {len(truth)} rows; positive is {positive}.")
    return figure


def _rates(positive: pd.Series, probability: pd.Series) -> tuple[Any, Any]:
    """(false positive rate, true positive rate) at every threshold."""
    from sklearn.metrics import roc_curve

    return roc_curve(positive.to_numpy(), probability.to_numpy())[:2]


def _mean_rates(given: pd.DataFrame, truth: pd.Series, classes: list[Any]) -> tuple[Any, Any]:
    if len(classes) == 2:
        return _rates(truth == classes[-1], given["probability"])
    at = np.linspace(0, 1, 201)
    each = [np.interp(at, *_rates(truth == label, given[f"probability_{label}"])) for label in classes]
    return at, np.mean(each, axis=0)


def _calibration(
    everyone: Mapping[str, pd.DataFrame], scores: Mapping[str, Any], truth: pd.Series, classes: list[Any], target: str
) -> Figure:
    """Observed share against predicted probability in ten bins, and how many rows of the model's lie in each."""
    figure = canvas("Calibration: whether its probabilities hold", height=5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for i, (name, given) in enumerate(everyone.items()):
        happened = truth == classes[-1] if len(classes) == 2 else truth.to_numpy() == given["prediction"]
        counts, predicted, observed = _reliability(given["probability"].to_numpy(float), np.asarray(happened, float))
        label = f"{name}, Brier {scores[name]['brier']:.4f}"
        above.plot(predicted, observed, **line(i), marker="o", markersize=4, label=label)
        if i == 0:
            above.vlines(predicted, *wilson(observed, counts[counts > 0]), color=COLORS[0], linewidth=1, alpha=0.7)
            below.bar(BINS[:-1], counts, width=np.diff(BINS), align="edge", color=COLORS[0], alpha=0.6)
    two = len(classes) == 2
    below.set(xlabel=f"probability given to {f'{target} = {classes[-1]}' if two else 'the predicted class'} (fraction)")
    below.set(ylabel="rows (count)")
    above.set(ylabel="share where it was so (fraction)", ylim=(-0.02, 1.02), xlim=(-0.01, 1.01))
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)  # inside, some curve always runs under it
    figure.set_label(
        f"{_each(scores, 'brier', 'Brier')}; on the diagonal a probability is the share that comes true."
        " Bars through the model's points: 95 % intervals."
    )
    return figure


def _reliability(probability: Any, happened: Any) -> tuple[Any, Any, Any]:
    """Rows per bin, and of the bins that have any: mean probability, share where it happened."""
    bins = np.clip(np.digitize(probability, BINS) - 1, 0, len(BINS) - 2)
    counts, predicted, observed = (np.bincount(bins, w, len(BINS) - 1) for w in (None, probability, happened))
    some = counts > 0
    return counts, predicted[some] / counts[some], observed[some] / counts[some]


def _confusion(answers: pd.DataFrame, truth: pd.Series, classes: list[Any], target: str) -> Figure:
    """Rows counted by true and by predicted class; the tint and the percentage are shares of the true class."""
    found = pd.crosstab(truth.to_numpy(), answers["prediction"].to_numpy())
    counts = found.reindex(index=classes, columns=classes, fill_value=0).to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = canvas("Confusion: what it mixes up")
    axes = figure.add_subplot()
    axes.grid(False)
    for (i, j), share in np.ndenumerate(shares):
        # A tint of at most 0.3, so that the ink stays readable on it in light and in dark.
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, color=COLORS[0], alpha=0.3 * share, linewidth=0))
        if len(classes) <= LETTERED:
            text = f"{counts[i, j]}\n{share:.1%}"
            axes.text(j, i, text, ha="center", va="center", fontsize=11 if len(classes) < 5 else 7)
    if len(classes) <= LETTERED:
        axes.set_xticks(range(len(classes)), map(str, classes))
        axes.set_yticks(range(len(classes)), map(str, classes))
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5))
    axes.set(xlabel=f"predicted {target}", ylabel=f"true {target}")
    hits = ", ".join(f"{shares[i, i]:.1%} of {label}" for i, label in enumerate(classes[:LETTERED]))
    figure.set_label(f"Counts, and shares of each true class. Found: {hits}.")
    return figure


def _worst(answers: pd.DataFrame, rows: pd.DataFrame, classes: list[Any], target: str) -> Figure:
    """The pictures whose true class was given the least probability, each with that class and probability."""
    truth = rows[target].tolist()
    if len(classes) == 2:
        last = answers["probability"].to_numpy(float)
        own = np.where([label == classes[-1] for label in truth], last, 1 - last)
    else:
        own = np.array([answers[f"probability_{label}"].iloc[i] for i, label in enumerate(truth)])
    worst = np.argsort(own, kind="stable")[: np.prod(GALLERY)]
    figure = canvas("Worst mistakes: where the truth was thought least likely", height=4.8)
    for place, axes in enumerate(figure.subplots(*GALLERY).flat):
        axes.set_axis_off()
        if place < len(worst):
            row = int(worst[place])
            axes.imshow(rows["image"].iloc[row], cmap="gray", vmin=0, vmax=255)
            name = f"{PurePosixPath(rows['path'].iloc[row]).stem}\n" if "path" in rows else ""
            axes.set_title(f"{name}{truth[row]}: {own[row]:.1%}", fontsize=7)
    wrong = int((answers["prediction"].to_numpy() != rows[target].to_numpy()).sum())
    figure.set_label(
        f"{wrong} of {len(rows)} are mistaken. Of each of the {len(worst)} worst: its file, what it shows ({target}),"
        " and the probability that this was given."
    )
    return figure


def _each(scores: Mapping[str, Any], metric: str, word: str) -> str:
    return f"{word}: " + ", ".join(f"{name} {found[metric]:.4f}" for name, found in scores.items())
