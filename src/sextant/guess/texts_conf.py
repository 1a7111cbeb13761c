"""The confs of a text."""

import math
from collections.abc import Sequence

from . import confs, expectations, layout, models
from .result import Result
from .texts import MANY_FILES, Texts

SHARES = {"train": 0.8, "val": 0.05, "gate": 0.05, "test": 0.1}
SHARES_OF_LITTLE = {"train": 0.7, "val": 0.1, "gate": 0.1, "test": 0.1}
LITTLE = 200_000  # characters, below which val and gate would be some pages
SHOWN = 8  # files in the summary


def result(name: str, file: str, guess: Texts, pinned: Sequence[confs.Pinned]) -> Result:
    """The three confs of a text, and what the summary says of them."""
    by_file = len(guess.lengths) >= MANY_FILES
    shares = SHARES if guess.characters >= LITTLE and not by_file else SHARES_OF_LITTLE
    summary = f"{name}: {guess.characters:,} characters of {guess.alphabet} sorts in {file}."
    dataset = [
        *confs.head(name, summary),
        *confs.sources(pinned),
        *_columns(guess),
        *_split(shares, by_file),
        *confs.twin(),
    ]
    size = models.Size(round(guess.characters / guess.chunk * shares["train"]), side=guess.chunk)
    question = "What is the next character? An LSTM that reads the text in order."
    return Result(
        kind="text",
        family="char_rnn",
        task="writing",
        dataset="\n".join(dataset) + "\n",
        expectations=expectations.text(name, file, _suite(guess)),
        model=models.text(name, question, "char_rnn", "writing", size),
        lines=_lines(guess, by_file),
        doubts=list(guess.doubts),
    )


def _columns(guess: Texts) -> list[str]:
    encoding_note = "of the text; a byte order mark is no part of it"
    chunk_note = "characters of a row; training starts each row without a memory"
    unseen_note = "a prompt with a character that training lacks; map: to a plain one, or a blank"
    return [
        "columns:",
        layout.line(2, "encoding", layout.scalar(guess.encoding), encoding_note),
        layout.line(2, "chunk", str(guess.chunk), chunk_note),
        layout.line(2, "unseen", "refuse", unseen_note),
    ]


def _split(shares: dict[str, float], by_file: bool) -> list[str]:
    if by_file:
        return confs.hash_split(shares, 0, "the name of a file")
    note = "consecutive shares: val, gate, train, and test at the end; hash: whole files"
    return [
        "split:",
        layout.line(2, "by", "place", note),
        f"  shares: {layout.flow_map(shares)}",
    ]


def _suite(guess: Texts) -> list[expectations.Section]:
    expect = expectations.expect
    lowest = max(0.0, math.floor((guess.letters - 0.15) * 20) / 20)
    return [
        ("the text", [expectations.row_count(guess.lines, "lines")]),
        (
            "lines and characters",
            [
                expect(
                    "column_values_to_be_between",
                    "warning",
                    f"up to {guess.longest_line:,} so far; lines joined by an editor are longer",
                    column="characters",
                    max_value=2 * guess.longest_line,
                ),
                expect(
                    "column_values_to_be_between",
                    "warning",
                    "a control character or U+FFFD is what a wrong encoding leaves",
                    column="unusual",
                    max_value=0,
                ),
                expect(
                    "column_mean_to_be_between",
                    "warning",
                    f"letters and blanks are {guess.letters:.0%} of the text so far",
                    column="letters",
                    min_value=lowest,
                ),
            ],
        ),
    ]


def _lines(guess: Texts, by_file: bool) -> list[str]:
    longest = sorted(guess.lengths.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {length:,}" for name, length in longest[:SHOWN])
    more = f", and {len(longest) - SHOWN} more" if len(longest) > SHOWN else ""
    held_out = "whole files are held out" if by_file else "the last tenth is held out"
    return [
        f"text: {guess.characters:,} characters of {guess.alphabet} sorts in {guess.lines:,} lines,"
        f" {guess.encoding}: {listed}{more}",
        f"rows: chunks of {guess.chunk:,} characters; {held_out}",
    ]
