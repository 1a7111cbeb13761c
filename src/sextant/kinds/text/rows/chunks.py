"""Texts cut into chunks, and put together again."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..columns import Columns

FILE_COLUMN = "file"  # of a chunk: the name of its file
START = "start"  # of a chunk: how many characters of the file are before it
TEXT = "text"
PROMPT = "prompt"  # the column of input rows


def repair(raw: Mapping[str, str], columns: Columns) -> pd.DataFrame:
    """The chunks of all texts, file by file in the order of their names; nothing is changed."""
    return chunks_of([(name, 0, text) for name, text in sorted(raw.items())], columns.chunk)


def chunks_of(stretches: list[tuple[str, int, str]], size: int) -> pd.DataFrame:
    """Stretches of text, (file, start, text) each, in chunks of `size` characters."""
    files: list[str] = []
    starts: list[int] = []
    texts: list[str] = []
    for name, start, text in stretches:
        for place in range(0, len(text), size):
            files.append(name)
            starts.append(start + place)
            texts.append(text[place : place + size])
    return pd.DataFrame(
        {
            FILE_COLUMN: pd.Series(files, dtype="str"),
            START: np.array(starts, np.int64),
            TEXT: pd.Series(texts, dtype="str"),
        }
    )


def follows(rows: pd.DataFrame) -> np.ndarray:
    """Whether a row continues the one before it, (rows) bool; a prompt continues nothing."""
    if START not in rows or rows.empty:
        return np.zeros(len(rows), bool)
    starts = rows[START].to_numpy(np.int64)
    ends = starts + rows[TEXT].str.len().to_numpy(np.int64)
    files = rows[FILE_COLUMN].to_numpy()
    continues = np.zeros(len(rows), bool)
    continues[1:] = (files[1:] == files[:-1]) & (starts[1:] == ends[:-1])
    return continues


def texts_of(rows: pd.DataFrame) -> list[str]:
    """The rows that follow one another, put together."""
    texts: list[list[str]] = []
    for text, continues in zip(rows[TEXT], follows(rows), strict=True):
        if continues:
            texts[-1].append(text)
        else:
            texts.append([text])
    return ["".join(pieces) for pieces in texts]
