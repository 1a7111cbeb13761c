"""The style of all figures, their tooltips, and their SVG files, which are the same on every run.

A figure contains its texts: its title is the suptitle, and its caption is the label of the figure.
Both are written into the SVG, so that the report page needs no list of figures.

Text and axes are drawn in INK, which `save` writes as `currentColor`: a page that includes the SVG
sets the colour, and elsewhere it is a grey that is legible on white and on black.
"""

import base64
import functools
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

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

if TYPE_CHECKING:
    from matplotlib.transforms import Transform
    from numpy.typing import ArrayLike

INK = "#757575"  # contrast 4.6 : 1 on white and on black
# Each has a contrast above 3 : 1 on white and on black, what WCAG asks of graphics.
COLORS = ("#2f7fd1", "#c96a12", "#2e9160", "#9a63c9", "#cf4a63", "#14919b", "#8f8218")
DASHES = ("-", ":", "--", "-.")
WIDTH = 4.6  # inches; in one column of a phone the text is then still at its full size
STYLE: dict[Any, Any] = {  # Matplotlib types the keys as a list of literals
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
    # Matplotlib makes the ids of an SVG from this salt, or else from random numbers.
    "svg.hashsalt": "sextant",
}

# The id of an artist with a tooltip is this prefix and the text; `save` turns it into a <title>.
TOOLTIP = "tooltip:"
JPEG_QUALITY = 85

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """A table of the report: its title, its caption, and its rows in reading order."""

    title: str
    caption: str
    rows: pd.DataFrame

    def record(self) -> dict[str, Any]:
        """The table as JSON: `title`, `says` (the caption), `columns` and `data`, row by row.

        A missing value is null.
        """
        cells = self.rows.astype(object).where(self.rows.notna(), None)
        data = []
        for row in cells.to_numpy():
            data.append([cell.item() if isinstance(cell, np.generic) else cell for cell in row])
        columns = [str(name) for name in self.rows.columns]
        return {"title": self.title, "says": self.caption, "columns": columns, "data": data}


# --- style --------------------------------------------------------------------------------------


def in_style(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function to draw with STYLE, without changing Matplotlib's settings elsewhere."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def canvas(title: str, height: float = 3.9) -> Figure:
    """An empty figure with its title, `height` inches high."""
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, x=0.02, ha="left")
    return figure


def line(index: int) -> dict[str, Any]:
    """The style of the line of the model (0) and of each baseline (1, 2, …), in every figure."""
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": DASHES[min(index, len(DASHES) - 1)],
        "linewidth": 1.4 if index else 2.2,
    }


def short(text: str, length: int) -> str:
    """`text`, cut to `length` characters with an ellipsis if it is longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


# --- tooltips -----------------------------------------------------------------------------------


def tooltip(
    axes: Axes,
    x: tuple[float, float],
    y: tuple[float, float],
    text: str,
    transform: "Transform | None" = None,
) -> None:
    """Give the rectangle between two x and two y a tooltip; the rectangle itself is invisible."""
    corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
    area = Polygon(
        corners,
        closed=True,
        transform=transform or axes.transData,
        alpha=0,
        zorder=9,
        clip_on=False,
    )
    area.set_gid(TOOLTIP + text)
    axes.add_artist(area)


def tooltips(
    axes: Axes,
    x: "Sequence[object] | np.ndarray | pd.Series",
    lines: "Mapping[str, ArrayLike]",
    name: str,
    form: str = ".4f",
) -> None:
    """Give the strip around each x a tooltip with the values of all lines at it.

    It reads "epoch 3: train/loss 0.1234, val/loss 0.2345" if `name` is "epoch"; `form` is the
    format of the values. The strips meet in the middle between two x.
    """
    at = np.asarray(axes.convert_xunits(list(x)), np.float64)
    edges = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])
    span = float(at[-1] - at[0]) or 1.0
    edges[0] -= span / 40
    edges[-1] += span / 40
    columns = {key: np.asarray(values) for key, values in lines.items()}
    for i, value in enumerate(x):
        texts = [f"{key} {column[i]:{form}}" for key, column in columns.items()]
        text = f"{name} {value}: {', '.join(texts)}"
        tooltip(axes, (edges[i], edges[i + 1]), (0, 1), text, axes.get_xaxis_transform())


# --- the learning curve -------------------------------------------------------------------------


@in_style
def learning_curve(curves: pd.DataFrame) -> Figure:
    """Loss on train and val, and each metric on val, by epoch.

    `curves` has the columns `epoch`, `train/loss`, `val/loss` and `val/<metric>`.
    """
    losses = ["train/loss", "val/loss"]
    metrics = []
    for name in map(str, curves.columns):
        if name.startswith("val/") and name not in losses:
            metrics.append(name)
    bands = (len(metrics) + 1) // 2  # two metrics side by side in each
    figure = canvas("Learning curve", height=2.7 + 1.5 * bands)
    grid = figure.add_gridspec(1 + bands, 2, height_ratios=[1.5, *[1] * bands])
    _by_epoch(figure.add_subplot(grid[0, :]), curves, losses, "loss")
    for i, name in enumerate(metrics):
        _by_epoch(figure.add_subplot(grid[1 + i // 2, i % 2]), curves, [name], name)
    lowest = int(curves["val/loss"].to_numpy().argmin())
    epoch = curves["epoch"].iloc[lowest]
    loss = curves["val/loss"].iloc[lowest]
    figure.set_label(f"{len(curves)} epochs; val/loss is lowest, {loss:.4f}, at epoch {epoch}.")
    return figure


def _by_epoch(axes: Axes, curves: pd.DataFrame, names: Sequence[str], label: str) -> None:
    for name in names:
        color = COLORS[0] if name.startswith("val/") else COLORS[1]
        axes.plot(
            curves["epoch"], curves[name], color=color, marker="o", markersize=2.5, label=name
        )
    if len(label) >= 17:  # too long beside a narrow axis
        label = label.replace("_", "_\n", 1)
    axes.set(xlabel="epoch", ylabel=label)
    tooltips(axes, curves["epoch"], {name: curves[name] for name in names}, "epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if len(names) > 1:
        axes.legend()


# --- SVG ----------------------------------------------------------------------------------------


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose bytes depend on the figure alone."""
    metadata = {
        "Title": figure.get_suptitle(),
        "Description": str(figure.get_label()),
        "Date": None,
        "Creator": None,
    }
    text = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Text stays text in the SVG, and a browser has fonts with the glyphs that this one lacks.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        _lay_out(figure)
        figure.savefig(text, format="svg", metadata=metadata)
    svg = text.getvalue().replace(INK, "currentColor")
    # Only the areas with a tooltip take the pointer, so that text or a line above one does not hide
    # it.
    svg = svg.replace("<svg ", f'<svg color="{INK}" pointer-events="none" ', 1)
    svg = re.sub(r"data:image/png;base64,\s*([^\"]+)", _as_jpeg, svg)
    title = r'<g class="tooltip" pointer-events="all"><title>\1</title>'
    svg = re.sub(f'<g id="{TOOLTIP}([^"]*)">', title, svg)
    with written_whole(path) as beside:
        beside.write_text(svg, encoding="utf-8")


def _lay_out(figure: Figure) -> None:
    """Lay the figure out, and keep the number of ticks of every axis as it is then.

    Otherwise layout and ticks can alternate: a wider margin leaves fewer ticks with shorter labels,
    for which the margin becomes narrower, for which the ticks become more and their labels longer,
    and these push the name of the axis over the edge.

    `savefig` would draw the figure once more for the layout alone, so it gets one without
    an engine.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    with warnings.catch_warnings():
        # Too many ticks may leave no room for the axes; the second layout tells whether fewer do.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        engine.execute(figure)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            locator = axis.get_major_locator()
            if isinstance(locator, AutoLocator):
                # Within 1 and 9, as AutoLocator itself limits them.
                locator.set_params(nbins=min(max(axis.get_tick_space(), 1), 9))
    engine.execute(figure)
    figure.set_layout_engine("none")


def _as_jpeg(png: re.Match[str]) -> str:
    """An opaque PNG as a JPEG, an eighth of the bytes; one with transparency stays as it is."""
    image = Image.open(io.BytesIO(base64.b64decode(png[1])), formats=["PNG"])
    if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        return png[0]
    jpeg = io.BytesIO()
    image.convert("RGB").save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
