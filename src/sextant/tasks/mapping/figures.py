"""Figures of a map: U-matrix, hits, labels, component planes, names, the world; tables of purity,
places and outliers.

The tint of a unit goes from none (the least value) to full (the largest), over a range that the
figure states. The tooltip of a unit names its training rows, their most frequent label, and the
features in which it differs most from the average row.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, RegularPolygon
from torch import Tensor

from ... import world
from ...drawing import COLORS, INK, TOOLTIP, WIDTH, Table, canvas, in_style, short
from .baselines import MAJORITY, has_classes, majority_of_units
from .metrics import PUBLIC_COLUMNS, Columns, Encoder, scaled, upstream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...saved_model import SavedModel

PLANES_ACROSS = 4  # component planes side by side
# Cells of all component planes together, which bounds the size of the page. If a table has more
# features, those that vary most are drawn.
CELLS = 4000
LETTERED_SIDE = 15  # units along a side of a map up to which a number fits into a cell
TYPICAL = 4  # features in the tooltip of a unit
DEVIATIONS = 3  # features named in a row of the outlier table
OUTLIERS = 10  # rows of the outlier table
LEGEND_LABELS = 12
# Rows of all parts together up to which the map names each of them. More do not fit into its cells,
# and are too many for a table to look them up in.
NAMED_ROWS = 500
# In points. A cell of a map of 10 x 10 units then takes four lines of seven characters.
NAME_SIZE = 5.5
LISTED_NAMES = 12  # in a sentence of a caption
NAME_LENGTH = 40
# One unit may have several outliers. They lie around its center, a golden angle apart, so that each
# can be seen.
GOLDEN_ANGLE = 2.4
AROUND = 0.3  # distance from the center, of 1 between two units


class Net(Protocol):
    """What the figures read of a net; `make check` compares it with the family.

    Units are numbered row by row: unit = row * cols + col.
    """

    rows: int
    cols: int
    grid: str  # rectangular or hexagonal
    codebook: Tensor  # (units, features), the prototypes in the encoder's scale

    def spreads(self, units: Tensor) -> Tensor:
        """The mean square of the training rows around some prototypes, (units, features)."""

    def places(self) -> Tensor:
        """Where the units lie in a drawing of the map, (units, 2) as y and x, 1 apart in a row."""

    def u_matrix(self) -> Tensor:
        """Mean distance of each prototype to those of adjacent units, (rows, cols)."""


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Columns,
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
    train: pd.DataFrame,
    val: pd.DataFrame,
    gate: pd.DataFrame,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` are those to `inputs(rows)` of the test part.

    Hits and labels are those of the training rows, because test has too few rows for all units.
    If rows have a key and are at most NAMED_ROWS, `names` and `places` show where the rows of all
    parts lie. If they have a country, these name countries, and `world` is a map of the world.
    Nothing else is shown of the gate part, which only register scores.
    """
    net = cast(Net, model.net)
    encoder = cast(Encoder, model.encoder)
    test_answers = answers.iloc[: len(rows)].reset_index(drop=True)
    train_answers = model.answer(train)
    labels = None
    if columns.target and has_classes(train, columns):
        labels = _label_counts(net, train_answers, train[columns.target])
    tooltips = _unit_tooltips(net, train_answers, labels, train, encoder)
    drawn: dict[str, Figure | Table] = {
        "u_matrix": _u_matrix(net, test_answers, tooltips),
        "hits": _hits(net, train_answers, tooltips),
        "components": _components(net, encoder),
    }
    if labels is not None:
        drawn["labels"] = _labels(net, labels, tooltips)
        drawn["purity"] = _purities(
            net, train_answers, train, test_answers, rows, columns, baselines
        )
    all_rows = pd.concat([train, val, gate, rows], ignore_index=True)
    name = columns.place_column or columns.key
    if name and (columns.place_column or len(all_rows) <= NAMED_ROWS):
        places = _places(model, all_rows, name)
        if columns.place_column:
            codes = encoder.countries(all_rows)
            drawn["world"] = _world(net, places, codes)
            if len(places) > NAMED_ROWS:
                places = _country_places(net, places, codes)
        places = places.sort_values("key", kind="stable", ignore_index=True)
        drawn["names"] = _names(net, places, name)
        drawn["places"] = _place_table(places, name)
    drawn["outliers"] = _outliers(model, test_answers, rows, columns)
    return drawn


# --- who lies where -----------------------------------------------------------------------------


def _places(model: "SavedModel", rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """The key, or the country, of each row as `key`, and its unit as `row` and `col`."""
    answers = model.answer(rows)
    return pd.DataFrame({"key": rows[key].to_numpy(), "row": answers["row"], "col": answers["col"]})


def _place_table(places: pd.DataFrame, key: str) -> Table:
    return Table(
        "Who lies where",
        f"The unit of each of the {len(places):,} rows of all parts, by {key}. Rows of one unit are"
        " alike, and those of adjacent units nearly so. No score is computed on them together.",
        places.rename(columns={"key": _key_heading(key)}),
    )


def _key_heading(key: str) -> str:
    """The heading of the key in a table: another name than that of a column beside it."""
    return f"key_{key}" if key in PUBLIC_COLUMNS else key


def _names(net: Net, places: pd.DataFrame, key: str) -> Figure:
    """The keys of the rows of each unit: as many as its cell has room for, all in its tooltip."""
    names: list[list[str]] = [[] for _ in range(len(net.codebook))]
    for unit, value in zip(_units(net, places), places["key"], strict=True):
        names[unit].append(_printable(value))
    # As high as the cells need if they fill the width.
    high, wide = np.ptp(net.places().numpy(), axis=0) + 1
    height = 1.1 + (WIDTH - 0.8) * high / wide
    figure = canvas(f"Names: the {key} of each row", height=min(max(height, 2.5), 9.0))
    axes = figure.add_subplot()
    tooltips = []
    for unit_names in names:
        plural = "s" if len(unit_names) != 1 else ""
        tooltips.append(f"{len(unit_names)} row{plural} {', '.join(unit_names)}".rstrip())
    counts = _counts(net, places)
    # A tint of at most 0.3, so that the names stay readable on it.
    _draw_units(axes, net, 0.3 * counts / counts.max(), tooltips)
    if max(net.rows, net.cols) <= LETTERED_SIDE:
        side = 72 * min((WIDTH - 0.8) / wide, 7.9 / high)
        for (y, x), unit_names in zip(net.places().numpy(), names, strict=True):
            # A key may contain `$`, which must not begin a formula.
            cell = axes.text(
                x,
                y,
                fitted(unit_names, side),
                ha="center",
                va="center",
                fontsize=NAME_SIZE,
                linespacing=1.1,
                parse_math=False,
            )
            cell.set_in_layout(False)
    figure.set_label(
        f"The {len(places):,} rows of all parts by their best matching unit. A cell names as many"
        " as it has room for, and its tooltip all of them."
    )
    return figure


def fitted(names: Sequence[str], side: float) -> str:
    """The names that a cell of `side` points has room for, one a line, and how many more it has."""
    across = max(2, int(side / (0.65 * NAME_SIZE)))
    lines = max(1, int(side / (1.2 * NAME_SIZE)))
    if len(names) <= lines:
        return "\n".join(short(name, across) for name in names)
    texts = [short(name, across) for name in names[: lines - 1]]
    texts.append(f"+{len(names) - len(texts)}")
    return "\n".join(texts)


def _printable(value: object) -> str:
    """A key as text in one line, without the characters that an SVG cannot hold."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return " ".join(text.split())


# --- the world ----------------------------------------------------------------------------------


def _country_units(net: Net, places: pd.DataFrame, codes: Sequence[str | None]) -> dict[str, int]:
    """The unit in which most rows of each country lie, the first of equals, by code."""
    units_of: dict[str, list[int]] = {}
    for code, unit in zip(codes, _units(net, places), strict=True):
        if code is not None:
            units_of.setdefault(code, []).append(int(unit))
    return {code: int(np.bincount(units).argmax()) for code, units in units_of.items()}


def _country_places(net: Net, places: pd.DataFrame, codes: Sequence[str | None]) -> pd.DataFrame:
    """One row for each country, with its first name: the unit in which most of its rows lie."""
    units = _country_units(net, places, codes)
    names: dict[str, object] = {}
    for code, name in zip(codes, places["key"], strict=True):
        if code is not None:
            names.setdefault(code, name)
    row, col = np.divmod(list(units.values()), net.cols)
    return pd.DataFrame({"key": [names[code] for code in units], "row": row, "col": col})


def _world(net: Net, places: pd.DataFrame, codes: Sequence[str | None]) -> Figure:
    """Each country in the colour of its unit; below, the units of the map in their colours."""
    unit_colors = world.scale_colors(net.places().double().numpy())
    units = _country_units(net, places, codes)
    colors, tooltips = {}, {}
    for code, unit in units.items():
        colors[code] = unit_colors[unit]
        row, col = divmod(unit, net.cols)
        count = codes.count(code)
        several = f"most of {count} rows in " if count > 1 else ""
        tooltips[code] = f"{several}row {row}, column {col}"
    figure = canvas("The world: each country in the colour of its unit", height=4.7)
    grid = figure.add_gridspec(2, 1, height_ratios=[1.15, 1])
    world.draw(figure.add_subplot(grid[0]), colors, tooltips)
    counts = np.bincount(list(units.values()), minlength=len(net.codebook))
    texts = [f"{count} countr{'y' if count == 1 else 'ies'}" for count in counts]
    legend = figure.add_subplot(grid[1])
    _draw_units(legend, net, np.ones(len(counts)), texts, unit_colors)
    unknown: list[str] = []
    small: list[str] = []
    for named_code, name in zip(codes, places["key"], strict=True):
        if named_code is None:
            unknown.append(_printable(name))
        elif named_code not in world.countries():
            small.append(_printable(name))
    figure.set_label(
        f"The {len(units)} countries of the table, each in the colour of its best matching unit"
        " below: lighter or darker by the row of the map, from blue to ochre by its column."
        " Countries of similar colour are alike, wherever they lie. Grey: no row."
        + _listing("Without an outline, as most small ones", small)
        + _listing("No country's name", unknown)
    )
    return figure


def _listing(heading: str, names: Sequence[str]) -> str:
    """A sentence with the first names, each once; empty without any."""
    distinct = list(dict.fromkeys(short(name, NAME_LENGTH) for name in names))
    if not distinct:
        return ""
    more = f" and {len(distinct) - LISTED_NAMES} more" if len(distinct) > LISTED_NAMES else ""
    return f" {heading}: {', '.join(distinct[:LISTED_NAMES])}{more}."


# --- the purity of units ------------------------------------------------------------------------


def _purities(
    net: Net,
    train_answers: pd.DataFrame,
    train: pd.DataFrame,
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Columns,
    baselines: Mapping[str, pd.DataFrame],
) -> Table:
    """How often the label of a test row is the majority of its unit, also of the baselines'."""
    target = str(columns.target)
    labels = rows[target].to_numpy(object)
    train_units = _units(net, train_answers)
    majorities = majority_of_units(train_units, train[target], len(net.codebook))
    shares = {"map": _share(majorities[_units(net, answers)], labels)}
    for name, table in baselines.items():
        if MAJORITY in table.attrs:
            of_rows = np.array(table.attrs[MAJORITY][: len(rows)], object)
            shares[name] = _share(of_rows, labels)
    most_frequent = train[target].value_counts().index[0]
    shares["all rows as one unit"] = _share(np.full(len(rows), most_frequent, object), labels)
    on_train = _share(majorities[train_units], train[target].to_numpy(object))
    return Table(
        "Purity of units",
        f"The share of the {len(rows):,} test rows whose {target} is the most frequent one among"
        " the training rows of their unit; a unit without training rows has none. On the training"
        f" rows of the map it is {on_train:.1%}. {target} is not a feature.",
        pd.DataFrame({"units of": list(shares), "purity": list(shares.values())}),
    )


def _share(majorities: np.ndarray, labels: np.ndarray) -> float:
    """The share of labels that are the majority of their unit."""
    return round(float((majorities == labels).mean()), 4)


# --- the outliers -------------------------------------------------------------------------------


def _outliers(
    model: "SavedModel", answers: pd.DataFrame, rows: pd.DataFrame, columns: Columns
) -> Table:
    """The test rows with the highest outlier scores, and the features in which they deviate."""
    order = answers.sort_values("outlier_score", ascending=False, kind="stable").index[:OUTLIERS]
    top_rows, top_answers = rows.iloc[order], answers.loc[order]
    cells = {}
    if columns.key:
        cells[_key_heading(columns.key)] = top_rows[columns.key].tolist()
    cells["row"] = top_answers["row"].tolist()
    cells["col"] = top_answers["col"].tolist()
    cells["outlier_score"] = top_answers["outlier_score"].round(3).tolist()
    cells["outlier"] = np.where(top_answers["outlier"], "yes", "no").tolist()
    cells["furthest from its unit"] = _deviations(model, top_rows, top_answers)
    threshold = model.card["calibration"]["threshold"]
    return Table(
        "Rows with the highest outlier scores",
        f"The {len(order)} of {len(answers):,} test rows with the highest scores. A row is an"
        f" outlier above {threshold:.3f}, which one val row in twenty exceeds:"
        " it is unlike the others, nothing more. The last column names the features that contribute"
        " most to the score: those furthest from the unit's value, relative to the spread of the"
        " training rows there.",
        pd.DataFrame(cells),
    )


def _deviations(model: "SavedModel", rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
    """The features of each row that contribute most to its score, with the values of its unit."""
    net = cast(Net, model.net)
    encoder = cast(Encoder, model.encoder)
    units = _units(net, answers)
    x = scaled(rows, encoder)
    prototypes = _codebook(net)[units]
    contributions = (x - prototypes) ** 2 / net.spreads(torch.tensor(units)).double().numpy()
    texts = []
    for features, prototype, contribution in zip(x, prototypes, contributions, strict=True):
        order = np.argsort(-contribution, kind="stable")[:DEVIATIONS]
        texts.append(_compared(features, "unit", prototype, encoder, order))
    return texts


# --- figures ------------------------------------------------------------------------------------


def _u_matrix(net: Net, answers: pd.DataFrame, tooltips: Sequence[str]) -> Figure:
    """Mean distance of each unit to the adjacent ones, and the outliers among the test rows."""
    heights = net.u_matrix().numpy().ravel()
    figure = canvas("U-matrix: ridges separate groups of rows", height=4.6)
    axes = figure.add_subplot()
    outliers = answers[answers["outlier"]]
    outlier_counts = _counts(net, outliers)
    texts = []
    for height, count, tooltip in zip(heights, outlier_counts, tooltips, strict=True):
        texts.append(f"{height:.2f} from adjacent units, test outliers {count}; {tooltip}")
    _draw_units(axes, net, _tints(heights), texts)
    y, x = net.places().numpy()[_units(net, outliers)].T
    number = outliers.groupby(["row", "col"]).cumcount().to_numpy()
    angle = GOLDEN_ANGLE * number
    distance = AROUND * (number > 0)
    axes.scatter(
        x + distance * np.cos(angle),
        y + distance * np.sin(angle),
        marker="x",
        s=34,
        linewidths=1.8,
        color=COLORS[1],
    )
    figure.set_label(
        f"Mean distance to the adjacent units, from {heights.min():.2f} (faint) to"
        f" {heights.max():.2f} (strong); 1 is the whole range of one feature. Crosses: the"
        f" {len(outliers)} of {len(answers)} test rows that are outliers."
    )
    return figure


def _hits(net: Net, answers: pd.DataFrame, tooltips: Sequence[str]) -> Figure:
    """The number of training rows of each unit."""
    counts = _counts(net, answers)
    figure = canvas("Hits: training rows of each unit", height=4.6)
    axes = figure.add_subplot()
    # A tint of at most 0.3, so that the numbers stay readable on it.
    _draw_units(axes, net, 0.3 * counts / counts.max(), tooltips)
    if max(net.rows, net.cols) <= LETTERED_SIDE:
        for (y, x), count in zip(net.places().numpy(), counts, strict=True):
            axes.text(x, y, str(count) if count else "", ha="center", va="center", fontsize=8)
    empty = int((counts == 0).sum())
    figure.set_label(
        f"{len(answers):,} training rows by their best matching unit; {empty} of {len(counts)}"
        f" units have none, the fullest has {counts.max()}. The tooltip of a unit names its typical"
        " values."
    )
    return figure


def _labels(net: Net, counts: pd.DataFrame, tooltips: Sequence[str]) -> Figure:
    """The most frequent label of each unit, with a stronger tint the more of its rows have it."""
    shares = counts.div(counts.sum(axis=1), axis=0).fillna(0.0).to_numpy()
    majority = shares.max(1)
    target = counts.columns.name
    figure = canvas("Labels: most frequent label of each unit", height=4.6)
    axes = figure.add_subplot()
    colors = [COLORS[i % len(COLORS)] for i in range(shares.shape[1])]
    unit_colors = [colors[i] for i in shares.argmax(1)]
    _draw_units(axes, net, majority**2, tooltips, unit_colors)
    patches = []
    for color, label in zip(colors, counts, strict=True):
        patches.append(Patch(color=color, label=f"{target} = {label}"))
    figure.legend(handles=patches[:LEGEND_LABELS], loc="outside lower center", ncols=3)
    has_rows = counts.sum(axis=1).to_numpy() > 0
    purity = float(majority[has_rows].mean())
    figure.set_label(
        f"The most frequent {target} among the training rows of each unit, on average {purity:.0%}"
        f" of them; the tint is stronger where it is more. {target} is not a feature: the map was"
        " trained without it."
    )
    return figure


def _components(net: Net, encoder: Encoder) -> Figure:
    """A plane for each feature: the value of each unit's prototype, in upstream units."""
    codebook = upstream(_codebook(net), encoder)
    codebook.columns = pd.Index(encoder.scale)
    names = _most_varied(codebook, encoder)
    lines = math.ceil(len(names) / PLANES_ACROSS)
    figure = canvas("Component planes: each feature on the map", height=0.8 + 1.4 * lines)
    grid = figure.subplots(lines, PLANES_ACROSS, sharex=True, sharey=True, squeeze=False)
    panels = grid.ravel()
    for axes, name in zip(panels, names, strict=False):
        values = codebook[name].to_numpy()
        _, span = encoder.scale[name]
        texts = [f"{name} {_formatted(value, span)}" for value in values]
        _draw_units(axes, net, _tints(values), texts, outline=0)
        axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
        axes.set_title(f"{name}\n{_range(values)}", fontsize=8)
    for axes in panels[len(names) :]:
        axes.remove()
    figure.supxlabel("column of the map", fontsize=9)
    figure.supylabel("row of the map", fontsize=9)
    caption = (
        "The value of each feature at each unit, from its minimum (faint) to its maximum (strong)."
    )
    if len(names) < len(encoder.scale):
        caption += f" The {len(names)} of {len(encoder.scale)} features that vary most."
    figure.set_label(caption)
    return figure


def _most_varied(codebook: pd.DataFrame, encoder: Encoder) -> list[str]:
    """The features to draw, in their order: as many as CELLS allows, those that vary most."""
    count = max(PLANES_ACROSS, CELLS // len(codebook))
    spans = np.array([span for _, span in encoder.scale.values()])
    variation = (codebook.std(ddof=0) / spans).sort_values(ascending=False, kind="stable")
    chosen = set(variation.index[:count])
    return [name for name in encoder.scale if name in chosen]


def _draw_units(
    axes: "Axes",
    net: Net,
    tints: np.ndarray,
    tooltips: Sequence[str],
    colors: Sequence[str] | None = None,
    outline: float = 0.4,
) -> None:
    """A cell for each unit, with a tint of 0 to 1 and a tooltip; row 0 is on top, as in a table."""
    corners, orientation, radius = 4, np.pi / 4, 2**-0.5
    if net.grid == "hexagonal":
        corners, orientation, radius = 6, 0.0, 3**-0.5
    places = net.places().numpy()
    for unit, ((y, x), tint, tooltip) in enumerate(zip(places, tints, tooltips, strict=True)):
        color = colors[unit] if colors else COLORS[0]
        cell = RegularPolygon(
            (x, y),
            corners,
            radius=radius,
            orientation=orientation,
            facecolor=(color, tint),
            edgecolor=(INK, 0.2),
            linewidth=outline,
        )
        cell.set_gid(f"{TOOLTIP}row {unit // net.cols}, column {unit % net.cols}: {tooltip}")
        cell.set_in_layout(False)
        axes.add_patch(cell)
    axes.grid(False)
    axes.set(
        xlim=(places[:, 1].min() - 0.6, places[:, 1].max() + 0.6),
        ylim=(places[:, 0].max() + 0.6, places[:, 0].min() - 0.6),
    )
    axes.set(xlabel="column of the map", ylabel="row of the map", aspect="equal")
    row_ticks = range(0, net.rows, max(1, net.rows // 5))
    axes.set_xticks(range(0, net.cols, max(1, net.cols // 5)))
    # Rows of a hexagonal grid are less than 1 apart, so that a tick is not at its number.
    axes.set_yticks(places[:: net.cols, 0][row_ticks], list(map(str, row_ticks)))
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)


# --- texts --------------------------------------------------------------------------------------


def _unit_tooltips(
    net: Net,
    answers: pd.DataFrame,
    labels: pd.DataFrame | None,
    train: pd.DataFrame,
    encoder: Encoder,
) -> list[str]:
    """The tooltip of each unit: its training rows, their label, and its least average features."""
    average = scaled(train, encoder).mean(0)
    tooltips = []
    for unit, (prototype, hits) in enumerate(
        zip(_codebook(net), _counts(net, answers), strict=True)
    ):
        text = f"{hits} training row{'s' if hits != 1 else ''}"
        if labels is not None and hits:
            counts = labels.iloc[unit]
            text += f", {counts.max()} of them {labels.columns.name} = {counts.idxmax()}"
        order = np.argsort(-abs(prototype - average), kind="stable")[:TYPICAL]
        compared = _compared(prototype, "average", average, encoder, order)
        tooltips.append(f"{text}; typical values: {compared}")
    return tooltips


def _compared(
    features: np.ndarray, label: str, reference: np.ndarray, encoder: Encoder, order: np.ndarray
) -> str:
    """Some features beside those of a reference: "A2 63.0 (average 31.4), ...".

    `features` and `reference` are (features) in the encoder's scale; the text has upstream units.
    `order` (n) chooses the features.
    """
    names = list(encoder.scale)
    values, references = upstream(np.stack([features, reference]), encoder).to_numpy()
    texts = []
    for i in order:
        _, span = encoder.scale[names[i]]
        value, compared_with = _formatted(values[i], span), _formatted(references[i], span)
        texts.append(f"{names[i]} {value} ({label} {compared_with})")
    return ", ".join(texts)


def _range(values: np.ndarray) -> str:
    """Minimum and maximum, rounded to three digits of their difference."""
    low, high = float(values.min()), float(values.max())
    span = high - low
    digits = _digits(span)
    minimum = _formatted(round(low, digits), span)
    maximum = _formatted(round(high, digits), span)
    return f"{minimum} to {maximum}"


def _formatted(value: float, span: float) -> str:
    """A number with three digits of the span of its feature, without trailing zeros."""
    digits = max(0, _digits(span))
    text = f"{round(value, digits) + 0.0:,.{digits}f}"  # adding 0.0 turns -0.0 into 0.0
    if digits:
        text = text.rstrip("0").rstrip(".")
    return text


def _digits(span: float) -> int:
    """The decimal places of a number that make three digits of `span`; below 0 for large spans."""
    if span <= 0:
        return 3
    return 2 - math.floor(math.log10(span))


# --- units --------------------------------------------------------------------------------------


def _tints(values: np.ndarray) -> np.ndarray:
    """The values from 0, the minimum, to 1, the maximum."""
    span = (values.max() - values.min()) or 1.0
    return (values - values.min()) / span


def _codebook(net: Net) -> np.ndarray:
    """The prototypes, (units, features) in float64."""
    return net.codebook.detach().double().numpy()


def _units(net: Net, answers: pd.DataFrame) -> np.ndarray:
    """The unit of each answer, (answers)."""
    return (answers["row"] * net.cols + answers["col"]).to_numpy()


def _counts(net: Net, answers: pd.DataFrame) -> np.ndarray:
    """The number of answers of each unit, (units)."""
    return np.bincount(_units(net, answers), minlength=len(net.codebook))


def _label_counts(net: Net, answers: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """The number of training rows of each unit (rows) with each label (columns)."""
    counts = pd.crosstab(_units(net, answers), labels.to_numpy(), colnames=[labels.name])
    return counts.reindex(range(len(net.codebook)), fill_value=0)
