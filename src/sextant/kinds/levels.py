"""The identity of categories and keys: which values are the same level.

In a file of text a level is what is written there: `01` and `1` are two. A value that a library has
typed, such as a truth value or a whole number that became a float because its column has a hole,
means the learnt level of that value.
"""

import re
from collections.abc import Hashable, Iterable, Mapping
from datetime import date, datetime
from typing import TypeAlias

import numpy as np
import pandas as pd

from .numbers import PLAIN

Value: TypeAlias = object  # text, a number, a truth value, a day, or a missing value

# How truth values are written; the first is Python's spelling.
TRUTH = {True: ("True", "true", "TRUE"), False: ("False", "false", "FALSE")}
# How a library writes a whole number that it holds as a float.
WHOLE_FLOAT = re.compile(r"-?[0-9]+\.0")


def text_of(value: Value) -> str | None:
    """The level of a value in training, None if it is missing.

    Text is itself without the blanks around it. A whole number that is held as a float has no
    decimals: pandas turns a column of whole numbers into floats where one is missing.
    """
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        return text_of(value.item())
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def texts_of(column: pd.Series) -> pd.Series:
    """A column as levels, object dtype, missing values as None."""
    texts = [text_of(value) for value in column]
    return pd.Series(texts, index=column.index, name=column.name, dtype=object)


class Matcher:
    """Finds the learnt level that a value means.

    `levels` are the learnt ones; None among them, a missing category, is passed over. `guessed`:
    they come from code that let pandas guess the types of a file. Where all of them are numbers,
    the column was read as numbers, and so is a text: `1.50` is the level `1.5`, and `007` is `7`.
    """

    def __init__(self, levels: Iterable[str | None], guessed: bool = False) -> None:
        self.levels = {level for level in levels if level is not None}
        self.reads_numbers = guessed and all(map(_is_guessed_number, self.levels))
        self.by_number: dict[float, list[str]] = {}
        for level in self.levels:
            number = _number_of(level)
            if number is not None:
                self.by_number.setdefault(number, []).append(level)

    def match(self, value: Value) -> str | None:
        """The learnt level of a value, or its text if there is none; None if it is missing.

        A level that is written as the value is comes first. Otherwise it is the level with the same
        value, where exactly one exists: true is 1, false is 0, and 2.0 is 2. Text has a value only
        if a library writes it so, such as True and 2.0; `7` is never `007`.
        """
        if isinstance(value, np.generic):
            value = value.item()
        text = text_of(value)
        if text is None:
            return None
        for spelling in _spellings(value, text):
            if spelling in self.levels:
                return spelling
        number = _number_of(text) if self.reads_numbers else _value_of(value, text)
        levels = [] if number is None else self.by_number.get(number, [])
        return levels[0] if len(levels) == 1 else text


def matched(column: pd.Series, levels: Iterable[str | None], guessed: bool = False) -> pd.Series:
    """A column as learnt levels, object dtype; a value without one as its text, missing as None.

    `guessed` as in Matcher.
    """
    matcher = Matcher(levels, guessed)
    levels_by_value: dict[tuple[type, Value], str | None] = {}
    texts = []
    for value in column:
        if not isinstance(value, Hashable):  # a list in a JSON file
            value = str(value)
        key = (type(value), value)  # 1, 1.0 and True are equal, and are not the same here
        if key not in levels_by_value:
            levels_by_value[key] = matcher.match(value)
        texts.append(levels_by_value[key])
    return pd.Series(texts, index=column.index, name=column.name, dtype=object)


def renamed(levels: Iterable[str | None], values: Iterable[Value]) -> Mapping[str, str]:
    """For the text of each value the learnt level that it means."""
    matcher = Matcher(levels)
    names = {}
    for value in values:
        level = matcher.match(value)
        if level is not None:
            names[str(value)] = level
    return names


def _number_of(level: str) -> float | None:
    """The value of a level that is a number or a truth value."""
    for truth, spellings in TRUTH.items():
        if level in spellings:
            return float(truth)
    return float(level) if re.fullmatch(PLAIN, level) else None


def _is_guessed_number(level: str) -> bool:
    """Whether a level is a number as `text_of` writes one that pandas has read."""
    return re.fullmatch(PLAIN, level) is not None and text_of(float(level)) == level


def _spellings(value: Value, text: str) -> tuple[str, ...]:
    """How a value may be written as a level, the likeliest first."""
    if isinstance(value, bool):
        return TRUTH[value]
    if isinstance(value, float) and value.is_integer():
        return (str(value), text)
    return (text,)


def _value_of(value: Value, text: str) -> float | None:
    """The value of what a library has typed, or has written after it had typed it."""
    if isinstance(value, bool | int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    if text in TRUTH[True] or text in TRUTH[False] or WHOLE_FLOAT.fullmatch(text):
        return _number_of(text)
    return None
