"""Figures of stars: predictions by rating, length of history, recommendations, one user."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...drawing import COLORS, INK, Table, canvas, in_style, line, tooltip, tooltips
from ...intervals import Sample
from ...kinds.ratings.rows import TARGET
from ...saved_model import outputs
from ..recommendation.figures import (
    by_history,
    example_user,
    item_index,
    privacy_note,
    unit_weights,
    units_figure,
)
from ..recommendation.metrics import CUT, retrieval_at, targets
from .metrics import contributions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...kinds.ratings.columns import Columns
    from ...kinds.ratings.encoder import Encoder
    from ...saved_model import SavedModel

REASONS = 3  # films named as the reason of a recommendation
LARGEST_K = 100  # recommended films on the axis of recall and NDCG
# What the tooltip of a box names: whiskers, quartiles and median.
QUANTILES = {
    "5 %": 0.05,
    "quartile": 0.25,
    "median": 0.5,
    "upper quartile": 0.75,
    "95 %": 0.95,
}


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "Columns",
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
    train: pd.DataFrame,
) -> dict[str, Figure | Table]:
    """Figures and tables by name, of the answers of a model and of baselines to the test part."""
    encoder = cast("Encoder", model.encoder)
    truth = targets(rows, columns)
    all_answers = {"model": answers, **baselines}

    def rmse(answers: pd.DataFrame, requests: pd.DataFrame) -> Sample:
        return contributions(answers, requests, encoder)

    drawn: dict[str, Figure | Table] = {
        "stars": _stars(answers["stars"].to_numpy(), truth[TARGET].to_numpy(), columns.values),
        "known": by_history(all_answers, rows, columns, {"RMSE": rmse}),
        "retrieval": _retrieval(all_answers, truth, columns),
        "reconstruction": _reconstruction(model, rows),
    }
    weights = unit_weights(model)
    if weights is not None:
        drawn["units"] = units_figure(weights, train, encoder)
        drawn["recommended"] = _recommended(model, weights, rows)
    return drawn


# --- all users ----------------------------------------------------------------------------------


def _stars(preds: np.ndarray, stars: np.ndarray, values: list[float]) -> Figure:
    """The spread of the predictions for each true rating."""
    figure = canvas("Predicted stars by true stars")
    axes = figure.add_subplot()
    rated = [value for value in values if (stars == value).any()]
    preds_by_value = [preds[stars == value] for value in rated]
    axes.plot(rated, rated, color=INK, linewidth=0.8)
    # Predictions beyond the whiskers are not drawn: a tenth of thousands would hide the boxes.
    boxplot = axes.boxplot(
        preds_by_value,
        positions=rated,
        widths=0.5,
        whis=(5, 95),
        showfliers=False,
        manage_ticks=False,
    )
    for line_group in ("boxes", "whiskers", "caps"):
        for artist in boxplot[line_group]:
            artist.set_color(COLORS[0])
    for artist in boxplot["medians"]:
        artist.set_color(COLORS[1])
    axes.set_xticks(values)
    axes.set(xlabel="true stars", ylabel="predicted stars")
    quantiles = {}
    for name, q in QUANTILES.items():
        quantiles[name] = [np.quantile(box, q) for box in preds_by_value]
    tooltips(axes, rated, quantiles, "true stars", ".2f")
    medians = []
    for value, box in zip(rated, preds_by_value, strict=True):
        medians.append(f"{np.median(box):.2f} at {value:g}")
    figure.set_label(
        f"Median prediction by true stars: {', '.join(medians)}. Boxes: quartiles; whiskers: 5 to"
        " 95 %; line: prediction equals truth."
    )
    return figure


def _retrieval(
    all_answers: Mapping[str, pd.DataFrame], truth: pd.DataFrame, columns: "Columns"
) -> Figure:
    """Recall and NDCG at k of each user's liked films among the unrated ones."""
    liked = (truth[TARGET] >= columns.like).to_numpy()
    user_index, _ = pd.factorize(truth[columns.user].to_numpy()[liked])
    ks = range(1, LARGEST_K + 1)
    recall, ndcg = {}, {}
    for name, answers in all_answers.items():
        rank = answers["rank"].to_numpy()[liked]
        curve = np.array([retrieval_at(k, user_index, rank) for k in ks])
        recall[name], ndcg[name] = curve[:, 0], curve[:, 1]
    figure = canvas("Recall and NDCG of the recommendations", height=5.4)
    above, below = figure.subplots(2, 1, sharex=True)
    _by_k(above, ks, recall, "recall")
    _by_k(below, ks, ndcg, "NDCG")
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)
    below.set(xlabel="recommended films, k (count)")
    at_cut = []
    for name in all_answers:
        recall_at_cut, ndcg_at_cut = recall[name][CUT - 1], ndcg[name][CUT - 1]
        at_cut.append(f"{name} recall {recall_at_cut:.4f}, NDCG {ndcg_at_cut:.4f}")
    figure.set_label(f"At {CUT}: {'; '.join(at_cut)}. Films with equal scores rank last.")
    return figure


def _by_k(axes: "Axes", ks: range, curves: Mapping[str, np.ndarray], metric: str) -> None:
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(ks, values, **line(index), label=name)
    axes.axvline(CUT, color=INK, linewidth=0.8)
    axes.set(ylabel=f"{metric} at k (fraction)", xlim=(0, LARGEST_K), ylim=(0, None))
    tooltips(axes, ks, curves, f"{metric} at")


# --- one user -----------------------------------------------------------------------------------


def _reconstruction(model: "SavedModel", rows: pd.DataFrame) -> Figure:
    """One user's ratings against the net's predictions for them: its input, and hidden ones."""
    encoder = cast("Encoder", model.encoder)
    columns = encoder.columns
    history, test_rows = example_user(rows, columns)
    lowest, highest = columns.values[0], columns.values[-1]
    stars = outputs(model.net, encoder.encode(history))["stars"][0].numpy()
    preds = np.clip(stars, lowest, highest)
    figure = canvas("One user: true and reconstructed stars", height=4.2)
    axes = figure.add_subplot()
    axes.plot(columns.values, columns.values, color=INK, linewidth=0.8)
    errors = []
    for index, (name, part, truth) in enumerate(
        (
            ("input", history, history[columns.rating]),
            ("hidden (test)", test_rows, test_rows[TARGET]),
        )
    ):
        part_preds = preds[item_index(part[columns.item], encoder)]
        _dots(axes, index, name, truth.to_numpy(), part_preds)
        rmse = float(np.sqrt(((part_preds - truth.to_numpy()) ** 2).mean()))
        errors.append(f"{len(part)} {name}: RMSE {rmse:.3f}")
    axes.set_xticks(columns.values)
    axes.set(xlabel="true stars", ylabel="reconstructed stars")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    figure.set_label(
        f"The user with the median number of known ratings. {'; '.join(errors)}; line:"
        " reconstruction equals truth."
    )
    return figure


def _dots(axes: "Axes", index: int, name: str, stars: np.ndarray, preds: np.ndarray) -> None:
    """A dot for each film, beside its true rating.

    Films with the same rating lie side by side in the order of their predictions, so that each can
    be seen. The tooltips do not name the films: the report need not publish what a user rated.
    """
    # Two strips of dots around each rating, 0.36 wide and 0.42 apart: input left, hidden right.
    order = pd.Series(preds).groupby(stars).rank(method="first", pct=True).to_numpy()
    x = stars + (index - 0.5) * 0.42 + 0.36 * (order - 0.5)
    marker = "o^"[index]
    axes.plot(
        x,
        preds,
        color=COLORS[index],
        linestyle="",
        marker=marker,
        markersize=4,
        alpha=0.8,
        label=name,
    )
    for dot_x, pred, star in zip(x, preds, stars, strict=True):
        text = f"{name}: true {star:g}, predicted {pred:.2f}"
        tooltip(axes, (dot_x - 0.06, dot_x + 0.06), (pred - 0.08, pred + 0.08), text)


def _recommended(model: "SavedModel", weights: np.ndarray, rows: pd.DataFrame) -> Table:
    """The recommendations for one user, and the user's films that are most similar to each.

    `weights` (units, items) are those of the last hidden layer.
    """
    encoder = cast("Encoder", model.encoder)
    columns, titles = encoder.columns, encoder.titles
    history, _ = example_user(rows, columns)
    recommended = model.answer(history)
    rated_items = item_index(history[columns.item], encoder)
    stars_of_item = dict(zip(rated_items.tolist(), history[columns.rating], strict=True))
    vectors = weights.astype(np.float64).T
    reasons = []
    for item in item_index(recommended[columns.item], encoder):
        similar = most_similar(vectors, item, rated_items)[:REASONS].tolist()
        reasons.append("; ".join(f"{titles[i]}: {stars_of_item[i]:g}" for i in similar))
    return Table(
        "Recommendations for one user, and why",
        f"A user with {len(history)} known ratings. Beside each recommended film, the {REASONS}"
        " films of the user that are most similar to it, with the user's rating. Similarity is the"
        " cosine of the films' weights in the last hidden layer."
        f"{privacy_note(model)}",
        pd.DataFrame(
            {
                "film": recommended[columns.title],
                "predicted stars": recommended["stars"].round(2),
                "because of (true stars)": reasons,
            }
        ),
    )


def most_similar(vectors: np.ndarray, item: int, candidates: np.ndarray) -> np.ndarray:
    """`candidates`, places of films, by the cosine of their vectors with that of `item`.

    The most similar film comes first. `vectors` is (items, units).
    """
    lengths = np.linalg.norm(vectors, axis=1)
    norms = np.maximum(lengths[candidates] * lengths[item], 1e-12)  # a film may have no weight
    cosines = vectors[candidates] @ vectors[item] / norms
    return candidates[np.argsort(-cosines, kind="stable")]
