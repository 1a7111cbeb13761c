"""A map to look at: where its hills are, where the rows lie, what each feature looks like on it, what does not fit in.

The tints go from nothing (the least) to full (the most), each over its own range, which stands with the figure.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, RegularPolygon

from ..tasks.mapping import nearest
from . import COLORS, INK, canvas, in_style

ACROSS = 4  # component planes side by side
PLANES = 40  # of a table with more columns, those that vary most over the map


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any,
    train: pd.DataFrame,
) -> dict[str, Figure]:
    """The figures by name; `answers` begins with those to `rows`, the test part, and `model` has drawn the map.

    Hits and labels are of the training rows, of which there are enough for all units; outliers are test rows.
    """
    net, own, known = model.net, answers.iloc[: len(rows)], model.answer(train)
    found = {
        "u_matrix": _u_matrix(net, own),
        "hits": _hits(net, known),
        "components": _components(net, model.encoder),
    }
    if columns.target:
        found["labels"] = _labels(net, known, train[columns.target], columns.target)
    return found


def _u_matrix(net: Any, own: pd.DataFrame) -> Figure:
    """The mean distance of each unit to those next to it, and the test rows that are outliers, each at its unit."""
    heights = net.u_matrix().numpy().ravel()
    figure = canvas("U-matrix: hills part the groups", height=4.6)
    axes = figure.add_subplot()
    _tinted(axes, net, _shares(heights), COLORS[0])
    strange = own[own["outlier"]]
    y, x = net.places().numpy()[_unit(net, strange)].T
    # One unit may have several: they lie around its centre, by the golden angle, so that each can be seen.
    turn = 2.4 * strange.groupby(["row", "col"]).cumcount().to_numpy()
    away = 0.22 * (turn > 0)
    axes.scatter(x + away * np.cos(turn), y + away * np.sin(turn), marker="x", s=30, color=COLORS[1], label="outlier")
    figure.set_label(
        f"Mean distance to the units next to it, from {heights.min():.2f} (pale) to {heights.max():.2f} (deep)."
        f" Crosses: the {len(strange)} of {len(own)} test rows that are outliers."
    )
    return figure


def _hits(net: Any, known: pd.DataFrame) -> Figure:
    """How many training rows each unit is the best one of."""
    counts = np.bincount(_unit(net, known), minlength=len(net.codebook))
    figure = canvas("Hits: where the rows lie", height=4.6)
    axes = figure.add_subplot()
    _tinted(axes, net, 0.3 * counts / counts.max(), COLORS[0])  # at most 0.3, so that the ink stays readable on it
    if max(net.rows, net.cols) <= 15:
        for (y, x), count in zip(net.places().numpy(), counts, strict=True):
            axes.text(x, y, str(count) if count else "", ha="center", va="center", fontsize=8)
    figure.set_label(
        f"{len(known):,} training rows by their best unit; {int((counts == 0).sum())} of {len(counts)} units have none,"
        f" the fullest has {counts.max()}."
    )
    return figure


def _labels(net: Any, known: pd.DataFrame, labels: pd.Series, target: str) -> Figure:
    """The label of most training rows at each unit, the deeper the more of them have it; no model has read it."""
    counts = pd.crosstab(_unit(net, known), labels.to_numpy()).reindex(range(len(net.codebook)), fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0).fillna(0.0)
    most = shares.to_numpy().argmax(1)
    figure = canvas("Labels: what the map was not told", height=4.6)
    axes = figure.add_subplot()
    for i in range(counts.shape[1]):
        share = np.where(most == i, shares.iloc[:, i], 0.0)
        _tinted(axes, net, share**2, COLORS[i % len(COLORS)])
    keys = [Patch(color=COLORS[i % len(COLORS)], label=f"{target} = {label}") for i, label in enumerate(counts.columns)]
    figure.legend(handles=keys[:12], loc="outside lower center", ncols=3)
    pure = float(shares.to_numpy().max(1)[counts.sum(axis=1).to_numpy() > 0].mean())
    figure.set_label(
        f"{target} of most training rows at each unit, the deeper the purer; on average {pure:.0%} of a unit's rows."
        f" {target} is no feature: the map was drawn without it."
    )
    return figure


def _components(net: Any, encoder: Any) -> Figure:
    """One plane a feature: what stands at each unit, in upstream units."""
    codebook = nearest(net.codebook.detach().double().numpy(), encoder)
    codebook.columns = list(encoder.scale)
    spans = np.array([span for _, span in encoder.scale.values()])
    varied = (codebook.std(ddof=0) / spans).sort_values(ascending=False, kind="stable").index[:PLANES]
    shown = codebook[[name for name in codebook if name in set(varied)]]
    lines = -(-shown.shape[1] // ACROSS)
    figure = canvas("Component planes: each feature on the map", height=0.8 + 1.35 * lines)
    every = figure.subplots(lines, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(every, shown, strict=False):
        values = shown[name].to_numpy()
        _tinted(axes, net, _shares(values), COLORS[0])
        axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
        axes.set_title(f"{name}\n{_range(values)}", fontsize=7)
    for axes in every[shown.shape[1] :]:
        axes.remove()
    figure.supxlabel("column of the map", fontsize=9)
    figure.supylabel("row of the map", fontsize=9)
    left_out = f" The {len(shown.columns)} of {codebook.shape[1]} that vary most." * (len(shown.columns) < len(spans))
    figure.set_label(f"What stands at each unit, from the least (pale) to the most (deep) of each feature.{left_out}")
    return figure


def _tinted(axes: Axes, net: Any, tints: Any, color: str) -> None:
    """One cell a unit, `tints` of 0..1 deep; row 0 is above, as in a table."""
    corners, turned = (6, 0.0) if net.grid == "hexagonal" else (4, np.pi / 4)
    radius = 3**-0.5 if net.grid == "hexagonal" else 2**-0.5
    at = net.places().numpy()
    cells = [RegularPolygon((x, y), corners, radius=radius, orientation=turned) for y, x in at]
    rgba = np.tile(np.array([*_rgb(color), 0.0]), (len(cells), 1))
    rgba[:, 3] = tints
    axes.add_collection(PatchCollection(cells, facecolors=rgba, edgecolors="none"))
    axes.grid(False)
    axes.set(xlim=(at[:, 1].min() - 0.6, at[:, 1].max() + 0.6), ylim=(at[:, 0].max() + 0.6, at[:, 0].min() - 0.6))
    axes.set(xlabel="column of the map", ylabel="row of the map", aspect="equal")
    if net.grid == "hexagonal":
        step = max(1, net.rows // 5)
        axes.set_yticks(at[:: net.cols, 0][::step], map(str, range(0, net.rows, step)))
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)


def _range(values: Any) -> str:
    """Least and most, to three digits of what lies between them."""
    low, high = float(values.min()), float(values.max())
    digits = 2 - math.floor(math.log10(high - low)) if high > low else 3
    low, high = (round(value, digits) + 0.0 for value in (low, high))  # + 0.0: no minus before a zero
    return f"{low:,.{max(0, digits)}f} to {high:,.{max(0, digits)}f}"


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _shares(values: Any) -> Any:
    return (values - values.min()) / ((values.max() - values.min()) or 1.0)


def _unit(net: Any, answers: pd.DataFrame) -> Any:
    return (answers["row"] * net.cols + answers["col"]).to_numpy()
