"""Figures of both likes and stars: metrics by length of history, hidden units, one user."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ... import plugins
from ...drawing import COLORS, canvas, line, short, tooltip, tooltips
from ...intervals import Sample, interval
from ...kinds.parts import CONTEXT
from .metrics import requests

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from ...kinds.ratings.columns import Columns
    from ...kinds.ratings.encoder import Encoder
    from ...saved_model import SavedModel

# A metric of the answers to some requests, as a Sample for its interval.
Metric: TypeAlias = Callable[[pd.DataFrame, pd.DataFrame], Sample]

BANDS = (0, 10, 20, 40, 80, 160)  # the smallest number of known ratings of each band of users
UNITS = 6  # hidden units drawn
UNIT_FILMS = 3  # films drawn of each
# Films with fewer training ratings are left out: their weights are mostly noise.
RATINGS_OF_FILM = 20
TITLE_LETTERS = 40


# --- metrics by the length of a user's history --------------------------------------------------


def by_history(
    answers: Mapping[str, pd.DataFrame],
    rows: pd.DataFrame,
    columns: "Columns",
    metrics: Mapping[str, Metric],
) -> Figure:
    """Each metric in bands of users with few or many known ratings.

    `answers` holds the answers to `rows` by name, the model's under `model`.
    """
    test_rows = requests(rows, columns).reset_index(drop=True)
    history_lengths = rows[rows[CONTEXT]].groupby(columns.user).size()
    lengths = test_rows[columns.user].map(history_lengths).fillna(0).to_numpy()
    band_of_row = np.searchsorted(BANDS, lengths, side="right") - 1
    bands = np.unique(band_of_row)
    labels = [_band_label(band) for band in bands]
    title = f"{' and '.join(metrics)} by number of known ratings"
    figure = canvas(title, height=1.2 + 2.4 * len(metrics))
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (metric, sample_of) in zip(panels, metrics.items(), strict=True):
        samples: dict[str, list[Sample]] = {}
        for name, table in answers.items():
            samples[name] = []
            for band in bands:
                in_band = band_of_row == band
                in_answers = table[in_band].reset_index(drop=True)
                samples[name].append(sample_of(in_answers, test_rows[in_band]))
        _draw_bands(axes, labels, samples)
        axes.set(ylabel=metric)
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)
    panels[-1].set(xlabel="known ratings of the user (count)")
    counts = np.bincount(band_of_row)[bands]
    sizes = [f"{count:,} at {label}" for count, label in zip(counts, labels, strict=True)]
    figure.set_label(
        f"Test ratings by the number of known ratings of their user: {', '.join(sizes)}. Bars at"
        " the model's points: 95 % intervals."
    )
    return figure


def _band_label(band: int) -> str:
    if band + 1 == len(BANDS):
        return f"{BANDS[band]}+"
    return f"{BANDS[band]}–{BANDS[band + 1] - 1}"


def _draw_bands(axes: "Axes", labels: list[str], samples: Mapping[str, list[Sample]]) -> None:
    """A line of each name's scores, one point a band, and the intervals of the model's."""
    values: dict[str, list[float]] = {}
    for index, (name, of_bands) in enumerate(samples.items()):
        values[name] = [sample.observed for sample in of_bands]
        axes.plot(labels, values[name], **line(index), marker="o", markersize=4, label=name)
    # Only the model has intervals: those of the baselines would overlap them.
    for label, value, sample in zip(labels, values["model"], samples["model"], strict=True):
        if np.isfinite(value):  # NaN: a band where all were liked, or none, has no AUC
            low, high = interval(sample)
            axes.vlines([label], [low], [high], color=COLORS[0], linewidth=1, alpha=0.7)
    tooltips(axes, labels, values, "known ratings")


# --- hidden units -------------------------------------------------------------------------------


def unit_weights(model: "SavedModel") -> np.ndarray | None:
    """The weight of each film in each hidden unit, (units, items), or None without `net.units`."""
    units: Callable[[], Tensor] | None = plugins.optional(model.net, "units", None)
    if units is None:
        return None
    return units().detach().numpy()


def units_figure(weights: np.ndarray, train: pd.DataFrame, encoder: "Encoder") -> Figure:
    """The films with the largest weights, (units, items), in the units whose weights vary most."""
    counts = _rating_counts(train, encoder)
    # If no film has enough ratings, as in a small test, the films with the most are drawn.
    least = min(RATINGS_OF_FILM, int(counts.max()))
    films = np.flatnonzero(counts >= least)
    units = np.argsort(-weights[:, films].std(1), kind="stable")[:UNITS]
    title = "Films with the largest weights in a hidden unit"
    figure = canvas(title, height=0.8 + 0.85 * len(units))
    panels = figure.subplots(len(units), 1, sharex=True, squeeze=False)[:, 0]
    for axes, unit in zip(panels, units, strict=True):
        largest = np.argsort(-np.abs(weights[unit, films]), kind="stable")[:UNIT_FILMS]
        _draw_unit(axes, unit, weights[unit], films[largest][::-1], encoder.titles)
    panels[-1].set_xlabel("weight of the film in the unit", fontsize=8)
    figure.align_ylabels(panels)
    figure.set_label(
        f"The {len(units)} of {len(weights)} hidden units whose weights vary most between films; of"
        f" each, the {UNIT_FILMS} films with the largest absolute weights, among films with at"
        f" least {least} training ratings."
    )
    return figure


def _draw_unit(
    axes: "Axes", unit: int, weights: np.ndarray, films: np.ndarray, titles: list[str]
) -> None:
    """A bar for the weight of each of `films` (places in the catalogue), the last on top."""
    values = weights[films]
    positions = range(len(films))
    colors = np.where(values > 0, COLORS[0], COLORS[1]).tolist()
    axes.barh(positions, values, color=colors, alpha=0.5)
    axes.set_yticks(positions, [short(titles[i], TITLE_LETTERS) for i in films], fontsize=7)
    axes.set_ylabel(f"unit {unit}", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    for y, film, value in zip(positions, films, values, strict=True):
        text = f"unit {unit}, {titles[film]}: {value:+.3f}"
        tooltip(axes, (0, value), (y - 0.4, y + 0.4), text)


# --- one user -----------------------------------------------------------------------------------


def example_user(rows: pd.DataFrame, columns: "Columns") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The history and the requests of the user with the median number of known ratings.

    Users with equally many are in the order of their ids, so that the choice is repeatable.
    """
    history = rows.loc[rows[CONTEXT], columns.user]
    lengths = history.value_counts().sort_index().sort_values(kind="stable")
    # Not a random user: one with a few ratings, or hundreds, would be no example.
    user = lengths.index[len(lengths) // 2]
    user_rows = rows[rows[columns.user] == user]
    return user_rows[user_rows[CONTEXT]], user_rows[~user_rows[CONTEXT]]


def item_index(items: Iterable[int], encoder: "Encoder") -> np.ndarray:
    """The place of each film in the catalogue."""
    return pd.Index(encoder.items).get_indexer(pd.Index(items))


def most_rated(
    history: pd.DataFrame, train: pd.DataFrame, encoder: "Encoder", count: int
) -> pd.DataFrame:
    """The `count` rows of `history` whose films have the most ratings in `train`."""
    films = item_index(history[encoder.columns.item], encoder)
    ratings = _rating_counts(train, encoder)[films]
    return history.iloc[np.argsort(-ratings, kind="stable")[:count]]


def privacy_note(model: "SavedModel") -> str:
    """A sentence for a table with one user's ratings; empty if the data are the synthetic twin."""
    if model.card["source"] == "embedded":
        return ""
    return (
        " These are a real person's ratings: share this page only with people who may have the"
        " data."
    )


def _rating_counts(train: pd.DataFrame, encoder: "Encoder") -> np.ndarray:
    """The number of training ratings of each film of the catalogue, (items)."""
    counts = train[encoder.columns.item].value_counts()
    return counts.reindex(encoder.items, fill_value=0).to_numpy()
