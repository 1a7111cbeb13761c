"""A forecast to look at: beside the price of the day before, which any plot of prices alone would hide.

Errors and coverage are also of val, which has more days than a test part may have, and is marked: the epoch was chosen
on it and the model's interval calibrated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from ...drawing import COLORS, INK, canvas, in_style, line, tell, tell_along
from .baselines import BASELINES
from .metrics import COVERAGE, aligned, score, verdict

ACROSS = 14  # months that are named along a figure at most


@dataclass(frozen=True)
class Part:
    """The days of a part that have come, what is said of the model's skill on them, and of the model and each baseline
    the arrays of `aligned`: truth, known price, value, lower and upper bound, (days) each."""

    name: str
    days: pd.Series
    verdict: str
    given: Mapping[str, tuple[np.ndarray, ...]]

    def errors(self, who: str) -> np.ndarray:
        """By how much a forecast was too high, (days)."""
        truth, _, value, *_ = self.given[who]
        return np.asarray(value - truth)

    def held(self, who: str) -> np.ndarray:
        """Whether the price lay in the interval, (days)."""
        truth, _, _, lower, upper = self.given[who]
        return np.asarray((truth >= lower) & (truth <= upper))


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any,
    train: pd.DataFrame,
    val: pd.DataFrame,
) -> dict[str, Figure]:
    """The figures by name; `answers` and those of each baseline are to `rows`, the test part."""
    fits = {name: fit for name, fit in BASELINES.items() if name in baselines}
    on_val = {name: fit(train, columns)(val) for name, fit in fits.items()}
    test = _part("test", rows, {"model": answers, **baselines}, model.encoder)
    parts = [_part("val", val, {"model": model.answer(val), **on_val}, model.encoder), test]
    rmse = {
        name: score(found, rows, model.encoder)["rmse"]
        for name, found in {"model": answers, **baselines}.items()
    }
    trivial = next(iter(baselines))
    return {
        "prices": _prices(test, rmse, trivial, columns),
        "errors": _errors(parts, trivial, columns),
        "coverage": _coverage(parts),
    }


def _part(name: str, rows: pd.DataFrame, answers: Mapping[str, pd.DataFrame], encoder: Any) -> Part:
    days = pd.to_datetime(encoder.forecast_days(rows).dropna(subset="next")["date"])
    given = {who: aligned(found, rows, encoder) for who, found in answers.items()}
    return Part(name, days, verdict(answers["model"], rows, encoder), given)


def _prices(test: Part, rmse: Mapping[str, float], trivial: str, columns: Any) -> Figure:
    """What came, what was forecast the day before and its interval, and the trivial baseline."""
    truth, _, value, lower, upper = test.given["model"]
    naive = test.given[trivial][2]
    figure = canvas(f"{columns.target}, forecast the day before", height=4.4)
    axes = figure.add_subplot()
    axes.fill_between(
        test.days, lower, upper, color=COLORS[0], alpha=0.18, linewidth=0, label="90 % interval"
    )
    axes.plot(
        test.days,
        truth,
        color=INK,
        marker="o",
        markersize=3,
        linewidth=1,
        label=f"{columns.target} as it came",
    )
    axes.plot(test.days, value, **line(0), label="model")
    axes.plot(test.days, naive, **line(1), label=trivial)
    axes.set(ylabel=f"{columns.target} ({columns.unit})")
    _dated(axes, test.days)
    said = {columns.target: truth, "model": value, "from": lower, "to": upper, trivial: naive}
    tell_along(axes, _iso(test.days), said, "day", ".2f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    each = ", ".join(f"{name} {found:.2f}" for name, found in rmse.items())
    figure.set_label(
        f"RMSE in {columns.unit}: {each}, on {len(test.days):,} days."
        " A forecast that repeats the day before runs beside the price as well."
    )
    return figure


def _errors(parts: list[Part], trivial: str, columns: Any) -> Figure:
    """The errors of both, and by how much the model's squares are smaller, added up from each part's first day."""
    figure = canvas(f"Errors, beside those of {trivial}", height=5.0)
    layout: dict[str, Any] = {
        "sharex": "col",
        "sharey": "row",
        "height_ratios": [3, 2],
        "width_ratios": [3, 2],
    }
    for i, (part, (above, below)) in enumerate(
        zip(parts, figure.subplots(2, len(parts), **layout).T, strict=True)
    ):
        errors = {name: part.errors(name) for name in ("model", trivial)}
        for k, (name, error) in enumerate(errors.items()):
            above.plot(part.days, error, **line(k), marker="o", markersize=2.5, label=name)
        saved = np.cumsum(errors[trivial] ** 2 - errors["model"] ** 2)
        below.plot(part.days, saved, **line(0))
        for axes, said in ((above, errors), (below, {"squares saved so far": saved})):
            axes.axhline(0, color=INK, linewidth=0.8)
            tell_along(axes, _iso(part.days), said, f"{part.name}, day", ".2f")
        above.set_title(part.name, fontsize=9)
        _dated(below, part.days)
        if i == 0:
            above.set(ylabel=f"forecast - price ({columns.unit})")
            below.set(ylabel=f"squares saved,\nadded up ({columns.unit}²)")
            figure.legend(*above.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    val, test = parts
    figure.set_label(
        "Lower half: above 0 the model has been the better one so far in that part. On test nothing was chosen."
        f" {test.verdict} On val the epoch was chosen and the interval calibrated, which flatters it. {val.verdict}"
    )
    return figure


def _coverage(parts: list[Part]) -> Figure:
    """The share of days, month by month, whose price lay in the interval of each; the bars are where a share of 0.9
    lies 19 times in 20."""
    figure = canvas("Coverage of the 90 % interval, by month", height=4.4)
    axes = figure.add_subplot()
    named: dict[int, str] = {}
    for part in parts:
        months = _months(axes, part, max(named, default=-2) + 2)
        axes.text(
            sum(months) / len(months),
            1.02,
            part.name,
            ha="center",
            fontsize=9,
            transform=axes.get_xaxis_transform(),
        )
        if part is parts[0]:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        named |= months
    axes.axhline(COVERAGE, color=INK, linewidth=0.8)
    axes.set(
        xlabel="month", ylabel="share within its interval (fraction)", xlim=(-0.6, max(named) + 0.6)
    )
    shown = list(named)[:: -(-len(named) // ACROSS)]
    axes.set_xticks(
        shown, [named[place] for place in shown], rotation=45, ha="right", rotation_mode="anchor"
    )
    figure.set_label(
        f"{' '.join(_held(part) for part in parts)} Wanted: {COVERAGE:.1f}; a bar is where chance puts a true"
        f" {COVERAGE:.1f}. The model's interval was calibrated on val, so that it is right there by construction."
    )
    return figure


def _months(axes: Axes, part: Part, start: int) -> dict[int, str]:
    """Draw a part from the place `start` on; the months by their places."""
    from scipy.stats import binom

    names, at, n = np.unique(
        part.days.dt.strftime("%Y-%m"), return_inverse=True, return_counts=True
    )
    held = {who: np.bincount(at, part.held(who)) for who in part.given}
    low, high = (binom.ppf(level, n, COVERAGE) for level in (0.025, 0.975))
    place = start + np.arange(len(names))
    axes.bar(
        place,
        (high - low) / n,
        bottom=low / n,
        width=0.8,
        color=INK,
        alpha=0.15,
        label="chance around 0.9",
    )
    for i, (who, days) in enumerate(held.items()):
        style = line(i) | {
            "linestyle": "",
            "marker": "osD^"[i % 4],
            "markersize": 6 if i == 0 else 4,
        }
        axes.plot(place + 0.15 * (i - (len(held) - 1) / 2), days / n, **style, label=who)
    for k, month in enumerate(names):
        each = ", ".join(f"{who} {days[k]:.0f}" for who, days in held.items())
        words = f"{part.name}, {month}: of {n[k]} days {each} within; by chance {low[k]:.0f} to {high[k]:.0f}"
        tell(axes, (place[k] - 0.5, place[k] + 0.5), (0, 1), words, axes.get_xaxis_transform())
    return dict(zip(place.tolist(), names.tolist(), strict=True))


def _held(part: Part) -> str:
    each = ", ".join(f"{name} {part.held(name).sum():,}" for name in part.given)
    return f"Of {len(part.days):,} days of {part.name}, within: {each}."


def _iso(days: pd.Series) -> list[str]:
    return list(days.dt.strftime("%Y-%m-%d"))


def _dated(axes: Axes, days: pd.Series) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    years, months = (list(days.dt.strftime(form).unique()) for form in ("%Y", "%Y-%m"))
    span = months if len(months) == 1 else years
    axes.set(xlabel=f"day, {' to '.join(dict.fromkeys((span[0], span[-1])))}")
