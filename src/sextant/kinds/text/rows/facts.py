"""The table of a text for the expectations, one row for each line, and expectations of every text.

A line of other software, or one that was decoded twice, shows in what it consists of.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...formats import FILE, LINE
from ...tables import Finding
from ..columns import TABLE, Columns

LETTERS = re.compile(r"[^\W\d_]|\s")
# UTF-8 that was decoded as cp1252: é as Ã©, a dash as â€“.
DECODED_TWICE = re.compile("[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac")


def table(raw: Mapping[str, str], columns: Columns) -> pd.DataFrame:
    """One row for each line: its `text`, how many `characters` it has, the share of `letters` and
    blanks among them (missing for an empty line), and how many are `unusual`: a control or private
    character, one that Unicode does not have, or U+FFFD, which stands for what was lost.
    """
    places = []
    lines: list[str] = []
    for name, text in sorted(raw.items()):
        of_file = text.removesuffix("\n").split("\n")
        places += [(name, number) for number in range(1, len(of_file) + 1)]
        lines += of_file
    characters = np.array([len(line) for line in lines], np.int64)
    letters = np.array([len(LETTERS.findall(line)) for line in lines], np.float64)
    share = np.divide(letters, characters, out=np.full(len(lines), np.nan), where=characters > 0)
    unusual = np.array([_unusual(line) for line in lines], np.int64)
    index = pd.MultiIndex.from_tuples(places, names=[FILE, LINE])
    values = (pd.Series(lines, index, dtype="str"), characters, share, unusual)
    return pd.DataFrame(dict(zip(TABLE, values, strict=True)), index=index)


def _unusual(line: str) -> int:
    """How many characters are unusual; see `table`."""
    if line.isprintable() and "\ufffd" not in line:
        return 0
    count = line.count("\ufffd")
    for character in line:
        is_blank = character in "\t\u00a0\u3000"
        count += not (character.isprintable() or is_blank)
    return count


def findings(raw: Mapping[str, str], columns: Columns, table: pd.DataFrame) -> list[Finding]:
    """Expectations of every text: it was decoded once, and no file is there twice."""
    return [_decoding_finding(table), _copies_finding(raw)]


def _decoding_finding(table: pd.DataFrame) -> Finding:
    lines = table["text"][~table["text"].map(str.isascii).to_numpy(bool)]
    is_wrong = lines.map(lambda line: DECODED_TWICE.search(line) is not None).to_numpy(bool)
    return Finding(
        expectation="expect_lines_to_be_decoded_once",
        kwargs={},
        severity="warning",
        unit="lines",
        checked=len(table),
        unexpected=int(is_wrong.sum()),
        examples=[repr(line[:60]) for line in lines[is_wrong]],
        why=(
            "UTF-8 was read as another encoding and written again; take the file from its source,"
            " since the model would learn these characters"
        ),
    )


def _copies_finding(raw: Mapping[str, str]) -> Finding:
    first_of: dict[str, str] = {}
    examples = []
    for name, text in sorted(raw.items()):
        first = first_of.setdefault(text, name)
        if first != name:
            examples.append(f"{name} (as {first})")
    return Finding(
        expectation="expect_files_to_be_different",
        kwargs={},
        severity="warning",
        unit="files",
        checked=len(raw),
        unexpected=len(examples),
        examples=examples,
        why="a text that is in training and in test is not predicted, but recalled; remove one",
    )
