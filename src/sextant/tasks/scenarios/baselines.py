"""Baselines of scenarios: independent columns, and the best tree of pairs of columns.

Both read the states that the model reads: numbers in its quantile bins, missing cells unknown. What
a row shows has an exact probability: a missing cell is summed out.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
import pandas as pd
import torch

from ...families import blocks
from .metrics import Encoder, as_answers

if TYPE_CHECKING:
    from ... import contracts

# Rows that the distribution of a parent's state is smoothed by; val chooses.
SMOOTHING = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
PSEUDO_ROWS = 1.0  # for the base rates, and the mutual information


class Bins(TypedDict):
    """What the baselines read of the arguments of the model's net."""

    bins: int


class States(NamedTuple):
    """How rows become states: the edges of the bins, and the number of states of each column."""

    encoder: Encoder
    edges: torch.Tensor
    levels: list[int]

    def codes(self, rows: pd.DataFrame) -> np.ndarray:
        """The state of each cell, (rows, columns); -1 where it is not known."""
        batch = self.encoder.encode(rows)
        return blocks.state_codes(batch.numeric, batch.categories, self.edges).numpy()


class Tree(NamedTuple):
    """A distribution in which each column depends on its parent: `parent`, -1 for a root;
    `order`, parents first; `conditional`, P(state | state of the parent), (levels of the parent,
    levels), one row for a root.
    """

    parent: list[int]
    order: list[int]
    conditional: list[np.ndarray]


def states_of(train: pd.DataFrame, encoder: Encoder, net: Bins) -> States:
    """The states of the model, from the same training rows."""
    numeric = encoder.encode(train).numeric
    edges = blocks.quantile_edges(numeric, net["bins"])
    levels = ((edges < blocks.NO_EDGE).sum(1) + 1).tolist()
    levels += [len(levels_of) for levels_of in encoder.levels.values()]
    return States(encoder, edges, levels)


def independent(
    train: pd.DataFrame, columns: object, encoder: Encoder, net: Bins
) -> "contracts.Answer":
    """Every column by itself, at its base rates."""
    states = states_of(train, encoder, net)
    codes = states.codes(train)
    rates = base_rates(codes, states.levels)
    conditional = [rate[None] for rate in rates]
    order = list(range(len(rates)))
    return _answer(Tree([-1] * len(rates), order, conditional), states, codes)


def chow_liu(
    train: pd.DataFrame, columns: object, encoder: Encoder, net: Bins, val: pd.DataFrame
) -> "contracts.Answer":
    """The tree of the largest mutual information (Chow and Liu 1968); val chooses its smoothing."""
    states = states_of(train, encoder, net)
    codes = states.codes(train)
    val_codes = states.codes(val)
    fitted = [chow_liu_tree(codes, states.levels, smoothing) for smoothing in SMOOTHING]
    scores = [log_probability(tree, val_codes).mean() for tree in fitted]
    return _answer(fitted[int(np.argmax(scores))], states, codes)


BASELINES: "dict[str, contracts.Fit]" = {"independent": independent, "chow_liu": chow_liu}


def _answer(tree: Tree, states: States, train_codes: np.ndarray) -> "contracts.Answer":
    """Answers by a tree; `seen` are the states of the complete training rows."""
    complete = train_codes[(train_codes >= 0).all(1)]
    train_states = {tuple(row) for row in complete.tolist()}
    table = pair_tables(tree)

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        codes = states.codes(rows)
        seen = np.array([tuple(row) in train_states for row in codes.tolist()], bool)
        pairs = [_pair(table, codes, pair) for pair in itertools.combinations(range(len(table)), 2)]
        stacked = np.stack(pairs, 1) if pairs else np.empty((len(codes), 0))
        features = states.encoder.columns.features
        answers = as_answers(log_probability(tree, codes), codes, seen, stacked, features)
        return answers.set_axis(rows.index)

    return answer


def _pair(
    tables: Sequence[Sequence[np.ndarray]], codes: np.ndarray, pair: tuple[int, int]
) -> np.ndarray:
    """The probability of what rows show of two columns, (rows)."""
    table = tables[pair[0]][pair[1]]
    # One more row and column, of an unknown state.
    whole = np.ones((table.shape[0] + 1, table.shape[1] + 1))
    whole[:-1, :-1] = table
    whole[:-1, -1] = table.sum(1)
    whole[-1, :-1] = table.sum(0)
    return whole[codes[:, pair[0]], codes[:, pair[1]]]


# --- a tree -------------------------------------------------------------------------------------


def base_rates(codes: np.ndarray, levels: Sequence[int]) -> list[np.ndarray]:
    """The share of each state of each column among the known cells, smoothed by PSEUDO_ROWS."""
    rates = []
    for column, count in zip(codes.T, levels, strict=True):
        counts = np.bincount(column[column >= 0], minlength=count) + PSEUDO_ROWS / count
        rates.append(counts / counts.sum())
    return rates


def pair_counts(codes: np.ndarray, levels: Sequence[int], first: int, second: int) -> np.ndarray:
    """How many rows show each pair of states of two columns, (levels, levels)."""
    complete = (codes[:, first] >= 0) & (codes[:, second] >= 0)
    counts = np.zeros((levels[first], levels[second]))
    np.add.at(counts, (codes[complete, first], codes[complete, second]), 1)
    return counts


def mutual_information(counts: np.ndarray) -> float:
    """Of two columns, in nats, from the counts of their pairs of states."""
    total = counts.sum()
    if not total:
        return 0.0
    joint = counts / total
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    present = joint > 0
    return float((joint[present] * np.log(joint[present] / product[present])).sum())


def chow_liu_tree(codes: np.ndarray, levels: Sequence[int], smoothing: float) -> Tree:
    """The tree of the largest sum of mutual information, with column 0 as root (Prim 1957).

    P(state | parent) is smoothed by `smoothing` rows at the base rates.
    """
    count = len(levels)
    information = np.full((count, count), -np.inf)
    for first, second in itertools.combinations(range(count), 2):
        value = mutual_information(pair_counts(codes, levels, first, second))
        information[first, second] = information[second, first] = value
    rates = base_rates(codes, levels)
    parent = [-1] * count
    conditional = [rates[0][None]] * count
    order = [0]
    while len(order) < count:
        outside = [column for column in range(count) if column not in order]
        _, above, below = max(
            (information[inner, outer], -inner, -outer) for inner in order for outer in outside
        )
        above, below = -above, -below
        counts = pair_counts(codes, levels, above, below) + smoothing * rates[below]
        parent[below] = above
        conditional[below] = counts / counts.sum(1, keepdims=True)
        order.append(below)
    return Tree(parent, order, conditional)


def log_probability(tree: Tree, codes: np.ndarray) -> np.ndarray:
    """log P of the known cells, (rows), by messages from the leaves to the roots."""
    beliefs = []
    for column, conditional in zip(codes.T, tree.conditional, strict=True):
        levels = conditional.shape[1]
        is_state = column[:, None] == np.arange(levels)
        beliefs.append(np.where(column[:, None] < 0, 1.0, is_state.astype(np.float64)))
    total = np.zeros(len(codes))
    for column in reversed(tree.order):
        message = beliefs[column] @ tree.conditional[column].T
        if tree.parent[column] < 0:
            total += np.log(message[:, 0])
            continue
        scale = message.max(1)  # a product of many small numbers would be 0
        total += np.log(scale)
        beliefs[tree.parent[column]] = beliefs[tree.parent[column]] * (message / scale[:, None])
    return total


def pair_tables(tree: Tree) -> list[list[np.ndarray]]:
    """P(state, state) of any two columns, as tables (levels, levels) by their places."""
    count = len(tree.parent)
    marginals: list[np.ndarray] = [np.empty(0)] * count
    # P(state | state of another column), for those that come earlier in the order.
    conditionals: list[list[np.ndarray]] = [[np.empty(0)] * count for _ in range(count)]
    for place, column in enumerate(tree.order):
        above = tree.parent[column]
        conditional = tree.conditional[column]
        if above < 0:
            marginals[column] = conditional[0]
        else:
            marginals[column] = marginals[above] @ conditional
        for other in tree.order[:place]:
            if above < 0:
                conditionals[other][column] = np.tile(conditional[0], (len(marginals[other]), 1))
            elif other == above:
                conditionals[other][column] = conditional
            else:
                conditionals[other][column] = conditionals[other][above] @ conditional
        for other in tree.order[:place]:
            joint = marginals[other][:, None] * conditionals[other][column]
            share = marginals[column][:, None]
            conditionals[column][other] = np.divide(
                joint.T, share, out=np.zeros_like(joint.T), where=share > 0
            )
    tables: list[list[np.ndarray]] = []
    for first in range(count):
        row = []
        for second in range(count):
            if first == second:
                row.append(np.diag(marginals[first]))
            else:
                row.append(marginals[first][:, None] * conditionals[first][second])
        tables.append(row)
    return tables
