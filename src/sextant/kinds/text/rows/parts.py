"""Four parts of a text: split by place or by file, checked, written and summed up."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ....files import readable
from ...parts import PARTS
from ...splits import HashSplit, PlaceSplit, parts_by_hash
from ..columns import Columns
from .chunks import FILE_COLUMN, PROMPT, START, TEXT, chunks_of, follows

# By place, train ends where test begins, so that a text with its last tenth held out is trained on
# what is before it, as published results are: with val and gate in between, the play that makes up
# most of the test part of Tiny Shakespeare would begin in the gate part, unseen.
IN_ORDER = ("val", "gate", "train", "test")


def split(
    rows: pd.DataFrame, columns: Columns, split: HashSplit | PlaceSplit
) -> dict[str, pd.DataFrame]:
    """Four parts, cut into chunks anew, so that a part begins where its share of the text does.

    By place they follow one another as IN_ORDER; by hash each is made of whole files.
    """
    if isinstance(split, HashSplit):
        names = sorted(rows[FILE_COLUMN].unique())
        part_of = dict(zip(names, parts_by_hash(names, split), strict=True))
        number = rows[FILE_COLUMN].map(part_of)
        return {
            part: rows[number == place].reset_index(drop=True) for place, part in enumerate(PARTS)
        }
    files = _whole_files(rows)
    total = sum(len(text) for _, text in files)
    shares = split.shares.model_dump()
    parts = {}
    begin = 0
    share = 0.0
    for part in IN_ORDER:
        share += shares[part]
        end = total if part == IN_ORDER[-1] else int(total * share + 1e-6)
        parts[part] = chunks_of(_between(files, begin, end), columns.chunk)
        begin = end
    return {part: parts[part] for part in PARTS}


def _whole_files(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The text of each file, in the order of the rows."""
    texts = rows.groupby(FILE_COLUMN, sort=False)[TEXT].agg("".join)
    return [(str(name), str(text)) for name, text in texts.items()]


def _between(files: list[tuple[str, str]], begin: int, end: int) -> list[tuple[str, int, str]]:
    """What lies between two places of all files, counted on from one to the next."""
    stretches = []
    before = 0
    for name, text in files:
        first = max(begin - before, 0)
        last = min(end - before, len(text))
        if first < last:
            stretches.append((name, first, text[first:last]))
        before += len(text)
    return stretches


def check_parts(parts: Mapping[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError for a part without text, and for a train part shorter than a chunk."""
    for part, rows in parts.items():
        characters = int(rows[TEXT].str.len().sum())
        least = columns.chunk if part == "train" else 1
        if characters < least:
            raise DataError(
                f"part {part} has {characters:,} characters; expected {least:,} or more (a chunk in"
                " train); add text, or change `split` or `columns.chunk` in the conf"
            )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Read a part that `write` wrote."""
    file = path.with_suffix(".parquet")
    with readable(file):
        return pd.read_parquet(file)


def write_inputs(rows: pd.DataFrame, path: Path) -> None:
    """Write chunks as a packed model takes them: prompts with their places in a text."""
    write(rows.rename(columns={TEXT: PROMPT})[[PROMPT, FILE_COLUMN, START]], path)


MONITORED = 200_000  # characters whose drift is looked at, in chunks that are evenly spaced


def monitored(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, pd.Series]:
    """Return the characters of the training text, and the pairs of characters that follow one
    another.
    """
    texts = parts["train"][TEXT]
    most = max(1, MONITORED // max(1, int(texts.str.len().max())))
    places = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), most)).round().astype(int))
    characters: list[str] = []
    pairs: list[str] = []
    for text in texts.iloc[places]:
        characters += text
        pairs += [first + second for first, second in pairwise(text)]
    return {
        "characters": pd.Series(characters, dtype="str"),
        "pairs of characters": pd.Series(pairs, dtype="str"),
    }


def profile(parts: Mapping[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """The characters of each part, and the distinct ones of train, the most frequent first."""
    lengths = {part: int(rows[TEXT].str.len().sum()) for part, rows in parts.items()}
    counts = pd.Series(list("".join(parts["train"][TEXT]))).value_counts()
    frequent = counts.sort_index().sort_values(ascending=False, kind="stable")
    seen = set(counts.index)
    unseen = {}
    for part, rows in parts.items():
        beside = sorted(set("".join(rows[TEXT])) - seen)
        if beside:
            unseen[part] = beside
    texts = {part: int((~follows(rows)).sum()) for part, rows in parts.items()}
    return {
        "characters": lengths,
        "texts": texts,
        "alphabet": "".join(map(str, frequent.index)),
        "unseen": unseen,
    }
