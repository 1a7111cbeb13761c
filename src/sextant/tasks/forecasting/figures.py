"""Figures of forecasting: prices, errors and coverage, beside the trivial baseline.

Any forecast that repeats the price of the day before looks good on a plot of prices, so that
baseline is drawn in each of them. Errors and coverage are also drawn for val, which has more days
than a test part may have; it is marked, because the epoch was chosen and the interval calibrated on
it.

With a horizon above 1, a fan of forecasts and the scores by days ahead come first; the other
figures are those of the next day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...drawing import COLORS, INK, canvas, in_style, line, tooltip, tooltips
from .baselines import BASELINES
from .metrics import (
    COVERAGE,
    Aligned,
    aligned,
    answer_columns,
    days_ahead,
    scores,
    scores_by_day,
    verdict,
)

if TYPE_CHECKING:
    from ...kinds.series.columns import Columns
    from ...kinds.series.encoder import Encoder
    from ...saved_model import SavedModel

MAX_MONTHS = 14  # names of months that fit along an axis
MARKERS = "osD^"
FANS = 4  # forecasts in the figure of the fan
LEAD = 10  # days before the first of them


@dataclass(frozen=True)
class Part:
    """The days of a part whose truth is known, with all forecasts of them one day ahead.

    `verdict` is the model's; `forecasts` has the model's first. `by_day` has the metrics of each
    forecaster for each day ahead.
    """

    name: str
    days: pd.Series
    verdict: str
    forecasts: Mapping[str, Aligned]
    by_day: Mapping[str, Sequence[Mapping[str, float]]]


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "Columns",
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
    train: pd.DataFrame,
    val: pd.DataFrame,
) -> dict[str, Figure]:
    """Return the figures by name, in reading order.

    `answers` and those of each baseline are the answers to `rows`, the test part.
    """
    encoder = cast("Encoder", model.encoder)
    val_answers = {"model": model.answer(val)}
    for name, fit in BASELINES.items():
        if name in baselines:
            val_answers[name] = fit(train, columns)(val)
    val_part = _part("val", val, val_answers, encoder)
    test_part = _part("test", rows, {"model": answers, **baselines}, encoder)
    trivial = next(iter(baselines))
    further = {}
    if columns.horizon > 1:
        further["fan"] = _fan(answers, baselines[trivial], rows, trivial, encoder)
        further["days-ahead"] = _days_ahead(val_part, test_part, columns)
    return {
        **further,
        "prices": _prices(test_part, trivial, columns),
        "errors": _errors(val_part, test_part, trivial, columns),
        "coverage": _coverage(val_part, test_part, columns),
    }


def _part(
    name: str, rows: pd.DataFrame, answers: Mapping[str, pd.DataFrame], encoder: "Encoder"
) -> Part:
    days = pd.to_datetime(encoder.forecast_days(rows).dropna(subset="next")["date"])
    forecasts = {}
    by_day = {}
    for forecaster, table in answers.items():
        forecasts[forecaster] = aligned(table, rows, encoder)
        by_day[forecaster] = scores_by_day(table, rows, encoder)
    return Part(name, days, verdict(answers["model"], rows, encoder), forecasts, by_day)


# --- a horizon above 1 --------------------------------------------------------------------------


def _fan(
    answers: pd.DataFrame,
    held: pd.DataFrame,
    rows: pd.DataFrame,
    trivial: str,
    encoder: "Encoder",
) -> Figure:
    """The last forecasts of test over all days ahead; each begins where the one before ends.

    `held` are the answers of the baseline `trivial`.
    """
    columns = encoder.columns
    horizon = columns.horizon
    complete = np.flatnonzero(encoder.forecast_days(rows, horizon)["date"].notna())
    origins = complete[::-1][::horizon][:FANS][::-1]
    base = encoder.forecast_days(rows)["base"].to_numpy()
    first = columns.window - 1  # the row that completes the first window
    dates = pd.to_datetime(rows[columns.date])
    figure = canvas(f"{columns.target}, forecast 1 to {horizon} days ahead", height=4.4)
    axes = figure.add_subplot()
    lines: dict[str, list[float]] = {name: [] for name in ("model", "lower", "upper", trivial)}
    for fan, origin in enumerate(origins):
        value, lower, upper = _path(answers, origin, columns)
        naive = _path(held, origin, columns)[0]
        days = dates.iloc[first + origin : first + origin + horizon + 1]
        start = base[[origin]]
        axes.fill_between(
            days,
            np.concatenate([start, lower]),
            np.concatenate([start, upper]),
            color=COLORS[0],
            alpha=0.18,
            linewidth=0,
            label="" if fan else "90 % interval",
        )
        path = np.concatenate([start, value])
        axes.plot(days, path, **line(0), label="" if fan else "model")
        axes.plot(days[1:], naive, **line(1), label="" if fan else trivial)
        for name, values in zip(lines, (value, lower, upper, naive), strict=True):
            lines[name].extend(values)
    begin = first + origins[0]
    end = first + origins[-1] + horizon + 1
    shown_days = slice(max(begin - LEAD, 0), end)
    truth = rows[columns.target].to_numpy(float)
    axes.plot(
        dates.iloc[shown_days],
        truth[shown_days],
        color=INK,
        marker="o",
        markersize=3,
        linewidth=1,
        label=f"{columns.target}, observed",
    )
    axes.set(ylabel=f"{columns.target} ({columns.unit})")
    _date_axis(axes, dates.iloc[shown_days])
    forecast_days = dates.iloc[begin + 1 : end]
    observed = {columns.target: truth[begin + 1 : end].tolist()}
    tooltips(axes, _iso(forecast_days), observed | lines, "day", ".2f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    figure.set_label(
        f"The last {len(origins)} forecasts of test that do not overlap: each is made from the"
        f" {columns.base} where its band begins. The band of a random walk grows with the square"
        " root of the days ahead."
    )
    return figure


def _path(
    answers: pd.DataFrame, origin: int, columns: "Columns"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, lower and upper bound of one forecast at each day ahead, (horizon,) each."""
    names = [answer_columns(columns, ahead) for ahead in days_ahead(columns)]
    value, lower, upper = zip(*names, strict=True)
    forecast = answers.iloc[origin]
    return (
        forecast[list(value)].to_numpy(float),
        forecast[list(lower)].to_numpy(float),
        forecast[list(upper)].to_numpy(float),
    )


def _days_ahead(val: Part, test: Part, columns: "Columns") -> Figure:
    """RMSE and coverage of each forecaster by the days ahead, on val and on test."""
    figure = canvas("Errors and coverage by days ahead", height=5.0)
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    days = np.array(days_ahead(columns))
    for part, above, below in zip((val, test), *grid, strict=True):
        for axes, metric in ((above, "rmse"), (below, "coverage_90")):
            lines = {}
            for forecaster, by_day in part.by_day.items():
                lines[forecaster] = [of_day[metric] for of_day in by_day]
            for i, (forecaster, values) in enumerate(lines.items()):
                axes.plot(days, values, **line(i), marker="o", markersize=2.5, label=forecaster)
            form = ".2f" if metric == "rmse" else ".3f"
            tooltips(axes, days, lines, f"{part.name}, {metric}, days ahead", form)
        above.set_title(part.name, fontsize=9)
        below.axhline(COVERAGE, color=INK, linewidth=0.8)
        below.set(xlabel="days ahead")
        below.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    grid[0, 0].set(ylabel=f"RMSE ({columns.unit})")
    grid[1, 0].set(ylabel="share within the interval\n(fraction)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    rmse = []
    for forecaster, by_day in test.by_day.items():
        texts = [f"{of_day['rmse']:.2f}" for of_day in by_day]
        rmse.append(f"{forecaster} {' '.join(texts)}")
    figure.set_label(
        f"RMSE in {columns.unit} on test, 1 to {len(days)} days ahead: {'; '.join(rmse)}. Line: the"
        f" nominal coverage of {COVERAGE:.1f}. Each day ahead has an interval of its own, which was"
        " calibrated on val; returns over several days overlap, so that their coverage varies more"
        " by chance."
    )
    return figure


# --- prices -------------------------------------------------------------------------------------


def _prices(test: Part, trivial: str, columns: "Columns") -> Figure:
    """The prices of test, the model's forecasts with their interval, and the trivial baseline."""
    model = test.forecasts["model"]
    naive = test.forecasts[trivial].value
    figure = canvas(f"{columns.target}, forecast one day ahead", height=4.4)
    axes = figure.add_subplot()
    axes.fill_between(
        test.days,
        model.lower,
        model.upper,
        color=COLORS[0],
        alpha=0.18,
        linewidth=0,
        label="90 % interval",
    )
    axes.plot(
        test.days,
        model.truth,
        color=INK,
        marker="o",
        markersize=3,
        linewidth=1,
        label=f"{columns.target}, observed",
    )
    axes.plot(test.days, model.value, **line(0), label="model")
    axes.plot(test.days, naive, **line(1), label=trivial)
    axes.set(ylabel=f"{columns.target} ({columns.unit})")
    _date_axis(axes, test.days)
    lines = {
        columns.target: model.truth,
        "model": model.value,
        "lower": model.lower,
        "upper": model.upper,
        trivial: naive,
    }
    tooltips(axes, _iso(test.days), lines, "day", ".2f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    rmse = []
    for forecaster, forecasts in test.forecasts.items():
        rmse.append(f"{forecaster} {scores(*forecasts)['rmse']:.2f}")
    figure.set_label(
        f"RMSE in {columns.unit} on {len(test.days):,} days: {', '.join(rmse)}. A forecast that"
        " repeats the price of the day before also follows the prices closely."
    )
    return figure


# --- errors -------------------------------------------------------------------------------------


def _errors(val: Part, test: Part, trivial: str, columns: "Columns") -> Figure:
    """The errors of the model and the trivial baseline, and the model's cumulative gain over it.

    The gain is the difference of their squared errors, added up from the first day of each part.
    """
    figure = canvas(f"Forecast errors, compared with {trivial}", height=5.0)
    grid = figure.subplots(
        2, 2, sharex="col", sharey="row", height_ratios=[3, 2], width_ratios=[3, 2]
    )
    for part, above, below in zip((val, test), *grid, strict=True):
        errors = {name: part.forecasts[name].errors for name in ("model", trivial)}
        for i, (name, values) in enumerate(errors.items()):
            above.plot(part.days, values, **line(i), marker="o", markersize=2.5, label=name)
        gain = np.cumsum(errors[trivial] ** 2 - errors["model"] ** 2)
        below.plot(part.days, gain, **line(0))
        for axes, lines in ((above, errors), (below, {"cumulative gain": gain})):
            axes.axhline(0, color=INK, linewidth=0.8)
            tooltips(axes, _iso(part.days), lines, f"{part.name}, day", ".2f")
        above.set_title(part.name, fontsize=9)
        _date_axis(below, part.days)
    grid[0, 0].set(ylabel=f"forecast - price ({columns.unit})")
    grid[1, 0].set(ylabel=f"cumulative gain\n({columns.unit}²)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    figure.set_label(
        f"{_scope(columns)}Lower half: the squared errors of {trivial} less those of the model,"
        " added up from the first day of each part; above 0, the model has been the better one so"
        f" far. Nothing was chosen on test. {test.verdict} On val, the epoch was chosen and the"
        f" interval calibrated, so that its numbers are optimistic. {val.verdict}"
    )
    return figure


# --- coverage -----------------------------------------------------------------------------------


def _coverage(val: Part, test: Part, columns: "Columns") -> Figure:
    """The share of days within the interval of each, month by month."""
    figure = canvas("Coverage of the 90 % interval, by month", height=4.4)
    axes = figure.add_subplot()
    months = _months(axes, val, 0)
    # The legend is made of val alone: test would add each entry for a second time.
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    months |= _months(axes, test, max(months) + 2)  # an empty place separates the parts
    axes.axhline(COVERAGE, color=INK, linewidth=0.8)
    axes.set(
        xlabel="month",
        ylabel="share within the interval (fraction)",
        xlim=(-0.6, max(months) + 0.6),
    )
    named = list(months)[:: -(-len(months) // MAX_MONTHS)]
    names = [months[place] for place in named]
    axes.set_xticks(named, names, rotation=45, ha="right", rotation_mode="anchor")
    figure.set_label(
        f"{_scope(columns)}{_covered(val)} {_covered(test)} Line: the nominal coverage of"
        f" {COVERAGE:.1f}; grey bars: where the share of a month lies with a probability of 95 %"
        " if that is the true coverage. The model's interval was calibrated on val, so that it is"
        " right on val by construction."
    )
    return figure


def _months(axes: Axes, part: Part, start: int) -> dict[int, str]:
    """Draw the months of a part from the place `start` on; return them by place."""
    from scipy.stats import binom

    months, month_of_day, n = np.unique(
        part.days.dt.strftime("%Y-%m"), return_inverse=True, return_counts=True
    )
    places = start + np.arange(len(months))
    low = binom.ppf(0.025, n, COVERAGE)
    high = binom.ppf(0.975, n, COVERAGE)
    axes.bar(
        places,
        (high - low) / n,
        bottom=low / n,
        width=0.8,
        color=INK,
        alpha=0.15,
        label="95 % by chance",
    )
    covered = {}
    for i, (forecaster, forecasts) in enumerate(part.forecasts.items()):
        days = np.bincount(month_of_day, forecasts.covered)
        covered[forecaster] = days
        marker = {
            "linestyle": "",
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 6 if i == 0 else 4,
        }
        # Side by side around the middle of the bar.
        offset = 0.15 * (i - (len(part.forecasts) - 1) / 2)
        axes.plot(places + offset, days / n, **(line(i) | marker), label=forecaster)
    for k, month in enumerate(months):
        counts = ", ".join(f"{forecaster} {days[k]:.0f}" for forecaster, days in covered.items())
        text = (
            f"{part.name}, {month}: of {n[k]} days, within the interval: {counts}; by chance"
            f" {low[k]:.0f} to {high[k]:.0f}"
        )
        place = places[k]
        tooltip(axes, (place - 0.5, place + 0.5), (0, 1), text, axes.get_xaxis_transform())
    middle = places.sum() / len(places)
    axes.text(
        middle, 1.02, part.name, ha="center", fontsize=9, transform=axes.get_xaxis_transform()
    )
    return dict(zip(places.tolist(), months.tolist(), strict=True))


def _covered(part: Part) -> str:
    counts = []
    for forecaster, forecasts in part.forecasts.items():
        counts.append(f"{forecaster} {forecasts.covered.sum():,}")
    return f"Of {len(part.days):,} days of {part.name}, within the interval: {', '.join(counts)}."


def _scope(columns: "Columns") -> str:
    """The beginning of a caption of a figure of the next day alone, if the horizon is longer."""
    return "One day ahead. " if columns.horizon > 1 else ""


# --- dates --------------------------------------------------------------------------------------


def _iso(days: pd.Series) -> Sequence[str]:
    return list(days.dt.strftime("%Y-%m-%d"))


def _date_axis(axes: Axes, days: pd.Series) -> None:
    """Put dates on the x axis, and the years or the single month that they span in its label."""
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    span = list(days.dt.strftime("%Y-%m").unique())
    if len(span) > 1:
        span = list(days.dt.strftime("%Y").unique())
    period = span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}"
    axes.set(xlabel=f"day, {period}")
