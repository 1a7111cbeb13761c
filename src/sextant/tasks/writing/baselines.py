"""Baselines of writing: single characters, and n-grams by interpolated Kneser-Ney smoothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ...kinds.text.rows import TEXT, follows
from .metrics import Encoder, as_answers

if TYPE_CHECKING:
    from ... import contracts

ORDERS = 8  # the longest n-grams; val chooses among 1 to this
BLOCK = 20_000  # characters whose distributions are held at once
# Bounds of a discount, as a share of the count that it is taken from: with 0 a context would leave
# nothing for characters that never followed it.
LEAST, MOST = 0.05, 0.95


class Corpus(NamedTuple):
    """The codes of rows one after the other, and the place of each in its text, from 0."""

    codes: np.ndarray
    places: np.ndarray
    lengths: list[int]  # of each row


class Counts(NamedTuple):
    """What n-grams of one order count.

    kept: by n-gram the share of its context's probability that is left after the discount. backoff:
    by context the share that goes to the next lower order; 1 where the context has no n-gram.
    """

    kept: np.ndarray
    backoff: np.ndarray


class Level(NamedTuple):
    """The n-grams of one order that training has.

    keys: context * codes + code, sorted, where a context is the place of its (n-1)-gram in the
    level below. first: the place of the first n-gram of each context, and the end. raw counts
    occurrences; continuation counts the different characters before an n-gram.
    """

    keys: np.ndarray
    first: np.ndarray
    raw: Counts
    continuation: Counts


def unigram(train: pd.DataFrame, columns: object, encoder: Encoder) -> "contracts.Answer":
    """Every character at its share in training, one more of each, so that none is impossible."""
    counts = np.ones(encoder.sizes["characters"])
    counts += np.bincount(corpus_of(train, encoder).codes, minlength=len(counts))
    nats = -np.log(counts / counts.sum())
    likeliest = int(counts.argmax())

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        corpus = corpus_of(rows, encoder)
        return _answers(rows, corpus, nats[corpus.codes], corpus.codes == likeliest)

    return answer


def kneser_ney(
    train: pd.DataFrame, columns: object, encoder: Encoder, val: pd.DataFrame
) -> "contracts.Answer":
    """Interpolated, modified Kneser-Ney smoothing (Chen and Goodman 1998); val chooses the order.

    P(c | h) = (count(h c) - D) / count(h) + backoff(h) P(c | h without its first character). The
    highest order counts occurrences, and the lower ones the different characters before an n-gram.
    The discount D differs for counts of 1, 2, and 3 or more. Below single characters, all codes are
    equally likely.
    """
    codes = encoder.sizes["characters"]
    levels = levels_of(corpus_of(train, encoder), codes, ORDERS)
    by_order = [nats.mean() for nats, _ in scored(corpus_of(val, encoder), levels, codes)]
    order = 1 + int(np.argmin(by_order))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        corpus = corpus_of(rows, encoder)
        nats, hits = scored(corpus, levels[:order], codes, only_last=True)[-1]
        return _answers(rows, corpus, nats, hits)

    return answer


BASELINES: "dict[str, contracts.Fit]" = {"unigram": unigram, "kneser_ney": kneser_ney}


def corpus_of(rows: pd.DataFrame, encoder: Encoder) -> Corpus:
    """The codes of rows; a row that follows the one before it continues its text."""
    codes = [encoder.codes(text) for text in rows[TEXT]]
    lengths = [len(code) for code in codes]
    places: list[np.ndarray] = []
    start = 0
    for length, continues in zip(lengths, follows(rows), strict=True):
        start = start if continues else 0
        places.append(np.arange(start, start + length))
        start += length
    return Corpus(np.concatenate(codes).astype(np.int64), np.concatenate(places), lengths)


def _answers(
    rows: pd.DataFrame, corpus: Corpus, nats: np.ndarray, hits: np.ndarray
) -> pd.DataFrame:
    """The table of answers from values of each character of all rows."""
    longest = max(corpus.lengths)
    tables = np.zeros((len(rows), longest)), np.zeros((len(rows), longest), bool)
    ends = np.cumsum(corpus.lengths)
    for place, (length, end) in enumerate(zip(corpus.lengths, ends, strict=True)):
        tables[0][place, :length] = nats[end - length : end]
        tables[1][place, :length] = hits[end - length : end]
    return as_answers(rows, [""] * len(rows), *tables)


# --- n-grams ------------------------------------------------------------------------------------


def levels_of(corpus: Corpus, codes: int, orders: int) -> list[Level]:
    """The n-grams of orders 1 to `orders`; fewer orders if no text is so long."""
    grams = []  # of each order: keys, counts, the place in the level below of what a gram ends with
    before = np.zeros(len(corpus.codes), np.int64)  # of each place the gram that ends there
    for order in range(1, orders + 1):
        is_whole = corpus.places >= order - 1
        if not is_whole.any():
            break
        context = np.concatenate([[0], before[:-1]]) if order > 1 else before
        keys, firsts, inverse, counts = np.unique(
            (context * codes + corpus.codes)[is_whole],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        shorter = before[is_whole][firsts]
        before = np.full(len(corpus.codes), -1, np.int64)
        before[is_whole] = inverse
        grams.append((keys, counts, shorter))
    levels = []
    contexts = 1
    for place, (keys, counts, _) in enumerate(grams):
        continuation = counts
        if place + 1 < len(grams):
            longer = np.bincount(grams[place + 1][2], minlength=len(keys))
            # A gram with which the text begins has nothing before it.
            continuation = np.maximum(longer, 1)
        context = keys // codes
        first = np.searchsorted(context, np.arange(contexts + 1))
        levels.append(
            Level(keys, first, _discounted(counts, first), _discounted(continuation, first))
        )
        contexts = len(keys)
    return levels


def _discounted(counts: np.ndarray, first: np.ndarray) -> Counts:
    """The shares after the discounts; `first` are the places where contexts begin, and the end."""
    by_count = np.array([0.0, *discounts(counts)])
    discount = by_count[np.minimum(counts, 3)]
    sizes = np.diff(first)
    total = np.concatenate([[0], np.cumsum(counts)])
    total = (total[first[1:]] - total[first[:-1]]).astype(np.float64)
    removed = np.concatenate([[0.0], np.cumsum(discount)])
    removed = removed[first[1:]] - removed[first[:-1]]
    backoff = np.divide(removed, total, out=np.ones(len(total)), where=total > 0)
    return Counts((counts - discount) / np.repeat(total, sizes), backoff)


def discounts(counts: np.ndarray) -> list[float]:
    """The discounts of counts of 1, 2, and 3 or more, from how many there are of 1 to 4."""
    numbers = [int((counts == count).sum()) for count in range(1, 5)]
    of_counts = []
    for count in (1, 2, 3):
        few, more = numbers[count - 1], numbers[count]
        share = 0.5
        if few and numbers[0] + 2 * numbers[1]:
            y = numbers[0] / (numbers[0] + 2 * numbers[1])
            share = (count - (count + 1) * y * more / few) / count
        of_counts.append(count * min(max(share, LEAST), MOST))
    return of_counts


def scored(
    corpus: Corpus, levels: Sequence[Level], codes: int, only_last: bool = False
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`nats` of each character by each order, and whether it was the likeliest; or by the last."""
    contexts = contexts_of(corpus, levels, codes)
    parts = []
    for start in range(0, len(corpus.codes), BLOCK):
        block = slice(start, start + BLOCK)
        targets = corpus.codes[block]
        of_block = []
        for probs in distributions([ids[block] for ids in contexts], levels, codes, only_last):
            nats = -np.log(probs[np.arange(len(targets)), targets])
            of_block.append((nats, probs.argmax(1) == targets))
        parts.append(of_block)
    joined = []
    for by_order in zip(*parts, strict=True):
        nats = np.concatenate([part[0] for part in by_order])
        hits = np.concatenate([part[1] for part in by_order])
        joined.append((nats, hits))
    return joined


def contexts_of(corpus: Corpus, levels: Sequence[Level], codes: int) -> list[np.ndarray]:
    """For each order the context of each character, as its place in the level below.

    -1 where the text has none, and where training has not seen it.
    """
    contexts = [np.zeros(len(corpus.codes), np.int64)]
    for order, level in enumerate(levels[:-1], start=1):
        key = contexts[-1] * codes + corpus.codes
        place = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
        is_seen = (contexts[-1] >= 0) & (level.keys[place] == key)
        gram = np.where(is_seen, place, -1)
        context = np.concatenate([[-1], gram[:-1]])
        contexts.append(np.where(corpus.places >= order, context, -1))
    return contexts


def distributions(
    contexts: Sequence[np.ndarray], levels: Sequence[Level], codes: int, only_last: bool = False
) -> list[np.ndarray]:
    """P(code | context), (characters, codes), by the n-grams up to each order, or up to the last.

    `contexts` are those of `contexts_of`, of the same characters.
    """
    probs = np.full((len(contexts[0]), codes), 1 / codes)
    by_order = []
    for order, (context, level) in enumerate(zip(contexts, levels, strict=True), start=1):
        if order == len(levels) or not only_last:
            by_order.append(_interpolated(probs, context, level, level.raw, codes))
        probs = _interpolated(probs, context, level, level.continuation, codes)
    return by_order


def _interpolated(
    lower: np.ndarray, context: np.ndarray, level: Level, counts: Counts, codes: int
) -> np.ndarray:
    """The distributions of one order, given those of the order below."""
    rows = np.flatnonzero(context >= 0)
    of_rows = context[rows]
    probs = lower.copy()
    probs[rows] *= counts.backoff[of_rows][:, None]
    sizes = level.first[of_rows + 1] - level.first[of_rows]
    ends = np.cumsum(sizes)
    # The places of all n-grams of each context, one context after the other.
    grams = np.arange(ends[-1] if len(ends) else 0)
    grams += np.repeat(level.first[of_rows] - (ends - sizes), sizes)
    probs[np.repeat(rows, sizes), level.keys[grams] % codes] += counts.kept[grams]
    return probs
