"""Figures of outliers: ROC curves, the probabilities of rows and synthetic outliers, the map, and
a table of the rows that are outliers most.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ... import injection, saved_model
from ...drawing import COLORS, Table, canvas, in_style, line, tooltips
from . import metrics

if TYPE_CHECKING:
    from ...saved_model import SavedModel

OUTLIERS = 10  # rows of the table
FEATURES = 6  # columns of features in it
RATES = np.round(np.linspace(0, 1, 41), 3)  # false positive rates that have a tooltip
BINS = 25  # of the histogram of probabilities


class Grid(Protocol):
    """The map of a net that has one."""

    rows: int
    cols: int


class Net(Protocol):
    """What the figures read of a net; `make check` compares it with the family."""

    map: Grid


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: metrics.Columns,
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
    train: pd.DataFrame,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` are those to `inputs(rows)` of the test part."""
    tables = {"model": answers, **baselines}
    return {
        "roc": _roc(tables, len(rows)),
        "probabilities": _probabilities(answers, len(rows), model.card["calibration"]["threshold"]),
        "map": _map(model, train),
        "outliers": _outliers(answers.iloc[: len(rows)], rows, columns),
    }


def _roc(tables: Mapping[str, pd.DataFrame], rows: int) -> Figure:
    """The share of synthetic outliers found, by the share of rows that are called one."""
    figure = canvas("Synthetic outliers found")
    axes = figure.add_subplot()
    found_at = {}
    areas = []
    for i, (name, table) in enumerate(tables.items()):
        scores = table["probability"].to_numpy(np.float64)
        found = np.array([_found(scores[:rows], scores[rows:], rate) for rate in RATES])
        area = injection.auroc(scores, rows).observed
        axes.plot(RATES, found, **line(i), label=f"{name}, AUC {area:.4f}")
        found_at[name] = found
        areas.append(f"{name} {area:.4f}")
    axes.set(xlabel="rows above the threshold (fraction)")
    axes.set(ylabel="synthetic outliers above it (fraction)")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc="lower right")
    tooltips(axes, RATES, found_at, "rows above the threshold", ".3f")
    figure.set_label(
        f"AUC on {rows:,} rows and {injection.INJECTIONS} sets of synthetic outliers, rows with"
        f" each column permuted separately: {', '.join(areas)}."
    )
    return figure


def _found(rows: np.ndarray, injected: np.ndarray, rate: float) -> float:
    """The share of `injected` scores above the threshold that this share of `rows` exceeds."""
    threshold = np.quantile(rows, 1 - rate)
    ties = (injected == threshold).mean() * rate  # of a constant score, as many as of the rows
    return float((injected > threshold).mean() + ties)


def _probabilities(answers: pd.DataFrame, rows: int, threshold: float) -> Figure:
    """How the probabilities of the rows and of the synthetic outliers are distributed."""
    figure = canvas("Probability to be an outlier")
    axes = figure.add_subplot()
    probabilities = answers["probability"].to_numpy(np.float64)
    edges = np.linspace(0, 1, BINS + 1)
    shares = {}
    parts = {"rows": probabilities[:rows], "synthetic outliers": probabilities[rows:]}
    for i, (name, values) in enumerate(parts.items()):
        share = np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, color=COLORS[i], linewidth=2.0 - 0.6 * i, label=name)
        shares[name] = share
    axes.axvline(threshold, color=COLORS[2], linewidth=1.0, label="threshold, from val")
    axes.set(xlabel="probability, where 5 % of the rows are outliers", ylabel="share of each")
    axes.set(xlim=(0, 1))
    axes.legend(loc="upper right")
    tooltips(axes, (edges[:-1] + edges[1:]) / 2, shares, "probability", ".2f")
    above = answers["outlier"].to_numpy()
    figure.set_label(
        f"Above the threshold {threshold:.3g}: {above[:rows].mean():.3f} of {rows:,} test rows and"
        f" {above[rows:].mean():.3f} of the synthetic outliers."
    )
    return figure


def _map(model: "SavedModel", train: pd.DataFrame) -> Figure:
    """The mean probability of the training rows of each unit, and where the map's flags lie."""
    net = cast(Net, model.net)
    outputs = saved_model.outputs(model.net, model.encoder.encode(train))
    probability = outputs["outlier"].double().numpy()
    row, col = outputs["unit"].numpy().T
    shape = (net.map.rows, net.map.cols)
    counts = np.zeros(shape)
    np.add.at(counts, (row, col), 1)
    sums = np.zeros(shape)
    np.add.at(sums, (row, col), probability)
    means = np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0)
    figure = canvas("Where on the map the outliers lie", height=4.6)
    axes = figure.add_subplot()
    image = axes.imshow(means, cmap="Blues", vmin=0.0)
    figure.colorbar(image, ax=axes, label="mean probability of the training rows")
    flagged = _flagged(outputs["surprise"])
    rng = np.random.default_rng(0)
    beside = rng.uniform(-0.3, 0.3, (2, int(flagged.sum())))  # several may lie in one unit
    axes.plot(
        col[flagged] + beside[0], row[flagged] + beside[1], ".", color=COLORS[1], label="flagged"
    )
    axes.set(xlabel="column", ylabel="row")
    figure.set_label(
        f"{int(flagged.sum())} of {len(train):,} training rows have the map's own outlier flag"
        " (points); white units have no training row."
    )
    return figure


def _flagged(surprise: Tensor) -> np.ndarray:
    """The most surprising rows, injection.SHARE of them: the map's own outlier flag."""
    values = surprise.double().numpy()
    return np.asarray(values > np.quantile(values, 1 - injection.SHARE))


def _outliers(answers: pd.DataFrame, rows: pd.DataFrame, columns: metrics.Columns) -> Table:
    """The test rows with the highest probabilities."""
    order = (
        answers["probability"].reset_index(drop=True).sort_values(ascending=False, kind="stable")
    )
    top = order.index[:OUTLIERS]
    table = pd.DataFrame({"probability": order.iloc[:OUTLIERS].round(4).to_numpy()})
    table["outlier"] = np.where(answers["outlier"].to_numpy()[top], "yes", "no")
    if columns.key:
        name = f"key_{columns.key}" if columns.key in table else columns.key
        table.insert(0, name, rows[columns.key].to_numpy()[top])
    for name in columns.features[:FEATURES]:
        table[f"column {name}" if name in table else name] = rows[name].to_numpy()[top]
    return Table(
        "Rows that are outliers most",
        f"The {len(table)} test rows with the highest probability, and their first"
        f" {min(FEATURES, len(columns.features))} columns.",
        table,
    )
