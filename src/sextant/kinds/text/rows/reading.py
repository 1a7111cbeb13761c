"""The texts of a data set from its files, and prompts from one file."""

from pathlib import Path

import pandas as pd

from ....errors import DataError
from ...archives import is_system_file
from ...formats import (
    COMPRESSED,
    FILE,
    JSON_LINES,
    LINE,
    WORKBOOKS,
    Format,
    decoded,
    read_table,
    unpacked,
)
from ...tables import data_files
from ..columns import Columns
from .chunks import PROMPT

TABLES = (".csv", ".tsv", ".parquet", ".json", *JSON_LINES, *WORKBOOKS)


def read(folder: Path, columns: Columns) -> dict[str, str]:
    """The text of each file of `folder`, by its name, with `\\n` at the ends of lines.

    Raises DataError for an empty folder or file, and for a file that is not text in the encoding.
    """
    texts = {}
    for path in data_files(folder):
        name = path.relative_to(folder).as_posix()
        if is_system_file(name):
            continue
        text = text_of(name, unpacked(path)[1], columns.encoding)
        if not text.strip():
            raise DataError(f"{name} is empty; expected a text; remove it, or restore it")
        texts[name] = text
    return texts


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Prompts: each line of a text, or the column `prompt` of a table (CSV, Parquet, JSON).

    The blanks around a cell of a CSV are no part of it; those of a line are. Raises DataError for
    a file that is missing, empty or not text in the encoding.
    """
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        suffix = path.with_suffix("").suffix.lower()
    if suffix in TABLES:
        delimiter = "\t" if suffix == ".tsv" else ","
        form = Format(delimiter=delimiter, encoding=columns.encoding)
        return read_table(path, form, [PROMPT]).rows
    text = text_of(path.name, unpacked(path)[1], columns.encoding)
    lines = text.removesuffix("\n").split("\n")
    if not text:
        raise DataError(f"{path.name} is empty; expected a prompt on each line")
    places = [(path.name, number) for number in range(1, len(lines) + 1)]
    index = pd.MultiIndex.from_tuples(places, names=[FILE, LINE])
    return pd.DataFrame({PROMPT: lines}, index=index)


def text_of(name: str, content: bytes, encoding: str) -> str:
    """The text of a file, with `\\n` at the ends of lines; raises DataError as `decoded` does."""
    return decoded(name, content, encoding).replace("\r\n", "\n").replace("\r", "\n")
