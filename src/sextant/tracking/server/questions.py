"""The rows of a request as columns: read here where that is simple, and by MLflow otherwise.

MLflow's parser and its checks take some milliseconds for one row. So requests are read here whose
cells have the types of the signature already; whatever else a request has (CSV, options, surplus
columns, text in place of a number) is left to MLflow, with its rules and its messages.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import pandas as pd

from .champions import Champion, Interface

if TYPE_CHECKING:
    from ... import contracts

Cell: TypeAlias = str | int | float | bool | None
ROWS_TOGETHER = 256  # the rows of requests that are answered together, at most
INT64 = 2**63  # whole numbers from here on are not int64
SIMPLE = ("double", "string")  # types of columns that are read here


@dataclass(frozen=True, eq=False)
class Question:
    """Rows for one champion, as columns of cells in the order of its signature."""

    champion: Champion
    columns: Mapping[str, Sequence[Cell]]
    rows: int
    params: "Mapping[str, contracts.Option]"
    # The same rows as MLflow has read them, if it has.
    table: pd.DataFrame | None = field(default=None, repr=False)

    def frame(self) -> pd.DataFrame:
        """The rows as the model takes them."""
        if self.table is not None:
            return self.table
        return frame_of(self.columns, self.champion.interface.types)

    def alike(self) -> tuple[object, ...] | None:
        """Questions with the same value can be answered together; None: this one only alone.

        The type of a column depends on all of its cells: 1 and null are read as 1.0 and null. So
        only columns of one type are put together, which have the same type then. Reasons take many
        further rows, for which other requests need not wait.
        """
        is_long = self.rows > ROWS_TOGETHER or self.params.get("explain")
        if not self.champion.answers_together or is_long:
            return None
        types: list[object] = []
        for name, cells in self.columns.items():
            if self.champion.interface.types[name] == "double":
                types.append(name)
                continue
            distinct = {type(cell) for cell in cells}
            if len(distinct) != 1 or distinct <= {float, type(None)}:
                return None
            types.append((name, *distinct))
        return (id(self.champion), *sorted(self.params.items()), *types)


def frame_of(columns: Mapping[str, Sequence[Cell]], types: Mapping[str, str]) -> pd.DataFrame:
    """Columns of cells as a table: `double` as float64, NaN for null, and others as they are."""
    arrays = {}
    for name, cells in columns.items():
        if types[name] == "double":
            numbers = [math.nan if cell is None else cell for cell in cells]
            arrays[name] = np.array(numbers, np.float64)
        else:
            arrays[name] = np.empty(len(cells), object)
            arrays[name][:] = cells
    return pd.DataFrame(arrays)


def together(questions: Sequence[Question]) -> pd.DataFrame:
    """The rows of questions that are alike, as one table."""
    columns: dict[str, list[Cell]] = {name: [] for name in questions[0].columns}
    for question in questions:
        for name, cells in question.columns.items():
            columns[name] += cells
    return frame_of(columns, questions[0].champion.interface.types)


# --- requests that are read here ----------------------------------------------------------------


def quick(content: Mapping[str, Any], champion: Champion) -> Question | None:
    """The question in parsed JSON if it can be read here; None: let MLflow read it."""
    if len(content) != 1:
        return None
    columns = None
    if "dataframe_records" in content:
        columns = _of_records(content["dataframe_records"])
    elif "dataframe_split" in content:
        columns = _of_split(content["dataframe_split"])
    if not columns:
        return None
    ordered = _checked(columns, champion.interface)
    if not ordered:
        return None
    rows = len(next(iter(ordered.values())))
    return Question(champion, ordered, rows, champion.interface.options)


def _of_records(records: object) -> dict[str, list[Cell]] | None:
    """The columns of a list of objects with the same keys."""
    if not isinstance(records, list) or not records or not isinstance(records[0], dict):
        return None
    columns: dict[str, list[Cell]] = {name: [] for name in records[0]}
    for record in records:
        if not isinstance(record, dict) or record.keys() != columns.keys():
            return None
        for name, cell in record.items():
            columns[name].append(cell)
    return columns


def _of_split(table: object) -> dict[str, list[Cell]] | None:
    """The columns of an object with `columns` and `data`, and no index."""
    if not isinstance(table, dict) or table.keys() != {"columns", "data"}:
        return None
    names = table["columns"]
    rows = table["data"]
    if not isinstance(names, list) or not isinstance(rows, list) or not rows:
        return None
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    for row in rows:
        if not isinstance(row, list) or len(row) != len(names):
            return None
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _checked(
    columns: Mapping[str, list[Cell]], interface: Interface
) -> dict[str, list[Cell]] | None:
    """The columns in the order of the signature; None if some are missing, surplus or not plain."""
    present = columns.keys()
    if not interface.required <= present or not present <= interface.types.keys():
        return None
    ordered = {}
    for name, kind in interface.types.items():
        if name in columns:
            if not _is_plain(columns[name], kind):
                return None
            ordered[name] = columns[name]
    return ordered


def _is_plain(cells: Sequence[Cell], kind: str) -> bool:
    """Whether MLflow would take the cells as they are, as pandas reads them."""
    types = {type(cell) for cell in cells}
    if kind == "double":
        return types <= {int, float, type(None)} and _fit_int64(cells, types)
    if kind != "string" or len(types) != 1:
        return False
    if types == {str}:
        return all(_is_text(cast(str, cell)) for cell in cells)
    return types <= {int, float, bool, type(None)} and _fit_int64(cells, types)


def _fit_int64(cells: Sequence[Cell], types: set[type]) -> bool:
    if int not in types:
        return True
    return all(not isinstance(cell, int) or -INT64 <= cell < INT64 for cell in cells)


def _is_text(text: str) -> bool:
    """Whether a string is text, and not half of a surrogate pair."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


# --- answers ------------------------------------------------------------------------------------


def records_of(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """Answers as a list of objects, as `to_dict(orient="records")` gives them."""
    names = [str(name) for name in answers]
    columns = [answers.iloc[:, place].tolist() for place in range(len(names))]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def as_json(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as MLflow writes them, with null for what is no JSON number."""
    return finite(json.dumps(records, default=_plain_value))


def _plain_value(value: object) -> object:
    """What json cannot write: NumPy's numbers, and times."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def finite(answers: str) -> str:
    """JSON without NaN and Infinity, which are no JSON: null stands for them."""
    if "NaN" not in answers and "Infinity" not in answers:
        return answers
    return json.dumps(json.loads(answers, parse_constant=lambda _: None))
