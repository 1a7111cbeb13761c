"""The texts of a data set from its files, and prompts from one file."""

import codecs
from pathlib import Path

import pandas as pd

from ....errors import DataError, describe
from ...archives import is_system_file
from ...formats import COMPRESSED, FILE, JSON_LINES, LINE, WORKBOOKS, Format, read_table, unpacked
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
        text = decoded(name, unpacked(path)[1], columns.encoding)
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
    text = decoded(path.name, unpacked(path)[1], columns.encoding)
    lines = text.removesuffix("\n").split("\n")
    if not text:
        raise DataError(f"{path.name} is empty; expected a prompt on each line")
    places = [(path.name, number) for number in range(1, len(lines) + 1)]
    index = pd.MultiIndex.from_tuples(places, names=[FILE, LINE])
    return pd.DataFrame({PROMPT: lines}, index=index)


def decoded(name: str, content: bytes, encoding: str) -> str:
    """The text of a file without its byte order mark, with `\\n` at the ends of lines.

    Raises DataError for bytes that the encoding does not have, and for a null character.
    """
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    if content.startswith(codecs.BOM_UTF8) and not is_utf8:
        raise DataError(
            f"{name} begins with the byte order mark of utf-8; set `encoding: utf-8` in the conf"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start : error.start + 1].hex()
        raise DataError(
            f"{name} line {line} is not {encoding} (byte 0x{byte}); set `encoding` in the conf,"
            " such as cp1252 or utf-16"
        ) from None
    except UnicodeError as error:  # UTF-16 without a byte order mark, for example
        raise DataError(
            f"{name} is not {encoding} ({describe(error)}); set `encoding` in the conf"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"{name} line {line} has a null character; set `encoding` in the conf, such as utf-16,"
            " or name a file of text"
        )
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
