"""Task writing: how probable is each character of a text given those before it, and what follows?

The metrics are nats and bits per character and the share of characters that were the likeliest. A
text is read in order, with the state carried from row to row. A prompt is continued by characters
that are drawn from the model.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from ... import intervals
from ...errors import UsageError
from ...kinds.text.encoder import PADDING, Batch
from ...kinds.text.rows import PROMPT, START, TEXT

METRICS = {"nats": "down", "bits": "down", "accuracy": "up"}
OUTPUTS = ("nats", "hits")
OPTIONS = {"length": 200, "temperature": 0.8, "top_k": 0, "seed": 0}
PUBLIC_COLUMNS = [PROMPT, TEXT]

LONGEST = 100_000  # characters that are written after a prompt
HOTTEST = 10.0  # far above, every character is as likely as any other
# A row is drawn by a seed of its own, so that its answer depends on no other row.
SEED_STEP = 1_000_003


class Encoder(Protocol):
    """What the task reads of the encoder of a text."""

    @property
    def sizes(self) -> dict[str, int]:
        """`characters`: the number of codes."""

    def encode(self, rows: pd.DataFrame) -> Batch:
        """The Batch of rows."""

    def codes(self, text: str) -> np.ndarray:
        """The code of each character."""

    def decode(self, codes: Sequence[int]) -> str:
        """The text of codes."""


class Net(Protocol):
    """What the answers read of a net."""

    def follow(self, batch: Batch) -> dict[str, Tensor]:
        """`nats` and `hits`, (rows, longest), with the state carried from row to row."""

    def write(
        self,
        prompts: Sequence[Tensor],
        length: int,
        temperature: float,
        top_k: int,
        seeds: Sequence[int],
    ) -> Tensor:
        """Codes that continue each prompt, (prompts, length)."""


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
    length: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """`prompt`, and `text`, the `length` characters that the model writes after it.

    `temperature` below 1 favours what is likely, 0 takes the likeliest character; `top_k` above 0
    leaves the likeliest ones alone; the draws follow from the `seed`. A row with a place in a text
    is scored and not continued. `score` needs the columns `nats` and `hits`, which callers do not
    see by default: -log p of each character of a row, and whether it was the likeliest.

    Raises UsageError for options out of range.
    """
    _check_options(length, temperature, top_k, seed)
    batch = encoder.encode(rows)
    # `outputs` begin each row without a memory, and a text is read as a whole.
    scores = net.follow(batch) if bool(batch.follows.any()) else outputs
    texts = [""] * len(rows)
    if START not in rows:
        prompts = [row[row != PADDING] for row in batch.text]
        seeds = [(seed * SEED_STEP + position) % 2**63 for position in range(len(rows))]
        written = net.write(prompts, length, float(temperature), top_k, seeds)
        texts = [encoder.decode(codes) for codes in written.tolist()]
    return as_answers(
        rows, texts, scores["nats"].double().numpy(), scores["hits"].numpy().astype(bool)
    )


def as_answers(
    rows: pd.DataFrame, texts: Sequence[str], nats: np.ndarray, hits: np.ndarray
) -> pd.DataFrame:
    """The table of answers; `nats` and `hits` are (rows, longest)."""
    lengths = rows[TEXT].str.len()
    table = pd.DataFrame({PROMPT: rows[PROMPT if PROMPT in rows else TEXT], TEXT: texts})
    for name, values in (("nats", nats), ("hits", hits)):
        of_rows = [row[:length] for row, length in zip(values, lengths, strict=True)]
        table[name] = pd.Series(of_rows, index=table.index, dtype=object)
    return table


def _check_options(length: int, temperature: float, top_k: int, seed: int) -> None:
    """Raise UsageError for the first option out of range."""
    for name, value, low, high in (
        ("length", length, 1, LONGEST),
        ("top_k", top_k, 0, LONGEST),
        ("seed", seed, 0, 2**31 - 1),
    ):
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_whole or not low <= value <= high:
            raise UsageError(f"{name} is {value}; expected a whole number from {low} to {high:,}")
    is_number = isinstance(temperature, int | float | np.number)
    if not is_number or isinstance(temperature, bool) or not 0 <= temperature <= HOTTEST:
        raise UsageError(f"temperature is {temperature}; expected a number from 0 to {HOTTEST:g}")


def public(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers as a caller sees them, without what `score` needs."""
    return answers[PUBLIC_COLUMNS]


# --- metrics ------------------------------------------------------------------------------------


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """The metrics of answers, in float64.

    nats: the mean -log p of a character. bits: the same to base 2. accuracy: the share of the
    characters that were the likeliest.
    """
    nats, hits, characters = _sums(answers)
    mean = float(nats.sum() / characters.sum())
    return {
        "nats": mean,
        "bits": mean / math.log(2),
        "accuracy": float(hits.sum() / characters.sum()),
    }


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "nats"
) -> intervals.Sample:
    """The Sample of a metric; a bootstrap draws chunks of the text."""
    nats, hits, characters = _sums(answers)
    by_metric = {"nats": nats, "bits": nats / math.log(2), "accuracy": hits}
    values = by_metric[metric]

    def mean(weights: np.ndarray) -> float:
        return float(weights @ values / (weights @ characters))

    return intervals.Sample(mean, np.arange(len(answers)))


def _sums(answers: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nats, the hits and the characters of each row, (rows) float64 each."""
    nats = [float(np.sum(row, dtype=np.float64)) for row in answers["nats"]]
    hits = [float(np.sum(row)) for row in answers["hits"]]
    characters = [float(len(row)) for row in answers["nats"]]
    return np.array(nats), np.array(hits), np.array(characters)


def watch(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """The metrics on val during training, where each row begins without a memory.

    Read as a whole, in order, val would take longer than the steps between two looks.
    """
    characters = int((batch.text[:, 1:] != PADDING).sum())
    nats = float(outputs["nats"].double().sum()) / characters
    accuracy = float(outputs["hits"].double().sum()) / characters
    return {"nats": nats, "bits": nats / math.log(2), "accuracy": accuracy}


def verdict(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> str:
    """In a sentence, how uncertain the model is about the next character."""
    metrics = score(answers, rows, encoder)
    return (
        f"A character of test costs {metrics['nats']:.3f} nats ({metrics['bits']:.3f} bits): the"
        f" model is as uncertain as among {math.exp(metrics['nats']):.1f} equally likely ones, and"
        f" takes the right one for the likeliest in {metrics['accuracy']:.1%}."
    )
