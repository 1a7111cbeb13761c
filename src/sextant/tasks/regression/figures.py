"""Figures of regression: predicted against true, residuals, importance, coverage of intervals.

Of a model that answers quantiles, also the levels at which the true numbers lie; of a net of maps,
its maps.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ... import plugins
from ...drawing import COLORS, INK, Table, canvas, in_style, line, tooltip, tooltips
from ...importance import importance, importance_figure
from .metrics import COVERAGE, LEVELS, QUANTILES, scores, truth_of

if TYPE_CHECKING:
    from ...saved_model import SavedModel
    from .metrics import Encoder, TargetColumn

POINTS = 400  # rows drawn as points: more make the page large and hide one another
GROUPS = 8  # of rows with similar predictions
LARGEST = 10  # rows of the table of the largest errors
MAPS = 6  # drawn of a net that has more
MAPS_ACROSS = 3
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
    if QUANTILES[0] in answers:
        drawn["levels"] = _levels(by_name, truth, columns.target)
    map_planes = plugins.optional(model.net, "map_planes", None)
    if map_planes is not None:
        targets, counts = map_planes()
        drawn["maps"] = _maps(targets.numpy(), counts.numpy(), columns.target)
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


# --- densities and maps -------------------------------------------------------------------------


def _levels(by_name: Mapping[str, pd.DataFrame], truth: np.ndarray, target: str) -> Figure:
    """The share of rows whose true number lies between two neighboring quantiles of its answer.

    With LEVELS 0.05 apart, a calibrated model has 5 % in each (the histogram of the probability
    integral transform: Dawid, "Statistical Theory: the Prequential Approach", JRSS A 147, 1984).
    """
    from scipy.stats import binom

    n = len(truth)
    step = LEVELS[1] - LEVELS[0]
    middles = np.append(LEVELS, 1.0) - step / 2
    low, high = binom.ppf((0.025, 0.975), n, step) / n
    figure = canvas(f"Where the true {target} lies among the quantiles", height=4.2)
    axes = figure.add_subplot()
    axes.axhspan(low, high, color=INK, alpha=0.15, label="95 % by chance")
    shares: dict[str, np.ndarray] = {}
    texts = []
    for i, (name, table) in enumerate(by_name.items()):
        if QUANTILES[0] not in table:
            continue
        above = truth[:, None] > table[list(QUANTILES)].to_numpy()
        shares[name] = np.bincount(above.sum(1), minlength=len(middles)) / n
        if name == "model":
            axes.bar(middles, shares[name], 0.9 * step, color=COLORS[0], alpha=0.5, label=name)
        else:
            axes.plot(middles, shares[name], **line(i), marker="o", markersize=3, label=name)
        texts.append(f"{name} {scores(table, truth)['crps']:.4g}")
    axes.set(xlabel="level of the answered quantiles", ylabel="share of rows (fraction)")
    tooltips(axes, [float(f"{middle:.3f}") for middle in middles], shares, "level", ".3f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)
    figure.set_label(
        f"A flat histogram: the quantiles hold what they say. High ends: the densities are too"
        f" narrow; a high middle: too wide. Ranked probability score (CRPS): {', '.join(texts)}."
    )
    return figure


def _maps(targets: np.ndarray, counts: np.ndarray, target: str) -> Figure:
    """Each map with the mean target of its units, (maps, rows, cols); hatched without rows."""
    shown = min(MAPS, len(targets))
    lines = -(-shown // MAPS_ACROSS)
    low, high = targets[counts > 0].min(), targets[counts > 0].max()
    figure = canvas(f"Maps by {target}", height=0.8 + 2.2 * lines)
    panels = figure.subplots(lines, MAPS_ACROSS, squeeze=False).ravel()
    rows, cols = targets.shape[1:]
    for number, axes in enumerate(panels):
        if number >= shown:
            axes.remove()
            continue
        axes.set(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.set_title(f"map {number + 1}", fontsize=8)
        for row, col in np.ndindex(rows, cols):
            count = int(counts[number, row, col])
            value = targets[number, row, col]
            tint = (value - low) / (high - low or 1.0)
            text = f"row {row}, column {col}: no rows"
            cell = Rectangle((col - 0.5, row - 0.5), 1, 1, linewidth=0)
            axes.add_patch(cell)
            if not count:
                cell.set(facecolor="none", edgecolor=(INK, 0.5), hatch="////")
            else:
                cell.set(facecolor=(COLORS[0], tint))
                text = f"row {row}, column {col}: {count:,} rows, {target} {value:.4g} on average"
            tooltip(axes, (col - 0.5, col + 0.5), (row - 0.5, row + 0.5), text)
    empty = int((counts == 0).sum())
    figure.set_label(
        f"The first {shown} of {len(targets)} maps. The mean {target} of each unit with its"
        f" neighbors, from {low:.4g} (faint) to {high:.4g} (strong); no map saw it in training."
        f" {empty:,} of {counts.size:,} units of all maps have no rows; they are hatched, and"
        " answer no question."
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
