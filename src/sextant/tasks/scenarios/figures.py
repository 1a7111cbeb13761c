"""Figures of scenarios: couplings as a graph, probabilities beside frequencies, unseen states."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ...drawing import COLORS, INK, TOOLTIP, Table, canvas, in_style, line, short
from .metrics import PAIR, STATE, Encoder, cells_of, unseen_and_never

if TYPE_CHECKING:
    from ...kinds.tabular.columns import Columns
    from ...saved_model import SavedModel

EDGES = 60  # couplings drawn, the strongest
POINTS = 400  # pairs of states drawn, the most frequent
RARE = 12  # rows of the table of states that were never seen
BINS = 30  # of the histogram of log probabilities
NAME_LENGTH = 18


class Net(Protocol):
    """What the figures read of a net; `make check` compares it with the family."""

    edges: Tensor
    middles: Tensor
    countable: bool
    states: int

    def complete(self, codes: Tensor, count: int, seed: int) -> object:
        """Completions of a row."""

    def log_z(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        """log Z by two estimates, or the exact one twice."""

    def pair_probabilities(self) -> Tensor:
        """The probability of each pair of states, (states of all columns, the same)."""

    def column_couplings(self) -> Tensor:
        """The coupling of each pair of columns, (columns, columns, levels, levels)."""

    def likely_unseen(self, count: int) -> tuple[Tensor, Tensor]:
        """Codes and log probabilities of the likeliest states that no training row showed."""


class Coupling(NamedTuple):
    """How strongly two columns are coupled, and in which direction: 1, -1, or 0 if it has none."""

    first: str
    second: str
    strength: float
    sign: int


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "Columns",
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
    train: pd.DataFrame,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` are those to `inputs(rows)` of the test part."""
    net = cast(Net, model.net)
    encoder = cast(Encoder, model.encoder)
    by_name = {"model": answers, **baselines}
    coupled = couplings(net, encoder)
    return {
        "couplings": _graph(coupled, columns.features),
        "strengths": _strength_table(coupled),
        "marginals": _marginals(answers.iloc[: len(rows)], net, encoder),
        "pairs": _pairs(by_name, len(rows), columns.features, net, encoder),
        "unseen": _unseen(answers, len(rows)),
        "rare": _rare(net, encoder, answers.iloc[: len(rows)], len(train)),
    }


# --- couplings ----------------------------------------------------------------------------------


def couplings(net: Net, encoder: Encoder) -> list[Coupling]:
    """The couplings of all pairs of columns, the strongest first."""
    blocks = net.column_couplings().double().numpy()
    names = encoder.columns.features
    # An order of the states is needed to call a coupling positive: bins have one, and two levels.
    ordered = [True] * len(encoder.columns.numeric)
    ordered += [len(levels) == 2 for levels in encoder.levels.values()]
    coupled = []
    for first, second in itertools.combinations(range(len(names)), 2):
        block = blocks[first, second]
        sign = 0
        if ordered[first] and ordered[second]:
            rank = np.arange(len(block)) - (len(block) - 1) / 2
            sign = int(np.sign(rank @ block @ rank))
        strength = float(np.sqrt((block**2).sum()))
        coupled.append(Coupling(names[first], names[second], strength, sign))
    return sorted(coupled, key=lambda coupling: -coupling.strength)


def _graph(coupled: list[Coupling], names: list[str]) -> Figure:
    """Columns on a circle, and a line for each coupling, as wide as it is strong."""
    figure = canvas("Couplings between columns", height=4.9)
    axes = figure.add_subplot()
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    places = dict(zip(names, np.stack([np.cos(angles), np.sin(angles)], 1), strict=True))
    largest = max([coupling.strength for coupling in coupled], default=0.0) or 1.0
    colors = {1: COLORS[0], -1: COLORS[1], 0: INK}
    for coupling in reversed(coupled[:EDGES]):
        (x, y), (to_x, to_y) = places[coupling.first], places[coupling.second]
        share = coupling.strength / largest
        (edge,) = axes.plot(
            [x, to_x],
            [y, to_y],
            color=colors[coupling.sign],
            linewidth=0.3 + 5 * share,
            alpha=0.15 + 0.75 * share,
            solid_capstyle="round",
        )
        edge.set_gid(f"{TOOLTIP}{coupling.first} and {coupling.second}: {coupling.strength:.3f}")
    for name, angle in zip(names, angles, strict=True):
        x, y = 1.08 * np.cos(angle), 1.08 * np.sin(angle)
        axes.plot(x / 1.08, y / 1.08, "o", color=INK, markersize=4)
        aligned = "center" if abs(x) < 0.05 else ("left" if x > 0 else "right")
        axes.text(
            x,
            y,
            short(name, NAME_LENGTH),
            ha=aligned,
            va="center" if abs(y) < 1 else ("bottom" if y > 0 else "top"),
            fontsize=8,
            parse_math=False,
        )
    handles = []
    for sign, label in ((1, "rise together"), (-1, "one rises, one falls"), (0, "no order")):
        if any(coupling.sign == sign for coupling in coupled[:EDGES]):
            handles += axes.plot([], [], color=colors[sign], linewidth=2, label=label)
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=3)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.25, 1.25), aspect="equal")
    axes.axis("off")
    count = min(len(coupled), EDGES)
    figure.set_label(
        f"The {count} strongest of {len(coupled)} couplings; width: their strength, up to"
        f" {largest:.2f}, the norm of the couplings between the states of two columns, with mean 0"
        " by state and hidden units summed out to second order. A coupling is what two columns"
        " have in common given all others; columns that go together may have none."
    )
    return figure


def _strength_table(coupled: list[Coupling]) -> Table:
    signs = {1: "+", -1: "-", 0: ""}
    strongest = coupled[:EDGES]
    return Table(
        "Couplings",
        "The strength of each coupling, and whether the columns rise together (+) or one falls"
        " where the other rises (-). Columns without an order of their levels have no sign.",
        pd.DataFrame(
            {
                "column": [coupling.first for coupling in strongest],
                "and": [coupling.second for coupling in strongest],
                "strength": [round(coupling.strength, 3) for coupling in strongest],
                "sign": [signs[coupling.sign] for coupling in strongest],
            }
        ),
    )


# --- probabilities beside frequencies -----------------------------------------------------------


def _marginals(answers: pd.DataFrame, net: Net, encoder: Encoder) -> Figure:
    """The probability of each state of each column against its frequency."""
    marginals = net.pair_probabilities().diagonal().double().numpy()
    frequencies = []
    probabilities = []
    texts = []
    place = 0
    cells = cells_of(encoder, net)
    for name, states in cells.items():
        codes = answers[f"{STATE}{name}"].to_numpy()
        codes = codes[codes >= 0]
        for state, count in enumerate(np.bincount(codes, minlength=len(states))):
            if count:
                frequencies.append(float(count / len(codes)))
                probabilities.append(float(marginals[place + state]))
                texts.append(f"{name} {states[state].label}")
        place += len(states)
    figure = _against("Probabilities of states", frequencies, probabilities, texts)
    figure.set_label(
        f"Each of the {len(texts)} states of {len(cells)} columns that test rows show: its share of"
        " the rows, and its probability. On the diagonal they agree."
    )
    return figure


def _pairs(
    by_name: Mapping[str, pd.DataFrame],
    rows: int,
    names: list[str],
    net: Net,
    encoder: Encoder,
) -> Figure:
    """The probability of each pair of states against its frequency."""
    cells = cells_of(encoder, net)
    answers = by_name["model"].iloc[:rows]
    points = []
    for first, second in itertools.combinations(names, 2):
        states = [f"{STATE}{first}", f"{STATE}{second}"]
        complete = answers[(answers[states] >= 0).all(axis=1)]
        pair = f"{PAIR}{first} & {second}"
        for key, probabilities in complete.groupby(states)[pair]:
            state, other_state = cast("tuple[int, int]", key)
            label = cells[first][state].label
            text = f"{first} {label}, {second} {cells[second][other_state].label}"
            points.append((len(probabilities) / len(complete), float(probabilities.iloc[0]), text))
    points.sort(key=lambda point: -point[0])
    most_frequent = points[:POINTS]
    figure = _against(
        "Probabilities of pairs of states",
        [point[0] for point in most_frequent],
        [point[1] for point in most_frequent],
        [point[2] for point in most_frequent],
    )
    figure.set_label(
        f"The {len(most_frequent):,} most frequent of {len(points):,} pairs of states that test"
        " rows show: the share of the rows, and the probability. On the diagonal they agree."
    )
    return figure


def _against(
    title: str, frequencies: list[float], probabilities: list[float], texts: list[str]
) -> Figure:
    """Points at frequency and probability, both logarithmic, each with a tooltip."""
    figure = canvas(title, height=4.2)
    axes = figure.add_subplot()
    ends = [min([*frequencies, *probabilities]), max([*frequencies, *probabilities])]
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    for frequency, probability, text in zip(frequencies, probabilities, texts, strict=True):
        (point,) = axes.plot(
            frequency, probability, "o", color=COLORS[0], markersize=4, alpha=0.5, markeredgewidth=0
        )
        shares = f"{frequency:.4f} of the rows, probability {probability:.4f}"
        point.set_gid(f"{TOOLTIP}{text}: {shares}")
    axes.set(
        xscale="log", yscale="log", xlabel="share of the test rows", ylabel="probability (fraction)"
    )
    return figure


# --- states that were never seen ----------------------------------------------------------------


def _unseen(answers: pd.DataFrame, rows: int) -> Figure:
    """Histograms of the log probability: of rows, of unseen states, of states that never occur."""
    unseen, never = unseen_and_never(answers, rows)
    log_probability = answers["log_probability"].to_numpy(np.float64)
    is_row = np.arange(len(answers)) < rows
    groups = {
        "other test rows": log_probability[is_row & ~unseen],
        "states unseen in training": log_probability[unseen],
        "permuted, never occur": log_probability[never],
    }
    finite = log_probability[np.isfinite(log_probability)]
    edges = np.linspace(finite.min(), finite.max() + 1e-9, BINS + 1)
    figure = canvas("Log probability of seen, unseen and permuted rows")
    axes = figure.add_subplot()
    counts = []
    for i, (name, values) in enumerate(groups.items()):
        counts.append(f"{len(values):,} {name}")
        if not len(values):
            continue
        share = np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, label=name, **line(i))
    axes.set(xlabel="log probability (nats)", ylabel="share of the rows (fraction)")
    axes.legend(loc="upper left")
    figure.set_label(
        f"{', '.join(counts)}. The further left the permuted rows lie of the unseen ones, the"
        " better the machine knows what is possible, beyond what it has seen."
    )
    return figure


def _rare(net: Net, encoder: Encoder, answers: pd.DataFrame, train_rows: int) -> Table:
    """The likeliest states that no training row showed."""
    codes, log_probability = net.likely_unseen(RARE)
    cells = cells_of(encoder, net)
    table: dict[str, list[object]] = {}
    for place, (name, states) in enumerate(cells.items()):
        table[name] = [states[code].label for code in codes[:, place].tolist()]
    probability = np.exp(log_probability.double().numpy())
    table["probability"] = [float(f"{value:.3g}") for value in probability]
    table["expected training rows"] = [float(f"{value:.3g}") for value in probability * train_rows]
    test_codes = answers[[f"{STATE}{name}" for name in cells]].to_numpy()
    table["test rows"] = [int((test_codes == row).all(1).sum()) for row in codes.numpy()]
    return Table(
        "Rare, but likely: states that no training row showed",
        f"The {len(codes)} states that the machine holds likeliest among those that none of the"
        f" {train_rows:,} training rows showed: how many rows it expects there, and how many of"
        " test have them.",
        pd.DataFrame(table),
    )
