"""Folders of upstream files, and the columns that a table has to have."""

import difflib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import RECEIPT
from .formats import FILE, LINE, place

NAMED = 12  # columns in a message
NAMED_CHARACTERS = 60  # of the name of a column in a message


def data_files(folder: Path) -> list[Path]:
    """Return the upstream files in data/raw/<name>/ and below it, sorted.

    Raises DataError if there are none.
    """
    paths = sorted(folder.rglob("*"))
    files = [path for path in paths if path.is_file() and path != folder / RECEIPT]
    if not files:
        raise DataError(f"{folder} has no files; run `make pull`")
    return files


def check_columns(
    rows: pd.DataFrame, expected: Iterable[str], file_name: str, has_header: bool = True
) -> None:
    """Raise DataError if the table of a file lacks an expected column.

    The message names similar columns, and says so where a header seems to be missing.
    """
    expected = list(expected)
    missing = [name for name in expected if name not in rows.columns]
    if not missing:
        return
    advice = "correct the file, or use its column names in the conf"
    similar = _similar(missing, list(rows.columns))
    if similar:
        advice = f"did you mean {', '.join(similar)}? {advice}"
    elif has_header and len(missing) == len(expected):
        advice += "; if it has no header, list its columns in `columns.names`"
    raise DataError(
        f"{file_name} lacks column {listed(missing)}; found {listed(rows.columns)}; {advice}"
    )


def check_input_columns(
    frame: pd.DataFrame, expected: Sequence[str], allowed: Sequence[str]
) -> None:
    """Raise DataError if input rows lack an expected column, or have one that is not allowed."""
    missing = [name for name in expected if name not in frame]
    surplus = [str(name) for name in frame if name not in allowed]
    faults = []
    if missing:
        faults.append(f"missing column {', '.join(missing)}")
    if surplus:
        faults.append(f"surplus column {', '.join(surplus)}")
    if faults:
        raise DataError(
            f"{'; '.join(faults)}; expected {', '.join(expected)}; name the columns as in training"
        )


def without_surplus(
    frame: pd.DataFrame, expected: Sequence[str], allowed: Sequence[str]
) -> pd.DataFrame:
    """Return input rows in the allowed columns; other columns are passed over, with a warning.

    Raises DataError if an expected column is missing.
    """
    missing = [name for name in expected if name not in frame]
    surplus = [str(name) for name in frame if name not in allowed]
    if missing:
        advice = "name the columns as in training"
        similar = _similar(missing, surplus)
        if similar:
            advice = f"did you mean {', '.join(similar)}? {advice}"
        elif len(missing) == len(expected):
            advice += ", in a header or, where training had none, without one"
        faults = f"missing column {listed(missing)}"
        if surplus:
            faults += f"; surplus column {listed(surplus)}"
        raise DataError(f"{faults}; expected {listed(expected)}; {advice}")
    if not surplus:
        return frame
    # stacklevel 3: the warning names the caller of the encoder's `check`.
    warnings.warn(
        f"columns that the model does not know are passed over: {listed(surplus)}", stacklevel=3
    )
    return frame[[name for name in frame if name in allowed]]


def listed(names: Iterable[object]) -> str:
    """Return the first names, for a message, and how many more there are.

    A name that begins or ends with a blank, or is very long, is quoted or cut.
    """
    texts = []
    names = list(names)
    for name in names[:NAMED]:
        text = str(name)
        if len(text) > NAMED_CHARACTERS:
            text = f"{text[:NAMED_CHARACTERS]}…"
        texts.append(text if text == text.strip() else repr(text))
    if len(names) > NAMED:
        texts.append(f"and {len(names) - NAMED} more")
    return ", ".join(texts)


def _similar(missing: Sequence[str], present: Sequence[str]) -> list[str]:
    """`present` for each missing name that is like it in another case or spelling."""
    pairs = []
    by_lower = {str(name).lower(): str(name) for name in present}
    for name in missing[:NAMED]:
        similar = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.8)
        if similar:
            pairs.append(f"`{by_lower[similar[0]]}` for `{name}`")
    return pairs


# --- numbers of rows ----------------------------------------------------------------------------

ROW = "row"  # the name of an index that counts the rows of a caller from 1


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose index tells where they stand, also when rows are left out or sorted.

    Rows of a file have such an index; others get one that counts them.
    """
    if is_from_file(frame):
        return frame
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name=ROW), axis=0)


def is_from_file(rows: pd.DataFrame | pd.Series) -> bool:
    """Return whether the index of rows is that of `read_table`."""
    return list(rows.index.names) == [FILE, LINE]


def first_place(rows: pd.DataFrame | pd.Series, mask: np.ndarray) -> str:
    """Return where the first row stands at which `mask` is true: its line, or its number."""
    position = int(mask.argmax())
    if rows.index.name == ROW:
        return f"row {rows.index[position]}"
    return place(rows, position)


# --- expectations of a kind ---------------------------------------------------------------------


class Finding(NamedTuple):
    """An expectation that every data set of a kind has to meet, and what was observed.

    `unexpected` of `checked` are not as expected; `unit` names what was checked, and `examples` are
    values for a message.
    """

    expectation: str
    kwargs: dict[str, object]
    severity: Literal["critical", "warning", "info"]
    unit: str
    checked: int
    unexpected: int
    examples: list[str]
    why: str
