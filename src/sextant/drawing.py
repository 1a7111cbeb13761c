"""The style in which all figures are drawn."""

import base64
import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import AutoLocator, MaxNLocator
from PIL import Image

from .files import written_whole

INK = "#757575"  # 4.6 : 1 on white and on black
COLORS = (
    "#2f7fd1",
    "#c96a12",
    "#2e9160",
    "#9a63c9",
    "#cf4a63",
    "#14919b",
    "#8f8218",
)  # each over 3 : 1 on both
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

TOLD = "told:"  # how the id of a place begins that says something under the pointer
Draw = TypeVar("Draw", bound=Callable[..., Any])


@dataclass(frozen=True)
class Table:
    """What is read and not seen: a title, one sentence of what it shows, and the rows as they are to be read."""

    title: str
    says: str
    rows: pd.DataFrame

    def record(self) -> dict[str, Any]:
        """As JSON has it: `title`, `says`, `columns`, `data`, row by row; null stands for what is not known."""
        cells = self.rows.astype(object).where(self.rows.notna(), None)
        data = [
            [x.item() if isinstance(x, np.generic) else x for x in row] for row in cells.to_numpy()
        ]
        return {
            "title": self.title,
            "says": self.says,
            "columns": list(map(str, self.rows.columns)),
            "data": data,
        }


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
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": dash,
        "linewidth": 1.4 if index else 2.2,
    }


def short(text: str, letters: int) -> str:
    """The beginning of a text that is longer than there is room for."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def tell(
    axes: Axes, x: tuple[float, float], y: tuple[float, float], words: str, transform: Any = None
) -> None:
    """Let the rectangle between two x and two y say `words` under the pointer; it is not seen."""
    look: dict[str, Any] = {
        "transform": transform or axes.transData,
        "alpha": 0,
        "zorder": 9,
        "clip_on": False,
    }
    place = Polygon([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], closed=True, **look)
    place.set_gid(TOLD + words)
    axes.add_artist(place)


def tell_along(
    axes: Axes, x: Any, columns: Mapping[str, Any], name: str, form: str = ".4f"
) -> None:
    """Let the strip around each x say `name`, x and what the lines have there: "epoch 3: train/loss 0.1234, …"."""
    labels, at = [str(value) for value in x], np.asarray(axes.convert_xunits(list(x)), np.float64)
    edges = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])
    span = float(at[-1] - at[0]) or 1.0
    edges[0], edges[-1] = edges[0] - span / 40, edges[-1] + span / 40
    for i, label in enumerate(labels):
        values = ", ".join(f"{key} {np.asarray(of)[i]:{form}}" for key, of in columns.items())
        tell(
            axes,
            (edges[i], edges[i + 1]),
            (0, 1),
            f"{name} {label}: {values}",
            axes.get_xaxis_transform(),
        )


@in_style
def learning_curve(curves: pd.DataFrame) -> Figure:
    """Loss on train and val, and each metric on val, by epoch: `epoch`, `train/loss`, `val/loss`, `val/<metric>`, …"""
    losses = ["train/loss", "val/loss"]
    metrics = [
        name for name in map(str, curves.columns) if name.startswith("val/") and name not in losses
    ]
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
        axes.plot(
            curves["epoch"], curves[name], color=color, marker="o", markersize=2.5, label=name
        )
    axes.set(xlabel="epoch", ylabel=label if len(label) < 17 else label.replace("_", "_\n", 1))
    tell_along(axes, curves["epoch"], {name: curves[name] for name in names}, "epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if len(names) > 1:
        axes.legend()


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on the figure alone."""
    title, says = figure.get_suptitle(), str(figure.get_label())
    metadata = {"Title": title, "Description": says, "Date": None, "Creator": None}
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        _settle(figure)
        figure.savefig(text, format="svg", metadata=metadata)
    # What is told is told wherever it lies, under letters and lines as well: these are none of the pointer's.
    drawn = text.getvalue().replace(INK, "currentColor")
    drawn = drawn.replace("<svg ", f'<svg color="{INK}" pointer-events="none" ', 1)
    drawn = re.sub(r"data:image/png;base64,\s*([^\"]+)", _lighter, drawn)
    drawn = re.sub(
        f'<g id="{TOLD}([^"]*)">', r'<g class="told" pointer-events="all"><title>\1</title>', drawn
    )
    with written_whole(path) as beside:
        beside.write_text(drawn, encoding="utf-8")


def _settle(figure: Figure) -> None:
    """Lay the figure out, and let every axis keep the number of ticks that it has then.

    Else a wider margin may lead to fewer ticks with shorter labels, these to a narrower margin, and that to ticks whose
    labels push the axis' name over the edge.
    """
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            locator = axis.get_major_locator()
            if isinstance(locator, AutoLocator):
                locator.set_params(
                    nbins=min(max(axis.get_tick_space(), 1), 9)
                )  # as `auto` would have it


def _lighter(png: re.Match[str]) -> str:
    """A picture as JPEG, an eighth of the bytes; one that lets something shine through stays as it is."""
    image, jpeg = Image.open(io.BytesIO(base64.b64decode(png[1]))), io.BytesIO()
    if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        return png[0]
    image.convert("RGB").save(jpeg, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
