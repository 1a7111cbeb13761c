"""What was asked and answered, as Parquet files in a folder; off without LOG=folder.

A file has one line for each row that was asked: `served_time`, `served_request`, `served_model` and
`served_version`, the input columns as they came, and the columns of the answer with the prefix
`answer_`. Where a request has more or fewer answers than rows, they are JSON in `answer_json` of
its first row. Columns that the data set's conf marks as `personal` are left out.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...files import written_whole
from ...kinds.levels import text_of
from .champions import Champion
from .questions import Cell

ROWS_OF_FILE = 20_000
SECONDS_OF_FILE = 60.0  # after which a file is written that has fewer rows
MOST_ROWS = 200_000  # that wait while a disk is full; further ones are dropped
LONGEST = 1000  # characters of a text; a longer one, such as a picture, is kept as its digest
LEFT_OUT = "left out: it names a personal column"
ANSWER = "answer_"
SERVED = ("served_time", "served_request", "served_model", "served_version")


class Entry(NamedTuple):
    """A request that was answered."""

    time: datetime
    request: str
    champion: Champion
    columns: Mapping[str, Sequence[Cell]]
    rows: int
    answers: Sequence[Mapping[str, Any]]


class AnswerLog:
    """Collects entries, and writes them to files; `add` may be called from any thread."""

    def __init__(self, folder: Path, personal: Sequence[str] = ()) -> None:
        self.folder = folder
        self.personal = frozenset(personal)
        self.entries: list[Entry] = []
        self.rows = 0
        self.dropped = 0
        self.oldest = 0.0
        self.retry_at = 0.0
        self.lock = threading.Lock()
        self.written = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, entry: Entry) -> None:
        """Keep an entry until it is written."""
        with self.lock:
            if self.rows + entry.rows > MOST_ROWS:
                self.dropped += entry.rows
                return
            if not self.entries:
                self.oldest = time.monotonic()
            self.entries.append(entry)
            self.rows += entry.rows

    def is_due(self) -> bool:
        """Whether a file should be written."""
        with self.lock:
            present = time.monotonic()
            is_old = present - self.oldest >= SECONDS_OF_FILE
            is_some = bool(self.entries) and present >= self.retry_at
            return is_some and (is_old or self.rows >= ROWS_OF_FILE)

    def write(self) -> None:
        """Write what waits to a new file, which is there as a whole or not at all.

        Raises OSError; then the entries wait, and a file is due after some time.
        """
        with self.lock:
            entries = list(self.entries)
        if not entries:
            return
        self.retry_at = time.monotonic() + SECONDS_OF_FILE
        table = table_of(entries, self.personal)
        self.written += 1
        stamp = f"{entries[0].time:%Y%m%dT%H%M%S}"
        name = f"{entries[0].champion.name}-{stamp}-{os.getpid()}-{self.written}.parquet"
        with written_whole(self.folder / name) as beside:
            table.to_parquet(beside, index=False)
        with self.lock:
            del self.entries[: len(entries)]
            self.rows -= sum(entry.rows for entry in entries)
            self.oldest = time.monotonic()
            self.retry_at = 0.0


def table_of(entries: Sequence[Entry], personal: frozenset[str]) -> pd.DataFrame:
    """The lines of entries, with the columns that any of them has."""
    lines: list[dict[str, object]] = []
    types: dict[str, str] = {}
    for entry in entries:
        interface = entry.champion.interface
        hidden = personal | frozenset(entry.champion.personal)
        for name in entry.columns:
            if name not in hidden:
                types[name] = interface.types.get(name, "string")
        for name, kind in interface.answers.items():
            types.setdefault(f"{ANSWER}{name}", kind)
        lines += _lines(entry, hidden)
    columns: dict[str, Any] = {}
    for name in _names(lines):
        values = [line.get(name) for line in lines]
        columns[name] = values if name in SERVED else _column(values, types.get(name, ""))
    return pd.DataFrame(columns)


def _names(lines: Sequence[Mapping[str, object]]) -> list[str]:
    """The columns of all lines: what the service adds, inputs, answers."""
    inputs: dict[str, None] = dict.fromkeys(SERVED)
    answers: dict[str, None] = {}
    for line in lines:
        for name in line:
            if name.startswith(ANSWER):
                answers[name] = None
            else:
                inputs[name] = None
    return [*inputs, *answers]


def _lines(entry: Entry, hidden: frozenset[str]) -> list[dict[str, object]]:
    """The lines of one entry."""
    lines: list[dict[str, object]] = []
    answers = [_shown(answer, hidden) for answer in entry.answers]
    is_one_to_one = len(answers) == entry.rows
    for row in range(entry.rows):
        line: dict[str, object] = {
            "served_time": entry.time,
            "served_request": entry.request,
            "served_model": entry.champion.name,
            "served_version": entry.champion.version.version,
        }
        for name, cells in entry.columns.items():
            if name not in hidden:
                line[name] = cells[row]
        if is_one_to_one:
            line |= {f"{ANSWER}{name}": value for name, value in answers[row].items()}
        elif row == 0:
            line[f"{ANSWER}json"] = json.dumps(answers, default=str)
        lines.append(line)
    return lines


def _shown(answer: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """An answer without personal columns, and without remarks that have a value of one."""
    shown_values = {}
    for name, value in answer.items():
        if name.removeprefix("key_") in hidden:
            continue
        if name == "warnings" and any(f"`{column}`" in str(value) for column in hidden):
            value = LEFT_OUT
        shown_values[name] = value
    return shown_values


def _column(values: Sequence[object], kind: str) -> pd.Series:
    """Values as a column of one type: numbers, truth values, or text."""
    present = [value for value in values if value is not None and value == value]
    if kind != "string" and present:
        if all(isinstance(value, bool | np.bool_) for value in present):
            return pd.Series(values, dtype="boolean")
        if all(isinstance(value, int | float | np.number) for value in present):
            return pd.Series(values, dtype="float64")
    return pd.Series([_text(value) for value in values], dtype="str")


def _text(value: object) -> str | None:
    text = text_of(value)
    if text is None or len(text) <= LONGEST:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)
