"""Task scenarios: how probable is a row, and what else if some of its cells are known?

No column is a target: each is a cell of a state, and a missing cell is what is asked. Numbers are
read in quantile bins. The metrics are the log-likelihood per row, how well the log probability
separates the test states that no training row showed from rows with permuted columns whose states
never occur, and how far the probabilities of pairs of states are from the rows' frequencies.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ... import injection, intervals
from ...errors import UsageError
from ...families import blocks
from ...kinds.tabular.columns import Columns
from ...kinds.tabular.rows import has_number_target

METRICS = {"log_likelihood": "up", "unseen_auroc": "up", "pair_error": "down"}
OUTPUTS = ("log_probability", "codes", "seen", "pairs")
WATCHED = ["log_likelihood"]  # the others need permuted rows, or are sums over rows
OPTIONS = {"scenarios": 0, "seed": 0}
PUBLIC_COLUMNS = ["probability", "log_probability", "seen"]

INJECTIONS = 5  # sets of rows with permuted columns
INJECTED_ROWS = 2000  # the largest size of a set, which bounds the time for a large table
MOST_SCENARIOS = 1_000_000  # draws for one row
STATE = "state "  # the prefixes of answers' columns that only `score` reads
PAIR = "pair "
BIN = "_bin"  # the suffix of the column with the range of a completed number
DIGITS = 5  # of a number that stands for a bin, relative to the span of its column


class Encoder(Protocol):
    """What the task reads of the encoder of a table."""

    columns: Columns
    levels: dict[str, list[str | None]]
    numbers: Mapping[str, Any]  # Statistics by column

    def encode(self, rows: pd.DataFrame) -> Any:
        """The Batch of rows."""


class Net(Protocol):
    """What the answers read of a net."""

    edges: Tensor
    middles: Tensor
    countable: bool
    states: int

    def complete(self, codes: Tensor, count: int, seed: int) -> Any:
        """Distinct completions of a row, (columns), as Completions of families/boltzmann.py."""

    def log_z(self, seed: int = 0) -> tuple[Tensor, Tensor]:
        """log Z, annealed up and annealed down, or exact twice."""


class Cell(NamedTuple):
    """What a state of a column means: a value in upstream units, and the range of a bin."""

    value: float | str
    label: str


def roles(columns: Columns, train: pd.DataFrame) -> Columns:
    """The columns with the target as one more feature, and with missing cells left empty."""
    return columns.joint(has_number_target(train, columns))


# --- answers ------------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: object) -> dict[str, float]:
    """Return nothing: a log probability is fitted by training itself."""
    return {}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Encoder,
    calibration: Mapping[str, float],
    net: Net,
    scenarios: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """`probability` and `log_probability` of the known cells of each row, and whether a training
    row showed all of them (`seen`).

    `score` needs further columns, which callers do not see by default: the `state` of each column,
    -1 if it is not known, and the probability of each pair of states.

    With `scenarios` above 0 the empty cells of each row are drawn so many times, with the `seed`.
    The answers are then the distinct completions, the most probable first; see `completed`. Raises
    UsageError for options out of range.
    """
    codes = outputs["codes"].long().numpy()
    _check_options(scenarios, seed)
    if scenarios:
        return completed(codes, rows, encoder, net, scenarios, seed)
    return as_answers(
        outputs["log_probability"].double().numpy(),
        codes,
        outputs["seen"].numpy().astype(bool),
        outputs["pairs"].double().numpy(),
        encoder.columns.features,
    )


def _check_options(scenarios: int, seed: int) -> None:
    is_count = isinstance(scenarios, int | np.integer) and 0 <= scenarios <= MOST_SCENARIOS
    if not is_count or isinstance(scenarios, bool):
        raise UsageError(
            f"scenarios is {scenarios}; expected a whole number from 1 to {MOST_SCENARIOS:,}, or 0"
            " for the probabilities of the rows as they are"
        )
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise UsageError(f"seed is {seed}; expected a whole number from 0 to {2**31 - 1:,}")


def as_answers(
    log_probability: np.ndarray,
    codes: np.ndarray,
    seen: np.ndarray,
    pairs: np.ndarray,
    features: Sequence[str],
) -> pd.DataFrame:
    """The table of answers; `codes` is (rows, columns), `pairs` (rows, pairs of columns)."""
    table: dict[str, np.ndarray] = {
        "probability": np.exp(log_probability),
        "log_probability": log_probability,
        "seen": seen,
    }
    for place, name in enumerate(features):
        table[f"{STATE}{name}"] = codes[:, place]
    for place, (first, second) in enumerate(itertools.combinations(features, 2)):
        table[f"{PAIR}{first} & {second}"] = pairs[:, place]
    return pd.DataFrame(table)


def public(answers: pd.DataFrame, scenarios: int = 0) -> pd.DataFrame:
    """The answers as a caller sees them: without what `score` needs; completions as they are."""
    return answers if scenarios else answers[PUBLIC_COLUMNS]


def completed(
    codes: np.ndarray,
    rows: pd.DataFrame,
    encoder: Encoder,
    net: Net,
    scenarios: int,
    seed: int,
) -> pd.DataFrame:
    """Each distinct completion of each row: `row`, its number from 1; every column; `draws`, how
    many of the draws gave it; and its `probability` given the known cells.

    A number that was drawn is a bin: `<column>` is then the median of the training rows in it, and
    `<column>_bin` its range; a known number stays as it is. The index is the position of the row.
    """
    cells = cells_of(encoder, net)
    parts = []
    for position, row in enumerate(torch.from_numpy(codes)):
        # A row is drawn by a seed of its own, so that its answers depend on no other row's cells.
        done = net.complete(row, scenarios, seed * 1_000_003 + position)
        table = _completed_row(done, cells, encoder)
        for name in encoder.columns.numeric:
            cell = rows[name].iloc[position]
            if not pd.isna(cell):
                table[_heading(name)] = cell
        table.insert(0, "row", position + 1)
        parts.append(table.set_axis(np.full(len(table), position), axis=0))
    return pd.concat(parts)


def _completed_row(
    done: Any, cells: Mapping[str, Sequence[Cell]], encoder: Encoder
) -> pd.DataFrame:
    table: dict[str, Sequence[object] | np.ndarray] = {}
    numeric = len(encoder.columns.numeric)
    for place, (name, states) in enumerate(cells.items()):
        heading = _heading(name)
        chosen = [states[code] for code in done.codes[:, place].tolist()]
        table[heading] = [cell.value for cell in chosen]
        if place < numeric:
            table[f"{heading}{BIN}"] = [cell.label for cell in chosen]
    log_probability = done.log_probability.double().numpy()
    table["draws"] = done.draws.numpy()
    table["probability"] = np.exp(log_probability)
    table["log_probability"] = log_probability
    return pd.DataFrame(table)


def _heading(name: str) -> str:
    """The heading of a completed column: another one than those that every answer has."""
    taken = name in ("row", "draws", "probability", "log_probability", "warnings")
    return f"column_{name}" if taken else name


def cells_of(encoder: Encoder, net: Net) -> dict[str, list[Cell]]:
    """What each state of each column means, in the order of the states."""
    cells: dict[str, list[Cell]] = {}
    for place, name in enumerate(encoder.columns.numeric):
        statistics = encoder.numbers[name]
        edges = net.edges[place][net.edges[place] < blocks.NO_EDGE].double().numpy()
        edges = edges * statistics.std + statistics.mean
        middles = net.middles[place].double().numpy() * statistics.std + statistics.mean
        values = [_rounded(value, statistics.high - statistics.low) for value in middles]
        labels = _ranges([_rounded(edge, statistics.high - statistics.low) for edge in edges])
        labels += [""] * (len(values) - len(labels))  # bins that do not exist
        cells[name] = [Cell(*cell) for cell in zip(values, labels, strict=True)]
    for name, levels in encoder.levels.items():
        texts = ["" if level is None else level for level in levels]
        cells[name] = [Cell(text, text) for text in texts]
    return cells


def _rounded(value: float, span: float) -> float:
    """A number with DIGITS digits of the span of its column."""
    if span <= 0:
        return float(value)
    return round(float(value), DIGITS - 1 - math.floor(math.log10(span)))


def _ranges(edges: Sequence[float]) -> list[str]:
    """The bins between edges, as text."""
    if not edges:
        return ["all"]
    texts = [f"{edge:.10g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    return [f"below {texts[0]}", *between, f"{texts[-1]} and above"]


# --- rows to score ------------------------------------------------------------------------------


def inputs(rows: pd.DataFrame, encoder: Encoder) -> pd.DataFrame:
    """The rows, then INJECTIONS sets of rows with permuted columns, of at most INJECTED_ROWS."""
    return injection.with_injections(rows, encoder.columns.features, INJECTIONS, INJECTED_ROWS)


def explained(answers: pd.DataFrame, base: pd.DataFrame, encoder: Encoder) -> np.ndarray:
    """Return the log probability of the known cells, of which the reasons are sought."""
    return answers["log_probability"].to_numpy(np.float64)


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """The metrics of the answers to `inputs(rows)`, in float64.

    log_likelihood: the mean log probability of what a row shows, in nats. unseen_auroc: the area
    under the ROC curve of the log probability, of the complete rows whose state no training row
    showed against those permuted rows whose state occurs neither in training nor in `rows`; 1/2 if
    one of the two is missing. pair_error: the total variation distance between the probabilities of
    the states of two columns and their frequencies in `rows`, mean over the pairs of columns.
    """
    row_answers = answers.iloc[: len(rows)]
    unseen = unseen_sample(answers, len(rows))
    return {
        "log_likelihood": float(row_answers["log_probability"].mean()),
        "unseen_auroc": 0.5 if unseen is None else unseen.observed,
        "pair_error": _pair_error(row_answers, encoder.columns.features),
    }


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "log_likelihood"
) -> intervals.Sample:
    """The Sample of a metric; of the log-likelihood, the log probability of each row."""
    log_probability = answers["log_probability"].to_numpy(np.float64)[: len(rows)]
    unseen = unseen_sample(answers, len(rows))
    if metric == "unseen_auroc":
        return unseen or intervals.Sample(lambda weights: 0.5, np.arange(len(answers)))
    if metric == "pair_error":
        return _pair_error_sample(answers.iloc[: len(rows)], encoder.columns.features)
    return intervals.mean(log_probability)


def watch(outputs: Mapping[str, Tensor], batch: object) -> dict[str, float]:
    """The log-likelihood on val during training."""
    return {"log_likelihood": float(outputs["log_probability"].double().mean())}


def unseen_sample(answers: pd.DataFrame, rows: int) -> intervals.Sample | None:
    """The Sample of the AUC; None if there are no unseen states, or no states that never occur.

    `answers` has those to `rows` rows first.
    """
    unseen, never = unseen_and_never(answers, rows)
    if not unseen.any() or not never.any():
        return None
    compared = unseen | never
    log_probability = answers["log_probability"].to_numpy(np.float64)[compared]
    area = intervals.auroc(log_probability, unseen[compared])
    # Two models have seen different states; a draw weighs the same answers of both.
    return intervals.Sample(lambda weights: area.score(weights[compared]), np.arange(len(compared)))


def unseen_and_never(answers: pd.DataFrame, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Which answers are rows of states that training did not show, and which permuted rows of
    states that never occur: (answers) bool each. A row with a missing cell has no state.
    """
    states = answers[[name for name in answers if str(name).startswith(STATE)]]
    complete = (states >= 0).all(axis=1).to_numpy()
    keys = pd.util.hash_pandas_object(states, index=False).to_numpy()
    is_row = np.arange(len(answers)) < rows
    seen = answers["seen"].to_numpy(bool)
    unseen = is_row & complete & ~seen
    never = ~is_row & complete & ~seen & ~np.isin(keys, keys[:rows])
    return unseen, never


def _pair_error(answers: pd.DataFrame, features: Sequence[str]) -> float:
    """The mean total variation distance over the pairs of columns; 0 for a single column."""
    return _pair_error_sample(answers, features).observed


def _pair_error_sample(answers: pd.DataFrame, features: Sequence[str]) -> intervals.Sample:
    """The Sample of the mean total variation distance over the pairs of columns."""
    pairs = []
    for first, second in itertools.combinations(features, 2):
        states = answers[[f"{STATE}{first}", f"{STATE}{second}"]]
        is_known = (states >= 0).all(axis=1).to_numpy()
        if not is_known.any():
            continue
        known = states[is_known]
        state = known.groupby([known.iloc[:, 0], known.iloc[:, 1]]).ngroup().to_numpy()
        probability = np.empty(1 + state.max())
        model = answers[f"{PAIR}{first} & {second}"].to_numpy(np.float64)[is_known]
        probability[state[::-1]] = model[::-1]  # of each state, that of the first row
        pairs.append((is_known, state, probability))

    def mean_distance(weights: np.ndarray) -> float:
        distances = []
        for is_known, state, probability in pairs:
            count = np.bincount(state, weights[is_known], minlength=len(probability))
            if not count.any():
                continue
            # The states that no row shows have the rest of the probability, and the frequency 0.
            rest = max(0.0, 1 - probability.sum())
            distances.append((np.abs(probability - count / count.sum()).sum() + rest) / 2)
        return float(np.mean(distances)) if distances else 0.0

    return intervals.Sample(mean_distance, np.arange(len(answers)))


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, net: Net) -> str:
    """In a sentence, how probable a row is, and how exact that number is."""
    metrics = score(answers, rows, encoder)
    up, down = net.log_z()
    states = f"{net.states:,}" if net.countable else f"{net.states:.1e}"
    log_likelihood = metrics["log_likelihood"]
    sentence = (
        f"A row of test has the probability {math.exp(log_likelihood):.2g}"
        f" ({log_likelihood:.3f} nats) in the geometric mean."
    )
    if net.countable:
        return f"{sentence} That is exact: all {states} states are counted."
    lower = log_likelihood + float(up - down)
    return (
        f"{sentence} The {states} states cannot be counted: log Z is {float(up):.3f} by annealed"
        f" importance sampling and {float(down):.3f} by reverse annealing, by which the"
        f" log-likelihood is {lower:.3f}."
    )
