"""Permutation importance: how much worse the answers become where one column of the rows says nothing of them.

Breiman, "Random Forests", Machine Learning 45, 2001; of any model, as Fisher, Rudin and Dominici (JMLR 20, 2019) have
it. Columns that say the same hide each other: each is shuffled while the other still speaks.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import COLORS, INK, canvas, short, tell

REPEATS = 5
ASKED, LEAST = (
    4000,
    50,
)  # answers in a repeat over all columns, and rows at least: a third of a second for the ann
BARS = 20  # columns shown

Answer = Callable[[pd.DataFrame], pd.DataFrame]
Loss = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]


def importance(
    answer: Answer, rows: pd.DataFrame, columns: Sequence[str], loss: Loss, repeats: int = REPEATS
) -> pd.DataFrame:
    """By how much the mean `loss(answers, rows)` rises when a column is shuffled: (repeats, columns), most first.

    Each repeat draws its own rows, so that the spread over repeats is also that of the rows. `loss` gives one value a
    row.
    """
    n = min(len(rows), max(LEAST, ASKED // len(columns)))
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        drawn = rows.sample(n, random_state=rng).reset_index(drop=True)
        shuffled = [
            drawn.assign(**{name: rng.permutation(drawn[name].to_numpy())}) for name in columns
        ]
        as_it_is, *others = (float(loss(answer(each), each).mean()) for each in (drawn, *shuffled))
        found.append(np.subtract(others, as_it_is))
    rises = pd.DataFrame(found, columns=list(columns))
    return rises[rises.mean().sort_values(ascending=False, kind="stable").index]


def figure(rises: pd.DataFrame, metric: str) -> Figure:
    """What `importance` found, a bar a column."""
    shown = rises.iloc[:, :BARS]
    names, at = list(map(str, shown)), np.arange(shown.shape[1])
    mean, low, high = (getattr(shown, name)().to_numpy() for name in ("mean", "min", "max"))
    drawn = canvas("Importance: what it cannot do without", height=1.3 + 0.24 * len(at))
    axes = drawn.add_subplot()
    axes.barh(at, mean, color=COLORS[0], alpha=0.6)
    axes.hlines(at, low, high, color=INK, linewidth=1.4)
    axes.set_yticks(at, [short(name, 24) for name in names])
    axes.set(
        xlabel=f"rise of {metric} when the column is shuffled",
        ylabel="column",
        ylim=(len(at) - 0.4, -0.6),
    )
    axes.grid(False, axis="y")
    for i, name in enumerate(names):
        words = f"{name}: {metric} {mean[i]:+.4f}; {len(shown)} repeats from {low[i]:+.4f} to {high[i]:+.4f}"
        tell(axes, (0, 1), (i - 0.5, i + 0.5), words, axes.get_yaxis_transform())
    left_out = f" The {len(at)} of {rises.shape[1]} columns that matter most." * (
        len(at) < rises.shape[1]
    )
    first = ", ".join(f"{name} {rise:.4f}" for name, rise in zip(names[:3], mean, strict=False))
    drawn.set_label(
        f"Rise of {metric} when one column of test rows is shuffled; most: {first}."
        f" Bars: mean of {len(shown)} repeats, lines: least to most of them.{left_out}"
    )
    return drawn
