"""Input rows: some ratings of the users that are asked about."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...formats import COMPRESSED, Format, read_table, unpacked
from ...numbers import numbers_or_faults
from ..columns import Columns
from .reading import from_matrix, rated_rows

HEAD = 65_536  # bytes at the beginning of a file, in which its header is


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Input rows: ratings in the upstream format, or CSV with a header, Parquet, JSON.

    Raises DataError for a file that is missing or not a table.
    """
    form: Format = columns.ratings.as_written
    is_upstream = (form.delimiter, form.names, form.skip) == (",", None, 0)
    is_plain = not is_upstream and _has_header(path, columns.needed)
    if is_plain:
        form = Format(unknown=form.unknown)
    rows = read_table(path, form, columns.needed).rows
    if columns.ratings.layout == "matrix" and columns.item not in rows:
        return rated_rows(from_matrix(rows, columns), columns, {})
    if is_plain:
        # Here, because later the numbers would be read by the marks of the upstream format.
        stars, is_wrong = numbers_or_faults(rows[columns.rating], form)
        if not is_wrong.any():
            return rows.assign(**{columns.rating: stars})
    return rows


def _has_header(path: Path, names: Sequence[str]) -> bool:
    """Whether the first line with content has the names of columns, with commas between them."""
    if path.suffix.lower() in (*COMPRESSED, ".zip"):
        start = unpacked(path)[1][:HEAD]
    else:
        try:
            with path.open("rb") as stream:
                start = stream.read(HEAD)
        except OSError:
            return False  # read_table reports it
    for line in re.split(r"\r\n|\r|\n", start.decode("utf-8-sig", "replace")):
        cells = {cell.strip().strip('"').strip() for cell in line.split(",")}
        if cells != {""}:
            return set(names) <= cells
    return False
