"""Stars, to look at: what is answered where one, two, … were given, by how much is known, what comes first, what its
units know, and what it makes of one user."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...drawing import COLORS, INK, Table, canvas, in_style, line, tell, tell_along
from ...kinds.ratings.rows import TARGET
from ...saved_model import outputs
from ..recommendation.figures import by_known, caution, has_units, places, somebody, units
from ..recommendation.metrics import CUT, truth
from .metrics import contributions

REASONS = 3  # films that a recommendation is owed to
FURTHEST = 100  # films recommended


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any = None,
    train: Any = None,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` and those of each baseline are to what `rows` asks, in the same order."""
    known = truth(rows, columns)
    everyone = {"model": answers, **baselines}
    asked = SimpleNamespace(columns=columns)  # what `contributions` reads of an encoder
    return {
        "stars": _stars(answers, known[TARGET].to_numpy(), columns),
        "known": by_known(
            everyone, rows, columns, {"RMSE": lambda given, rows: contributions(given, rows, asked)}
        ),
        "retrieval": _retrieval(everyone, known, columns),
        **({"reconstruction": _reconstruction(model, rows, columns)} if model is not None else {}),
        **units(model, train),
        **({"recommended": _recommended(model, rows, columns)} if has_units(model) else {}),
    }


def _stars(answers: pd.DataFrame, given: np.ndarray, columns: Any) -> Figure:
    """The spread of the answers for each number of stars that was given."""
    figure = canvas("What it answers, by what was given")
    axes = figure.add_subplot()
    there = [value for value in columns.values if (given == value).any()]
    boxes = [answers["stars"].to_numpy()[given == value] for value in there]
    axes.plot(there, there, color=INK, linewidth=0.8)
    drawn = axes.boxplot(
        boxes, positions=there, widths=0.5, whis=(5, 95), showfliers=False, manage_ticks=False
    )
    for part in ("boxes", "whiskers", "caps"):
        for piece in drawn[part]:
            piece.set_color(COLORS[0])
    for piece in drawn["medians"]:
        piece.set_color(COLORS[1])
    axes.set_xticks(columns.values)
    axes.set(xlabel="stars given", ylabel="stars answered")
    parts = {"5 %": 0.05, "quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "95 %": 0.95}
    tell_along(
        axes,
        there,
        {name: [np.quantile(box, q) for box in boxes] for name, q in parts.items()},
        "given",
        ".2f",
    )
    medians = ", ".join(
        f"{np.median(box):.2f} where {value:g}" for box, value in zip(boxes, there, strict=True)
    )
    figure.set_label(
        f"Median answer {medians} were given. Boxes: quartiles, whiskers: 5 to 95 %, line: as given."
    )
    return figure


def _retrieval(everyone: Mapping[str, pd.DataFrame], known: pd.DataFrame, columns: Any) -> Figure:
    """Recall and NDCG of a user's liked films among the first k unseen ones, by k."""
    figure = canvas("How many of the liked films come first", height=5.4)
    every = figure.subplots(2, 1, sharex=True)
    liked = (known[TARGET] >= columns.like).to_numpy()
    user, _ = pd.factorize(known[columns.user].to_numpy()[liked])
    steps = range(1, FURTHEST + 1)
    found = {
        name: np.array([at_k(user, given["rank"].to_numpy()[liked], k) for k in steps])
        for name, given in everyone.items()
    }
    for side, (axes, metric) in enumerate(zip(every, ("recall", "NDCG"), strict=True)):
        for i, (name, values) in enumerate(found.items()):
            axes.plot(steps, values[:, side], **line(i), label=name)
        axes.axvline(CUT, color=INK, linewidth=0.8)
        axes.set(ylabel=f"{metric} at k (fraction)", xlim=(0, FURTHEST), ylim=(0, None))
        tell_along(
            axes, steps, {name: values[:, side] for name, values in found.items()}, f"{metric} at"
        )
    every[0].legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=3)
    every[-1].set(xlabel="films recommended, k (count)")
    at_ten = "; ".join(
        f"{name} recall {values[CUT - 1, 0]:.4f}, NDCG {values[CUT - 1, 1]:.4f}"
        for name, values in found.items()
    )
    figure.set_label(f"At {CUT}: {at_ten}. Films that nothing tells apart come last.")
    return figure


def at_k(user: np.ndarray, rank: np.ndarray, k: int) -> tuple[float, float]:
    """Recall and NDCG at k as the task scores them at CUT, from the users, (n) from 0, and ranks of liked films."""
    first, total = rank <= k, np.bincount(user)
    ideal = np.cumsum(1 / np.log2(1 + np.arange(1.0, k + 1)))
    gains = np.bincount(user, first / np.log2(1 + rank.astype(np.float64)))
    recall = np.bincount(user, first) / total
    return float(recall.mean()), float((gains / ideal[np.minimum(total, k) - 1]).mean())


# --- one user ---------------------------------------------------------------------------------------------------------


def _reconstruction(model: Any, rows: pd.DataFrame, columns: Any) -> Figure:
    """Of one user what was given against what the net makes of it, and against its answers where it was not shown."""
    known, asked = somebody(rows, columns)
    answered = np.clip(
        outputs(model.net, model.encoder.encode(known))["stars"][0].numpy(),
        *np.array(columns.values)[[0, -1]],
    )
    figure = canvas("One user: what was given, and what comes out", height=4.2)
    axes, errors = figure.add_subplot(), []
    axes.plot(columns.values, columns.values, color=INK, linewidth=0.8)
    kinds = (
        ("shown to it", known, known[columns.rating]),
        ("hidden from it (test)", asked, asked[TARGET]),
    )
    for i, (name, own, stars) in enumerate(kinds):
        given, found = stars.to_numpy(), answered[places(own[columns.item], model.encoder)]
        # Side by side, the lowest first, so that each can be seen; which film it is stays with the data.
        order = pd.Series(found).groupby(given).rank(method="first", pct=True).to_numpy()
        x = given + (i - 0.5) * 0.42 + 0.36 * (order - 0.5)
        rmse = float(np.sqrt(((found - given) ** 2).mean()))
        errors.append(f"{len(own)} {name}: RMSE {rmse:.3f}")
        axes.plot(
            x,
            found,
            color=COLORS[i],
            linestyle="",
            marker="o^"[i],
            markersize=4,
            alpha=0.8,
            label=name,
        )
        for at, value, star in zip(x, found, given, strict=True):
            words = f"{name}: given {star:g}, answered {value:.2f}"
            tell(axes, (at - 0.06, at + 0.06), (value - 0.08, value + 0.08), words)
    axes.set_xticks(columns.values)
    axes.set(xlabel="stars given", ylabel="stars reconstructed")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    figure.set_label(
        f"The user of whom the median number of ratings is known. {'; '.join(errors)}; line: as given."
    )
    return figure


def nearest(vectors: np.ndarray, item: int, among: np.ndarray) -> np.ndarray:
    """`among`, places of films, by the cosine of their vectors, (items, units), with that of `item`, nearest first."""
    length = np.linalg.norm(vectors, axis=1)
    cosine = vectors[among] @ vectors[item] / np.maximum(length[among] * length[item], 1e-12)
    found: np.ndarray = among[np.argsort(-cosine, kind="stable")]
    return found


def _recommended(model: Any, rows: pd.DataFrame, columns: Any) -> Table:
    """The films recommended to one user, and those of the user's that lie nearest to each."""
    known, _ = somebody(rows, columns)
    best, titles = model.answer(known), model.encoder.titles
    among = places(known[columns.item], model.encoder)
    stars = dict(zip(among.tolist(), known[columns.rating], strict=True))
    vectors = model.net.units().detach().double().numpy().T

    def reason(item: int) -> str:
        return "; ".join(
            f"{titles[i]}: {stars[i]:g}" for i in nearest(vectors, item, among)[:REASONS].tolist()
        )

    return Table(
        "What one user is recommended, and why",
        f"A user of whom {len(known)} ratings are known. Beside each film the {REASONS} of the user's that are nearest"
        " to it, by the cosine of what the last hidden layer adds to each film, with the stars that the user gave."
        f"{caution(model)}",
        pd.DataFrame(
            {
                "film": best[columns.title],
                "stars answered": best["stars"].round(2),
                "because of (stars given)": [
                    reason(i) for i in places(best[columns.item], model.encoder)
                ],
            }
        ),
    )
