"""What likes and stars share: the answers by how much is known of a user, what the hidden units know, one user."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ... import plugins
from ...drawing import COLORS, canvas, line, tell, tell_along
from ...intervals import Sample, interval
from ...kinds.parts import CONTEXT
from .metrics import asked

BANDS = (0, 10, 20, 40, 80, 160)  # known ratings from which a band of users begins
UNITS, FILMS, RATED = (
    6,
    3,
    20,
)  # units shown, films of each, and how often a film must have been rated
LETTERS = 40  # of a title


def by_known(
    everyone: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame,
    columns: Any,
    metrics: Mapping[str, Callable[[pd.DataFrame, pd.DataFrame], Sample]],
) -> Figure:
    """Each metric of the answers about users of whom few or many ratings are known, a point a band."""
    known = rows[rows[CONTEXT]].groupby(columns.user).size()
    questions = asked(rows, columns).reset_index(drop=True)
    count = questions[columns.user].map(known).fillna(0).to_numpy()
    band = np.searchsorted(BANDS, count, side="right") - 1
    there = np.unique(band)
    names = [
        f"{BANDS[b]}–{BANDS[b + 1] - 1}" if b + 1 < len(BANDS) else f"{BANDS[b]}+" for b in there
    ]
    figure = canvas(
        f"{' and '.join(metrics)} by how much is known of the user", height=1.2 + 2.4 * len(metrics)
    )
    every = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (metric, of) in zip(every, metrics.items(), strict=True):
        found = {
            name: [of(given[band == b].reset_index(drop=True), questions[band == b]) for b in there]
            for name, given in everyone.items()
        }
        values = {
            name: [one.score(np.ones(len(one.groups))) for one in samples]
            for name, samples in found.items()
        }
        for i, name in enumerate(everyone):
            axes.plot(names, values[name], **line(i), marker="o", markersize=4, label=name)
        for name, value, sample in zip(names, values["model"], found["model"], strict=True):
            if np.isfinite(value):
                axes.vlines(
                    [name],
                    *np.reshape(interval(sample), (2, 1)),
                    color=COLORS[0],
                    linewidth=1,
                    alpha=0.7,
                )
        axes.set(ylabel=metric)
        tell_along(axes, names, values, "known ratings")
    every[0].legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)
    every[-1].set(xlabel="known ratings of the user (count)")
    sizes = ", ".join(
        f"{n:,} with {name}" for n, name in zip(np.bincount(band)[there], names, strict=True)
    )
    figure.set_label(
        f"Of the ratings asked for, by how many of the user's are known: {sizes}. Bars through the model's points:"
        " 95 % intervals."
    )
    return figure


def has_units(model: Any) -> bool:
    return model is not None and plugins.optional(model.net, "units", None) is not None


def units(model: Any, train: pd.DataFrame) -> dict[str, Figure]:
    """The films that weigh most in the units whose weights differ most; nothing for a net without `units`."""
    if not has_units(model):
        return {}
    weights = model.net.units().detach().numpy()  # (units, items)
    encoder = model.encoder
    often = np.flatnonzero(_counts(train, encoder) >= min(RATED, _counts(train, encoder).max()))
    chosen = np.argsort(-weights[:, often].std(1), kind="stable")[:UNITS]
    figure = canvas("The films that weigh most in a hidden unit", height=0.8 + 0.85 * len(chosen))
    every = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axes, unit in zip(every, chosen, strict=True):
        order = often[np.argsort(-np.abs(weights[unit, often]), kind="stable")[:FILMS]][::-1]
        values = weights[unit, order]
        axes.barh(
            range(len(order)),
            values,
            color=[COLORS[0] if v > 0 else COLORS[1] for v in values],
            alpha=0.5,
        )
        axes.set_yticks(range(len(order)), [_short(encoder.titles[i]) for i in order], fontsize=7)
        axes.set_ylabel(f"unit {unit}", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        for y, (item, value) in enumerate(zip(order, values, strict=True)):
            tell(
                axes,
                (0, value),
                (y - 0.4, y + 0.4),
                f"unit {unit}, {encoder.titles[item]}: {value:+.3f}",
            )
    every[-1].set_xlabel("weight of the film in the unit", fontsize=8)
    figure.align_ylabels(every)
    figure.set_label(
        f"{len(chosen)} of {len(weights)} units, those whose weights differ most, and of each the {FILMS} films that"
        f" weigh most among those rated {RATED} times or more."
    )
    return {"units": figure}


def somebody(rows: pd.DataFrame, columns: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known of one user and what is asked: the median one, by how much is known and then by id."""
    known = (
        rows.loc[rows[CONTEXT], columns.user].value_counts().sort_index().sort_values(kind="stable")
    )
    own = rows[rows[columns.user] == known.index[len(known) // 2]]
    return own[own[CONTEXT]], own[~own[CONTEXT]]


def places(items: Any, encoder: Any) -> np.ndarray:
    """The column that each film has."""
    return pd.Index(encoder.items).get_indexer(items)


def best_known(known: pd.DataFrame, train: pd.DataFrame, encoder: Any, count: int) -> pd.DataFrame:
    """Of some rows the `count` whose films most users have rated."""
    often = _counts(train, encoder)[places(known[encoder.columns.item], encoder)]
    return known.iloc[np.argsort(-often, kind="stable")[:count]]


def caution(model: Any) -> str:
    """What to say where the ratings of one user are shown that are not made up."""
    real = model.card["source"] != "embedded"
    return (
        " These are a real person's ratings: pass the page on no further than the data may go."
        if real
        else ""
    )


def _counts(train: pd.DataFrame, encoder: Any) -> np.ndarray:
    """How often each film of the catalogue was rated."""
    counts: np.ndarray = (
        train[encoder.columns.item].value_counts().reindex(encoder.items, fill_value=0).to_numpy()
    )
    return counts


def _short(title: str) -> str:
    return title if len(title) <= LETTERS else f"{title[: LETTERS - 1]}…"
