"""What likes and stars share: how the answers depend on how much is known of a user, and what the hidden units know."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..data import CONTEXT
from ..tasks._recommendation import asked
from . import COLORS, canvas, line

BANDS = (0, 10, 20, 40, 80, 160)  # known ratings from which a band of users begins
UNITS, FILMS, RATED = 6, 3, 20  # units shown, films of each, and how often a film must have been rated
LETTERS = 40  # of a title


def by_known(
    everyone: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame,
    columns: Any,
    metric: str,
    score: Callable[[pd.DataFrame, pd.DataFrame], float],
) -> Figure:
    """`score` of the answers about users of whom few or many ratings are known, a point a band."""
    known = rows[rows[CONTEXT]].groupby(columns.user).size()
    questions = asked(rows, columns).reset_index(drop=True)
    count = questions[columns.user].map(known).fillna(0).to_numpy()
    band = np.searchsorted(BANDS, count, side="right") - 1
    there = np.unique(band)
    figure = canvas(f"{metric} by how much is known of the user", height=3.6)
    axes = figure.add_subplot()
    for i, (name, given) in enumerate(everyone.items()):
        found = [score(given[band == b].reset_index(drop=True), questions[band == b]) for b in there]
        axes.plot(range(len(there)), found, **line(i), marker="o", markersize=4, label=name)
    names = [f"{BANDS[b]}–{BANDS[b + 1] - 1}" if b + 1 < len(BANDS) else f"{BANDS[b]}+" for b in there]
    axes.set_xticks(range(len(there)), names)
    axes.set(xlabel="known ratings of the user (count)", ylabel=f"{metric} on the ratings asked for")
    axes.legend()
    sizes = ", ".join(f"{n} with {name}" for n, name in zip(np.bincount(band)[there], names, strict=True))
    figure.set_label(f"Ratings asked for, by how many of the user's are known: {sizes}.")
    return figure


def units(model: Any, train: pd.DataFrame) -> dict[str, Figure]:
    """The films that weigh most in the units whose weights differ most; nothing for a net without `units`."""
    if model is None or not hasattr(model.net, "units"):
        return {}
    weights = model.net.units().detach().numpy()  # (units, items)
    encoder = model.encoder
    counts = train[encoder.columns.item].value_counts().reindex(encoder.items, fill_value=0).to_numpy()
    often = np.flatnonzero(counts >= min(RATED, counts.max()))
    chosen = np.argsort(-weights[:, often].std(1), kind="stable")[:UNITS]
    figure = canvas("The films that weigh most in a hidden unit", height=0.8 + 0.85 * len(chosen))
    every = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for axes, unit in zip(every, chosen, strict=True):
        order = often[np.argsort(-np.abs(weights[unit, often]), kind="stable")[:FILMS]][::-1]
        values = weights[unit, order]
        axes.barh(range(len(order)), values, color=[COLORS[0] if v > 0 else COLORS[1] for v in values], alpha=0.5)
        axes.set_yticks(range(len(order)), [_short(encoder.titles[i]) for i in order], fontsize=7)
        axes.set_ylabel(f"unit {unit}", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
    every[-1].set_xlabel("weight of the film in the unit", fontsize=8)
    figure.set_label(
        f"{len(chosen)} of {len(weights)} units, those whose weights differ most, and of each the {FILMS} films that"
        f" weigh most among those rated {RATED} times or more."
    )
    return {"units": figure}


def _short(title: str) -> str:
    return title if len(title) <= LETTERS else f"{title[: LETTERS - 1]}…"
