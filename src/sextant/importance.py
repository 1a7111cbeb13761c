"""Permutation importance of the columns of a table, for every task that predicts one of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .drawing import COLORS, INK, canvas, short, tooltip

if TYPE_CHECKING:
    from . import contracts

# (answers, rows) -> the loss of each row, (rows,).
Loss: TypeAlias = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]

REPEATS = 5
# The rows to answer in one repeat, divided among the columns. At 4000, the figure takes a third of
# a second for the ann.
ANSWERS_PER_REPEAT = 4000
LEAST_ROWS = 50  # the minimum of rows for each column
MAX_BARS = 20  # columns shown


def importance(
    answer: "contracts.Answer",
    rows: pd.DataFrame,
    columns: Sequence[str],
    loss: Loss,
    repeats: int = REPEATS,
) -> pd.DataFrame:
    """Return the rise of the mean `loss` when a column is shuffled, the largest first.

    The table is (repeats, columns). `loss(answers, rows)` gives one value per row. Each repeat
    draws rows of its own, so that the range over repeats also shows the influence of the rows.
    Columns that carry the same information hide each other: the other one still carries it when one
    is shuffled. Source: Breiman, "Random Forests", Machine Learning 45, 2001; for any model,
    Fisher, Rudin and Dominici, JMLR 20, 2019.
    """
    n = min(len(rows), max(LEAST_ROWS, ANSWERS_PER_REPEAT // len(columns)))
    rises = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        drawn = rows.sample(n, random_state=rng).reset_index(drop=True)
        permuted = {name: rng.permutation(drawn[name].to_numpy()) for name in columns}
        base = float(loss(answer(drawn), drawn).mean())
        losses = []
        for name, values in permuted.items():
            shuffled = drawn.assign(**{name: values})
            losses.append(float(loss(answer(shuffled), shuffled).mean()))
        rises.append(np.subtract(losses, base))
    table = pd.DataFrame(rises, columns=list(columns))
    return table[table.mean().sort_values(ascending=False, kind="stable").index]


def importance_figure(rises: pd.DataFrame, metric: str) -> Figure:
    """Draw what `importance` returns, one bar per column."""
    bars = rises.iloc[:, :MAX_BARS]
    names = [str(name) for name in bars]
    at = np.arange(len(names))
    mean = bars.mean().to_numpy()
    low = bars.min().to_numpy()
    high = bars.max().to_numpy()
    figure = canvas("Permutation importance of the columns", height=1.3 + 0.24 * len(names))
    axes = figure.add_subplot()
    axes.barh(at, mean, color=COLORS[0], alpha=0.6)
    axes.hlines(at, low, high, color=INK, linewidth=1.4)
    axes.set_yticks(at, [short(name, 24) for name in names])
    axes.set(
        xlabel=f"rise of {metric} when shuffled",
        ylabel="column",
        ylim=(len(names) - 0.4, -0.6),
    )
    axes.grid(False, axis="y")
    for i, name in enumerate(names):
        spread = f"{len(bars)} repeats from {low[i]:+.4f} to {high[i]:+.4f}"
        text = f"{name}: {metric} {mean[i]:+.4f}; {spread}"
        tooltip(axes, (0, 1), (i - 0.5, i + 0.5), text, axes.get_yaxis_transform())
    largest = [f"{name} {rise:.4f}" for name, rise in zip(names[:3], mean[:3], strict=True)]
    caption = (
        f"Rise of {metric} when one column of the test rows is shuffled; largest:"
        f" {', '.join(largest)}. Bars: mean of {len(bars)} repeats; lines: their range."
    )
    if len(names) < rises.shape[1]:
        caption += f" Only the {len(names)} most important of {rises.shape[1]} columns are drawn."
    figure.set_label(caption)
    return figure
