"""Figures of regression: predicted against true, residuals, importance, coverage of intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ... import plugins
from ...drawing import COLORS, INK, Table, canvas, in_style, line, tooltip, tooltips
from ...importance import importance, importance_figure
from .metrics import COVERAGE, scores, truth_of

if TYPE_CHECKING:
    from ...saved_model import SavedModel
    from .metrics import Encoder, TargetColumn

POINTS = 400  # rows drawn as points: more make the page large and hide one another
GROUPS = 8  # of rows with similar predictions
LARGEST = 10  # rows of the table of the largest errors
ERROR_COLUMNS = 6  # feature columns in it, the most important ones


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "TargetColumn",
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
) -> dict[str, Figure | Table]:
    """Return figures and tables by name, in reading order.

    `answers` and those of each baseline are the answers to `rows`, in the same order.
    """
    encoder = cast("Encoder", model.encoder)
    truth = truth_of(rows, encoder)
    by_name = {"model": answers, **baselines}
    drawn: dict[str, Figure | Table] = {
        "predicted": _predicted(answers, truth, by_name, columns.target),
        "residuals": _residuals(answers, truth, columns.target),
    }
    features: list[str] = plugins.optional(columns, "features", [])
    important: list[str] = []
    if features:

        def squared_error(answered: pd.DataFrame, of_rows: pd.DataFrame) -> np.ndarray:
            errors = answered["prediction"].to_numpy(np.float64) - truth_of(of_rows, encoder)
            return np.asarray(errors**2)

        rises = importance(model.answer, rows, features, squared_error)
        drawn["importance"] = importance_figure(rises, "squared error")
        important = [str(name) for name in rises][:ERROR_COLUMNS]
    drawn["coverage"] = _coverage(by_name, truth, columns.target)
    drawn["errors"] = _largest_errors(answers, rows, truth, columns.target, important)
    return drawn


# --- predicted against true, and what is left ---------------------------------------------------


def _shown(rows: int) -> np.ndarray:
    """The places of at most POINTS rows, the same ones on every run."""
    if rows <= POINTS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, POINTS, replace=False))


def _predicted(
    answers: pd.DataFrame, truth: np.ndarray, by_name: Mapping[str, pd.DataFrame], target: str
) -> Figure:
    """The true number of each row against the predicted one, with the interval of each."""
    places = _shown(len(truth))
    drawn = answers.iloc[places]
    value = drawn["prediction"].to_numpy()
    true = truth[places]
    ends = [min(value.min(), true.min()), max(value.max(), true.max())]
    figure = canvas(f"True {target} against the prediction", height=4.4)
    axes = figure.add_subplot()
    axes.vlines(value, drawn["lower"], drawn["upper"], color=COLORS[0], alpha=0.12, linewidth=1)
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    axes.plot(value, true, "o", color=COLORS[0], markersize=3, alpha=0.6)
    axes.set(xlabel=f"predicted {target}", ylabel=f"true {target}")
    _group_tooltips(figure, answers, truth, target)
    rmse = []
    for name, table in by_name.items():
        metrics = scores(table, truth)
        rmse.append(f"{name} {metrics['rmse']:.4g} (R2 {metrics['r2']:.3f})")
    figure.set_label(
        f"RMSE on {len(truth):,} rows: {', '.join(rmse)}. Points: {len(places):,} rows; vertical"
        " lines: their 90 % intervals. On the diagonal, the prediction is right."
    )
    return figure


def _residuals(answers: pd.DataFrame, truth: np.ndarray, target: str) -> Figure:
    """True less predicted against the prediction, with the mean of rows of similar predictions."""
    residuals = truth - answers["prediction"].to_numpy()
    value = answers["prediction"].to_numpy()
    places = _shown(len(truth))
    middles = []
    means = []
    for group in _groups(value):
        middles.append(float(f"{value[group].mean():.4g}"))
        means.append(float(residuals[group].mean()))
    figure = canvas(f"Residuals of {target}", height=3.9)
    axes = figure.add_subplot()
    axes.plot(value[places], residuals[places], "o", color=COLORS[0], markersize=3, alpha=0.5)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.plot(middles, means, color=COLORS[1], marker="o", markersize=4, label="mean of a group")
    axes.set(xlabel=f"predicted {target}", ylabel="true - predicted")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    tooltips(axes, middles, {"mean residual": means}, "predicted", ".4g")
    low, high = np.quantile(residuals, (0.05, 0.95))
    figure.set_label(
        f"Mean {residuals.mean():.4g}; 90 % of the residuals lie between {low:.4g} and {high:.4g}."
        " A mean of a group far from 0 is a bias of the model there; points that spread with the"
        " prediction are errors that grow with it."
    )
    return figure


def _groups(value: np.ndarray) -> list[np.ndarray]:
    """The places of rows in groups of similar predictions, of about equal size and none empty."""
    order = np.argsort(value, kind="stable")
    return [group for group in np.array_split(order, GROUPS) if len(group)]


def _group_tooltips(figure: Figure, answers: pd.DataFrame, truth: np.ndarray, target: str) -> None:
    """Give each strip of similar predictions a tooltip with its means."""
    (axes,) = figure.axes
    value = answers["prediction"].to_numpy()
    for group in _groups(value):
        inside = value[group]
        text = (
            f"predicted {inside.min():.4g} to {inside.max():.4g}: {len(group):,} rows, true"
            f" {target} {truth[group].mean():.4g} on average, predicted {inside.mean():.4g}"
        )
        strip = (float(inside.min()), float(inside.max()))
        tooltip(axes, strip, (0, 1), text, axes.get_xaxis_transform())


# --- the interval -------------------------------------------------------------------------------


def _coverage(by_name: Mapping[str, pd.DataFrame], truth: np.ndarray, target: str) -> Figure:
    """The share of rows within the interval of each, by groups of similar predictions."""
    from scipy.stats import binom

    groups = _groups(by_name["model"]["prediction"].to_numpy())
    places = np.arange(len(groups))
    sizes = np.array([len(group) for group in groups])
    low = binom.ppf(0.025, sizes, COVERAGE) / sizes
    high = binom.ppf(0.975, sizes, COVERAGE) / sizes
    figure = canvas("Coverage of the 90 % interval", height=4.2)
    axes = figure.add_subplot()
    axes.bar(places, high - low, bottom=low, color=INK, alpha=0.15, label="95 % by chance")
    shares: dict[str, np.ndarray] = {}
    overall = []
    for i, (name, table) in enumerate(by_name.items()):
        lower = table["lower"].to_numpy()
        covered = (truth >= lower) & (truth <= table["upper"].to_numpy())
        shares[name] = np.array([covered[group].mean() for group in groups])
        axes.plot(places, shares[name], **line(i), marker="o", markersize=4, label=name)
        overall.append(f"{name} {covered.mean():.3f}")
    axes.axhline(COVERAGE, color=INK, linewidth=0.8)
    axes.set(
        xlabel=f"rows by predicted {target}, low to high",
        ylabel="share within the interval (fraction)",
    )
    axes.set_xticks(places, [str(place + 1) for place in places])
    tooltips(axes, places, shares, "group", ".3f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)
    figure.set_label(
        f"Share of {len(truth):,} rows within the interval: {', '.join(overall)}. Line: the nominal"
        f" {COVERAGE:.1f}; grey bars: where the share of a group lies with a probability of 95 % if"
        " that is the true coverage. The intervals were calibrated on val."
    )
    return figure


# --- the largest errors -------------------------------------------------------------------------


def _largest_errors(
    answers: pd.DataFrame, rows: pd.DataFrame, truth: np.ndarray, target: str, important: list[str]
) -> Table:
    """The rows whose prediction is furthest off, with the most important columns."""
    value = answers["prediction"].to_numpy()
    errors = np.abs(truth - value)
    worst = np.argsort(-errors, kind="stable")[:LARGEST]
    table: dict[str, np.ndarray] = {
        f"true {target}": _legible(truth[worst]),
        "predicted": _legible(value[worst]),
        "lower": _legible(answers["lower"].to_numpy()[worst]),
        "upper": _legible(answers["upper"].to_numpy()[worst]),
    }
    for name in important:
        table[name] = rows[name].iloc[worst].to_numpy()
    caption = (
        f"The {len(worst)} of {len(truth):,} test rows whose prediction is furthest off, with the"
        f" {len(important)} most important columns."
    )
    return Table("Largest errors", caption, pd.DataFrame(table))


def _legible(values: np.ndarray) -> np.ndarray:
    """Numbers with four significant digits."""
    return np.array([float(f"{value:.4g}") for value in values])
