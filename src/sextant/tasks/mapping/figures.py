"""A map to look at: where its hills are, where the rows lie, what each feature looks like on it, what does not fit in.

The tints go from nothing (the least) to full (the most), each over its own range, which stands with the figure. Under
the pointer each unit says how many training rows are its own, of which label, and where it is unlike the average row.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, RegularPolygon

from ...drawing import COLORS, INK, TOLD, Table, canvas, in_style
from .metrics import nearest, scaled

ACROSS = 4  # component planes side by side
CELLS = 4000  # of all planes together, which bounds the page's weight: of more columns, those that vary most are shown
TYPICAL = 4  # columns that a unit names
FURTHEST = 3  # columns that an outlier names
LISTED = 10  # outliers


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any,
    train: pd.DataFrame,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` begins with those to `rows`, the test part, and `model` has drawn the map.

    Hits and labels are of the training rows, of which there are enough for all units; outliers are test rows.
    """
    net, own, known = model.net, answers.iloc[: len(rows)], model.answer(train)
    labels = _labelled(net, known, train[columns.target]) if columns.target else None
    typical = list(_typical(net, known, labels, train, model.encoder))
    found: dict[str, Figure | Table] = {
        "u_matrix": _u_matrix(net, own, typical),
        "hits": _hits(net, known, typical),
        "components": _components(net, model.encoder),
    }
    if labels is not None:
        found["labels"] = _labels(net, labels, typical)
    found["outliers"] = _outliers(model, own.reset_index(drop=True), rows, columns)
    return found


def _outliers(model: Any, own: pd.DataFrame, rows: pd.DataFrame, columns: Any) -> Table:
    """The test rows that are most unlike the rest, and in what."""
    worst = own.sort_values("outlier_score", ascending=False, kind="stable").index[:LISTED]
    asked, found = rows.iloc[worst], own.loc[worst]
    shown = {columns.key: asked[columns.key].tolist()} if columns.key else {}
    shown |= {name: found[name].tolist() for name in ("row", "col")}
    shown["outlier_score"] = found["outlier_score"].round(3).tolist()
    shown["outlier"] = np.where(found["outlier"], "yes", "no").tolist()
    shown["furthest from its unit"] = list(_furthest(model, asked, found))
    says = (
        f"The {len(worst)} of {len(own):,} test rows with the highest outlier score; an outlier is above"
        f" {model.card['calibration']['threshold']:.3f}, as one val row in twenty is: unlike the others, nothing more."
        " Named are the columns that make most of the score: the furthest from what stands at the row's unit, measured"
        " by the spread of the training rows there."
    )
    return Table("The rows most unlike the rest", says, pd.DataFrame(shown))


def _furthest(model: Any, rows: pd.DataFrame, found: pd.DataFrame) -> Iterator[str]:
    """Of each row the columns that make most of its outlier score, beside what stands at its unit."""
    net, unit = model.net, _unit(model.net, found)
    x, at = scaled(rows, model.encoder), net.codebook.detach().double().numpy()[unit]
    unlike = (x - at) ** 2 / net.spreads(torch.tensor(unit)).double().numpy()
    for row, prototype, apart in zip(x, at, unlike, strict=True):
        yield _beside(
            "unit", row, prototype, model.encoder, np.argsort(-apart, kind="stable")[:FURTHEST]
        )


def _typical(
    net: Any, known: pd.DataFrame, labels: pd.DataFrame | None, train: pd.DataFrame, encoder: Any
) -> Iterator[str]:
    """What each unit says: its training rows and their label, and where it is unlike the average row."""
    average = scaled(train, encoder).mean(0)
    codebook = net.codebook.detach().double().numpy()
    for unit, (prototype, hits) in enumerate(zip(codebook, _counts(net, known), strict=True)):
        words = f"{hits} training row{'s' if hits != 1 else ''}"
        if labels is not None and hits:
            words += f", {labels.iloc[unit].max()} of them {labels.columns.name} = {labels.iloc[unit].idxmax()}"
        order = np.argsort(-abs(prototype - average), kind="stable")[:TYPICAL]
        yield f"{words}; typical here {_beside('average', prototype, average, encoder, order)}"


def _beside(what: str, x: Any, other: Any, encoder: Any, order: Any) -> str:
    """Some features of x in upstream units, each beside another's: "A2 63.0 (unit 31.4), ..."; both in `encoder`'s
    scale, (features)."""
    names, spans = list(encoder.scale), [span for _, span in encoder.scale.values()]
    values, others = nearest(np.stack([x, other]), encoder).to_numpy()
    pairs = ((names[k], *(_written(each[k], spans[k]) for each in (values, others))) for k in order)
    return ", ".join(f"{name} {value} ({what} {beside})" for name, value, beside in pairs)


def _u_matrix(net: Any, own: pd.DataFrame, typical: Sequence[str]) -> Figure:
    """The mean distance of each unit to those next to it, and the test rows that are outliers, each at its unit."""
    heights = net.u_matrix().numpy().ravel()
    figure = canvas("U-matrix: hills part the groups", height=4.6)
    axes = figure.add_subplot()
    strange = own[own["outlier"]]
    outliers = _counts(net, strange)
    words = [
        f"{height:.2f} from the units next to it, outliers of test: {count}; {unit}"
        for height, count, unit in zip(heights, outliers, typical, strict=True)
    ]
    _tinted(axes, net, _shares(heights), words)
    y, x = net.places().numpy()[_unit(net, strange)].T
    # One unit may have several: they lie around its centre, by the golden angle, so that each can be seen.
    turn = 2.4 * strange.groupby(["row", "col"]).cumcount().to_numpy()
    away = 0.3 * (turn > 0)
    axes.scatter(
        x + away * np.cos(turn),
        y + away * np.sin(turn),
        marker="x",
        s=34,
        linewidths=1.8,
        color=COLORS[1],
    )
    figure.set_label(
        f"Mean distance to the units next to it, from {heights.min():.2f} (faint) to {heights.max():.2f} (strong); 1 is"
        f" the whole range of one column. Crosses: the {len(strange)} of {len(own)} test rows that are outliers."
    )
    return figure


def _hits(net: Any, known: pd.DataFrame, typical: Sequence[str]) -> Figure:
    """How many training rows each unit is the best one of."""
    counts = _counts(net, known)
    figure = canvas("Hits: where the rows lie", height=4.6)
    axes = figure.add_subplot()
    _tinted(
        axes, net, 0.3 * counts / counts.max(), typical
    )  # at most 0.3, so that the ink stays readable on it
    if max(net.rows, net.cols) <= 15:
        for (y, x), count in zip(net.places().numpy(), counts, strict=True):
            axes.text(x, y, str(count) if count else "", ha="center", va="center", fontsize=8)
    figure.set_label(
        f"{len(known):,} training rows by their best unit; {int((counts == 0).sum())} of {len(counts)} units have none,"
        f" the fullest has {counts.max()}. Point at a unit: it names its typical row."
    )
    return figure


def _labels(net: Any, counts: pd.DataFrame, typical: Sequence[str]) -> Figure:
    """The label of most training rows at each unit, the stronger the more of them have it; no model has read it."""
    shares = counts.div(counts.sum(axis=1), axis=0).fillna(0.0).to_numpy()
    target = counts.columns.name
    figure = canvas("Labels: what the map was not told", height=4.6)
    axes = figure.add_subplot()
    colors = [COLORS[i % len(COLORS)] for i in range(shares.shape[1])]
    _tinted(axes, net, shares.max(1) ** 2, typical, [colors[i] for i in shares.argmax(1)])
    keys = [
        Patch(color=color, label=f"{target} = {label}")
        for color, label in zip(colors, counts, strict=True)
    ]
    figure.legend(handles=keys[:12], loc="outside lower center", ncols=3)
    pure = float(shares.max(1)[counts.sum(axis=1).to_numpy() > 0].mean())
    figure.set_label(
        f"{target} of most training rows at each unit, the stronger the purer; on average {pure:.0%} of a unit's rows."
        f" {target} is no feature: the map was drawn without it."
    )
    return figure


def _components(net: Any, encoder: Any) -> Figure:
    """One plane a feature: what stands at each unit, in upstream units."""
    codebook = nearest(net.codebook.detach().double().numpy(), encoder)
    codebook.columns = list(encoder.scale)
    spans = np.array([span for _, span in encoder.scale.values()])
    most = max(ACROSS, CELLS // len(codebook))
    varied = (codebook.std(ddof=0) / spans).sort_values(ascending=False, kind="stable").index[:most]
    shown = codebook[[name for name in codebook if name in set(varied)]]
    lines = -(-shown.shape[1] // ACROSS)
    figure = canvas("Component planes: each feature on the map", height=0.8 + 1.4 * lines)
    every = figure.subplots(lines, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(every, shown, strict=False):
        values, span = shown[name].to_numpy(), encoder.scale[name][1]
        _tinted(
            axes,
            net,
            _shares(values),
            [f"{name} {_written(value, span)}" for value in values],
            outline=0,
        )
        axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
        axes.set_title(f"{name}\n{_range(values)}", fontsize=8)
    for axes in every[shown.shape[1] :]:
        axes.remove()
    figure.supxlabel("column of the map", fontsize=9)
    figure.supylabel("row of the map", fontsize=9)
    left_out = f" The {len(shown.columns)} of {codebook.shape[1]} that vary most." * (
        len(shown.columns) < len(spans)
    )
    figure.set_label(
        f"What stands at each unit, from the least (faint) to the most (strong) of each feature.{left_out}"
    )
    return figure


def _tinted(
    axes: Axes,
    net: Any,
    tints: Any,
    words: Sequence[str],
    colors: Sequence[str] | None = None,
    outline: float = 0.4,
) -> None:
    """One cell a unit, `tints` of 0..1 strong, which says its place and its words; row 0 is above, as in a table."""
    corners, turned = (6, 0.0) if net.grid == "hexagonal" else (4, np.pi / 4)
    radius = 3**-0.5 if net.grid == "hexagonal" else 2**-0.5
    at = net.places().numpy()
    for unit, ((y, x), tint, said) in enumerate(zip(at, tints, words, strict=True)):
        color = colors[unit] if colors else COLORS[0]
        look = {"facecolor": (color, tint), "edgecolor": (INK, 0.2), "linewidth": outline}
        cell = RegularPolygon((x, y), corners, radius=radius, orientation=turned, **look)
        cell.set_gid(f"{TOLD}row {unit // net.cols}, column {unit % net.cols}: {said}")
        cell.set_in_layout(False)
        axes.add_patch(cell)
    axes.grid(False)
    axes.set(
        xlim=(at[:, 1].min() - 0.6, at[:, 1].max() + 0.6),
        ylim=(at[:, 0].max() + 0.6, at[:, 0].min() - 0.6),
    )
    axes.set(xlabel="column of the map", ylabel="row of the map", aspect="equal")
    down, along = (range(0, n, max(1, n // 5)) for n in (net.rows, net.cols))
    axes.set_xticks(along)
    axes.set_yticks(at[:: net.cols, 0][down], list(map(str, down)))
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)


def _range(values: Any) -> str:
    """Least and most, to three digits of what lies between them."""
    low, high = float(values.min()), float(values.max())
    digits = _digits(high - low)
    return " to ".join(_written(round(value, digits), high - low) for value in (low, high))


def _written(value: float, span: float) -> str:
    """A number to three digits of the span of its like."""
    digits = max(0, _digits(span))
    text = f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no minus before a zero
    return text.rstrip("0").rstrip(".") if digits else text


def _digits(span: float) -> int:
    return 2 - math.floor(math.log10(span)) if span > 0 else 3


def _shares(values: Any) -> Any:
    return (values - values.min()) / ((values.max() - values.min()) or 1.0)


def _unit(net: Any, answers: pd.DataFrame) -> Any:
    return (answers["row"] * net.cols + answers["col"]).to_numpy()


def _counts(net: Any, answers: pd.DataFrame) -> Any:
    return np.bincount(_unit(net, answers), minlength=len(net.codebook))


def _labelled(net: Any, known: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """How many rows of each label, the columns, each unit has, (units, labels)."""
    counts = pd.crosstab(_unit(net, known), labels.to_numpy(), colnames=[labels.name])
    return counts.reindex(range(len(net.codebook)), fill_value=0)
