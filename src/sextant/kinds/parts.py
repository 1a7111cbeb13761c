"""The four parts of a prepared data set, and which of their rows are scored."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import pandas as pd  # config.py imports this module, and starts without pandas

PARTS = ("train", "val", "gate", "test")
CONTEXT = "context"  # marks history rows: model input only, excluded from metrics


def scored(part: "pd.DataFrame") -> "pd.DataFrame":
    """A part without its history rows."""
    if CONTEXT not in part:
        return part
    return part[~part[CONTEXT]]


def first_row(mask: Iterable[bool]) -> int:
    """The number of the first row where `mask` is true, counted from 1."""
    return [bool(value) for value in mask].index(True) + 1


def check_labelled_parts(
    parts: "Mapping[str, pd.DataFrame]", key: str | None, target: str | None
) -> None:
    """Raise DataError where a key lies in two parts, or a part has no row or lacks a class."""
    part_of_key: dict[object, str] = {}
    for part, rows in parts.items():
        if rows.empty and target is None:
            raise DataError(f"part {part} has no row; add rows, or change `split` in the conf")
        for value in set(rows[key]) if key else ():
            if part_of_key.setdefault(value, part) != part:
                raise DataError(
                    f"key {value} lies in {part_of_key[value]} and in {part}; a key may stand in one"
                    " part only: remove the duplicate"
                )
    if target is not None:
        _check_classes(parts, target)


def _check_classes(parts: "Mapping[str, pd.DataFrame]", target: str) -> None:
    classes: set[object] = set()
    for rows in parts.values():
        classes |= set(rows[target])
    for part, rows in parts.items():
        missing = sorted(map(str, classes - set(rows[target])))
        if missing:
            raise DataError(
                f"part {part} ({len(rows)} rows) has no row of class {', '.join(missing)} of"
                f" `{target}`; add rows of it, or change `split` in the conf"
            )
    if len(classes) < 2:
        values = ", ".join(map(str, classes)) or "nothing"
        raise DataError(
            f"`{target}` is {values} in every row; expected two classes; add rows of another class"
        )
