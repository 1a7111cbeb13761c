"""The hand in which all figures are drawn: fonts, colours and sizes in one place, and the same bytes on every run.

Text and axes are drawn in INK, which `save` writes as `currentColor`: a page that shows the figure chooses its ink, and
anywhere else it is a grey that can be read on white and on black. A figure carries its title (the suptitle) and one
sentence of what it shows (the label) into the SVG, so that a page needs to know neither.
"""

import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import rooms
from ..files import written_whole

INK = "#757575"  # 4.6 : 1 on white and on black
COLORS = ("#2f7fd1", "#c96a12", "#2e9160", "#9a63c9", "#cf4a63", "#14919b", "#8f8218")  # each over 3 : 1 on both
DASHES = ("-", ":", "--", "-.")
WIDTH = 4.6  # inches: the letters keep their size in one column of a phone
STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "grid.color": INK,
    "grid.alpha": 0.2,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "sextant",
}

Draw = TypeVar("Draw", bound=Callable[..., Any])


def of(task: str) -> Callable[..., dict[str, Figure]]:
    """What draws the figures of a task; raises UsageError for a task that has none."""
    found: Callable[..., dict[str, Figure]] = rooms.module("figures", task).figures
    return found


def in_style(draw: Draw) -> Draw:
    """Let `draw` work in the house style."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Any:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled  # type: ignore[return-value]


def canvas(title: str, height: float = 3.9) -> Figure:
    """An empty figure, `height` inches high, with its title."""
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def line(index: int) -> dict[str, Any]:
    """How the line of the model (0) and of each of its baselines (1, 2, …) looks, the same in every figure."""
    dash = DASHES[min(index, len(DASHES) - 1)]
    return {"color": COLORS[index % len(COLORS)], "linestyle": dash, "linewidth": 1.4 if index else 2.2}


@in_style
def learning_curve(curves: pd.DataFrame) -> Figure:
    """Loss on train and val, and each metric on val, by epoch: `epoch`, `train/loss`, `val/loss`, `val/<metric>`, …"""
    losses = ["train/loss", "val/loss"]
    metrics = [name for name in map(str, curves.columns) if name.startswith("val/") and name not in losses]
    bands = (len(metrics) + 1) // 2
    figure = canvas("Learning curve", height=2.7 + 1.5 * bands)
    grid = figure.add_gridspec(1 + bands, 2, height_ratios=[1.5, *[1] * bands])
    _by_epoch(figure.add_subplot(grid[0, :]), curves, losses, "loss")
    for i, name in enumerate(metrics):
        _by_epoch(figure.add_subplot(grid[1 + i // 2, i % 2]), curves, [name], name)
    lowest = int(curves["val/loss"].to_numpy().argmin())
    epoch, loss = curves["epoch"].iloc[lowest], curves["val/loss"].iloc[lowest]
    figure.set_label(f"{len(curves)} epochs; val/loss is lowest, {loss:.4f}, at epoch {epoch}.")
    return figure


def _by_epoch(axes: Axes, curves: pd.DataFrame, names: Sequence[str], label: str) -> None:
    for name in names:
        color = COLORS[0] if name.startswith("val/") else COLORS[1]
        axes.plot(curves["epoch"], curves[name], color=color, marker="o", markersize=2.5, label=name)
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if len(names) > 1:
        axes.legend()


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on the figure alone."""
    title, says = figure.get_suptitle(), str(figure.get_label())
    metadata = {"Title": title, "Description": says, "Date": None, "Creator": None}
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata=metadata)
    drawn = text.getvalue().replace(INK, "currentColor").replace("<svg ", f'<svg color="{INK}" ', 1)
    with written_whole(path) as beside:
        beside.write_text(drawn, encoding="utf-8")
