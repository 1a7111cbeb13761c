"""Stars, to look at: what is answered where one, two, … were given, by how much is known, and what its units know."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..data.ratings import TARGET
from ..tasks._recommendation import CUT, truth
from . import COLORS, INK, canvas, in_style, line
from ._recommendation import by_known, units


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any = None,
    train: Any = None,
) -> dict[str, Figure]:
    """The figures by name; `answers` and those of each baseline are to what `rows` asks, in the same order."""
    known = truth(rows, columns)
    everyone = {"model": answers, **baselines}
    return {
        "stars": _stars(answers, known[TARGET].to_numpy(), columns),
        "known": by_known(everyone, rows, columns, "RMSE", _rmse),
        "retrieval": _retrieval(everyone, known, columns),
        **units(model, train),
    }


def _rmse(given: pd.DataFrame, questions: pd.DataFrame) -> float:
    return float(np.sqrt(((given["stars"].to_numpy() - questions[TARGET].to_numpy()) ** 2).mean()))


def _stars(answers: pd.DataFrame, given: np.ndarray, columns: Any) -> Figure:
    """The spread of the answers for each number of stars that was given."""
    figure = canvas("What it answers, by what was given")
    axes = figure.add_subplot()
    there = [value for value in columns.values if (given == value).any()]
    boxes = [answers["stars"].to_numpy()[given == value] for value in there]
    axes.plot(there, there, color=INK, linewidth=0.8)
    drawn = axes.boxplot(boxes, positions=there, widths=0.5, whis=(5, 95), showfliers=False, manage_ticks=False)
    for part in ("boxes", "whiskers", "caps"):
        for piece in drawn[part]:
            piece.set_color(COLORS[0])
    for piece in drawn["medians"]:
        piece.set_color(COLORS[1])
    axes.set_xticks(columns.values)
    axes.set(xlabel="stars given", ylabel="stars answered")
    medians = ", ".join(f"{np.median(box):.2f} where {value:g}" for box, value in zip(boxes, there, strict=True))
    figure.set_label(f"Median answer {medians} were given. Boxes: quartiles, whiskers: 5 to 95 %, line: as given.")
    return figure


def _retrieval(everyone: Mapping[str, pd.DataFrame], known: pd.DataFrame, columns: Any) -> Figure:
    """The share of a user's liked films among the first k unseen ones, by k."""
    figure = canvas("How many of the liked films come first", height=3.6)
    axes = figure.add_subplot()
    liked = (known[TARGET] >= columns.like).to_numpy()
    user, _ = pd.factorize(known[columns.user].to_numpy()[liked])
    total, steps, at_ten = np.bincount(user), np.arange(1, 101), []
    for i, (name, given) in enumerate(everyone.items()):
        rank = given["rank"].to_numpy()[liked]
        recall = [float((np.bincount(user, rank <= k) / total).mean()) for k in steps]
        axes.plot(steps, recall, **line(i), label=name)
        at_ten.append(f"{name} {recall[CUT - 1]:.4f}")
    axes.axvline(CUT, color=INK, linewidth=0.8)
    axes.set(xlabel="films recommended, k (count)", ylabel="recall at k (fraction)", xlim=(0, 100), ylim=(0, None))
    axes.legend()
    figure.set_label(f"Recall at {CUT}: {', '.join(at_ten)}; films that nothing tells apart come last.")
    return figure
