"""Ids of users and items.

An id is the text that is written. Where all ids of a column are whole numbers in their usual
notation, they are kept as int64, which changes neither the part nor the code of a row.
"""

import re
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import pandas as pd

from ....errors import DataError
from ...levels import matched, text_of
from ...tables import first_place

Ids: TypeAlias = list[int] | list[str]

WHOLE = re.compile(r"0|[1-9][0-9]{0,15}")  # a whole number in its usual notation
# Above this a float64, which JSON and some other files give, cannot hold every whole number: two
# ids could become one.
LARGEST_ID = 2**53 - 1


def ids(column: pd.Series, listed: Iterable[object] | None = None) -> pd.Series:
    """Ids as text; those that mean one of the `listed` ids as it is listed.

    Raises DataError for a missing id, and for a number that is not whole or that a float may have
    rounded.
    """
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"{first_place(column, missing)} has no `{column.name}`; expected an id in each row;"
            " correct the row, or remove it"
        )
    if column.dtype.kind not in "iu" and not isinstance(column.dtype, pd.StringDtype):
        _check_typed_ids(column)
    if listed is not None:
        return matched(column, map(str, listed))
    texts = {value: text_of(value) for value in column.unique()}
    return column.map(texts).astype(object)


def _check_typed_ids(column: pd.Series) -> None:
    """Raise DataError for a float that is no id, and for a truth value."""
    usable = np.array([_is_id(value) for value in column], bool)
    if not usable.all():
        value = column.iloc[int((~usable).argmax())]
        raise DataError(
            f"{first_place(column, ~usable)} has `{column.name}` {value}; expected text, or a whole"
            " number up to 2**53 - 1; correct the row"
        )


def _is_id(value: object) -> bool:
    if isinstance(value, float | np.floating):
        number = float(value)
        return number.is_integer() and abs(number) <= LARGEST_ID
    return not isinstance(value, bool | np.bool_)


def as_ids(texts: Iterable[str]) -> Ids:
    """Ids as whole numbers if all are written as such, otherwise as text."""
    listed = list(texts)
    if all(is_whole(text) for text in listed):
        return [int(text) for text in listed]
    return listed


def is_whole(text: str) -> bool:
    """Whether a text is a whole number in its usual notation that a float64 can hold."""
    return WHOLE.fullmatch(text) is not None and int(text) <= LARGEST_ID


def sorted_ids(texts: Iterable[str]) -> list[str]:
    """Ids in ascending order, those that are whole numbers first."""
    return sorted(texts, key=lambda text: (0, int(text), "") if is_whole(text) else (1, 0, text))


def typed_ids(column: pd.Series, listed: Ids) -> pd.Series:
    """Ids as text in the type of the `listed` ones; an id that is no number stays text."""
    if not listed or isinstance(listed[0], str):
        return column.astype("str")
    texts = {text: int(text) if is_whole(text) else text for text in column.unique()}
    return column.map(texts)
