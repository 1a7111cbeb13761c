"""A forecast to look at: beside the price of the day before, which any plot of prices alone would hide."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from ..data.series import known
from ..tasks.forecasting import COVERAGE, aligned, score, verdict
from . import COLORS, INK, canvas, in_style, line


@in_style
def figures(
    answers: pd.DataFrame, rows: pd.DataFrame, columns: Any, baselines: Mapping[str, pd.DataFrame]
) -> dict[str, Figure]:
    """The figures by name; `answers` and those of each baseline are to the same `rows`."""
    # What `score` reads of an encoder.
    asked = SimpleNamespace(columns=columns, known=lambda rows: known(rows, columns))
    days = pd.to_datetime(known(rows, columns).dropna(subset="next")["date"])
    everyone = {"model": answers, **baselines}
    given = {name: aligned(found, rows, asked) for name, found in everyone.items()}
    scores = {name: score(found, rows, asked) for name, found in everyone.items()}
    trivial = next(iter(baselines))
    return {
        "prices": _prices(days, given, scores, trivial, columns),
        "errors": _errors(days, given, trivial, verdict(answers, rows, asked), columns),
        "coverage": _coverage(days, given, scores),
    }


def _prices(days: pd.Series, given: Mapping[str, Any], scores: Mapping[str, Any], trivial: str, columns: Any) -> Figure:
    """What came, what was forecast the day before and its interval, and the trivial baseline."""
    truth, _, value, lower, upper = given["model"]
    figure = canvas(f"{columns.target}, forecast the day before", height=4.4)
    axes = figure.add_subplot()
    axes.fill_between(days, lower, upper, color=COLORS[0], alpha=0.18, linewidth=0, label="90 % interval")
    axes.plot(days, truth, color=INK, marker="o", markersize=3, linewidth=1, label=f"{columns.target} as it came")
    axes.plot(days, value, **line(0), label="model")
    axes.plot(days, given[trivial][2], **line(1), label=trivial)
    axes.set(ylabel="price")
    _dated(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    each = ", ".join(f"{name} {found['rmse']:.2f}" for name, found in scores.items())
    figure.set_label(
        f"RMSE: {each}, on {len(days):,} days. A forecast that repeats the day before runs beside the price as well."
    )
    return figure


def _errors(days: pd.Series, given: Mapping[str, Any], trivial: str, said: str, columns: Any) -> Figure:
    """The errors of both, and by how much the model's squares are smaller, added up."""
    figure = canvas(f"Errors, beside those of {trivial}", height=5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    errors = {name: given[name][2] - given[name][0] for name in ("model", trivial)}
    for i, (name, error) in enumerate(errors.items()):
        above.plot(days, error, **line(i), marker="o", markersize=3, label=name)
    above.axhline(0, color=INK, linewidth=0.8)
    above.set(ylabel="forecast - price")
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    below.plot(days, np.cumsum(errors[trivial] ** 2 - errors["model"] ** 2), **line(0))
    below.axhline(0, color=INK, linewidth=0.8)
    below.set(ylabel="squares saved,\nadded up")
    _dated(below)
    figure.set_label(f"Below: above 0 the model has been the better one so far. {said}")
    return figure


def _coverage(days: pd.Series, given: Mapping[str, Any], scores: Mapping[str, Any]) -> Figure:
    """The share of days, month by month, whose price lay in the interval of each; the bars are where a share of 0.9
    lies 19 times in 20."""
    from scipy.stats import binom

    months = days.dt.strftime("%Y-%m").to_numpy()
    names, at, n = np.unique(months, return_inverse=True, return_counts=True)
    figure = canvas("Coverage of the 90 % interval, by month", height=4.4)
    axes = figure.add_subplot()
    low, high = (binom.ppf(level, n, COVERAGE) / n for level in (0.025, 0.975))
    axes.bar(range(len(names)), high - low, bottom=low, width=0.8, color=INK, alpha=0.15, label="chance around 0.9")
    axes.axhline(COVERAGE, color=INK, linewidth=0.8)
    for i, (name, (truth, _, _, lower, upper)) in enumerate(given.items()):
        held = (truth >= lower) & (truth <= upper)
        place = np.arange(len(names)) + 0.15 * (i - (len(given) - 1) / 2)
        style = line(i) | {"linestyle": "", "marker": "osD^"[i % 4], "markersize": 6 if i == 0 else 4}
        label = f"{name}, {int(held.sum()):,} of {len(held):,}"
        axes.plot(place, np.bincount(at, held) / n, **style, label=label)
    axes.set(xlabel="month", ylabel="share within its interval (fraction)", xlim=(-0.6, len(names) - 0.4))
    step = -(-len(names) // 4)
    axes.set_xticks(range(0, len(names), step), names[::step])
    figure.legend(loc="outside lower left", ncols=2)
    each = ", ".join(f"{name} {found['coverage_90']:.3f}" for name, found in scores.items())
    figure.set_label(f"Share of all days: {each}; wanted: {COVERAGE:.1f}. A bar is where chance puts a true 0.9.")
    return figure


def _dated(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set(xlabel="day")
