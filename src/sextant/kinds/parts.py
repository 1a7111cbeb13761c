"""The four parts of a prepared data set: their files, which rows are scored, and checks of
labelled parts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import DataError
from ..files import readable

if TYPE_CHECKING:
    import pandas as pd  # config.py imports this module, and starts without pandas

# train fits the weights, val makes every choice, gate decides about champions, test is reported.
PARTS = ("train", "val", "gate", "test")
# The rows of a source's own test files if they have no labels: they are answered and not scored.
UNLABELLED = "unlabelled"

# The column that marks history rows: model input only, excluded from metrics.
CONTEXT = "context"

EXAMPLES = 3  # classes in a message
AMOUNTS = 20  # so many numbers are hardly classes
NUMBER = r"[+-]?[0-9]*[.,]?[0-9]+"

Label: TypeAlias = bool | int | float | str


def write(rows: "pd.DataFrame", path: Path) -> None:
    """Write a part to `path`.parquet; the bytes depend on the rows alone."""
    rows.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> "pd.DataFrame":
    """Return a part that `write` wrote."""
    import pandas as pd

    file = path.with_suffix(".parquet")
    with readable(file):
        return pd.read_parquet(file)


def statistics(numbers: "pd.Series") -> dict[str, float]:
    """Range and moments of a column of numbers, for profile.json."""
    values = {
        "min": numbers.min(),
        "median": numbers.median(),
        "mean": numbers.mean(),
        "max": numbers.max(),
        "std": numbers.std(),
    }
    # The last digits of a float64 differ between processors; profile.json should not.
    return {name: round(float(value), 9) for name, value in values.items()}


def scored(part: "pd.DataFrame") -> "pd.DataFrame":
    """Return a part without its history rows."""
    if CONTEXT not in part:
        return part
    return part[~part[CONTEXT]]


def first_row(mask: Iterable[bool]) -> int:
    """Return the number of the first row where `mask` is true, counted from 1."""
    return [bool(value) for value in mask].index(True) + 1


def class_labels(rows: "pd.DataFrame", target: str | None) -> list[Label]:
    """Return the classes in column `target`, sorted; none if there is no target."""
    if target is None:
        return []
    return sorted(rows[target].unique().tolist())


def positive_class(classes: Sequence[Label], positive: Label | None) -> Label | None:
    """The class that `columns.positive` of a conf means, None without one.

    A number in conf means the class of the same text. Raises DataError if it is no class.
    """
    if positive is None:
        return None
    for label in classes:
        if str(label) == str(positive):
            return label
    advice = "; put it in quotation marks" if isinstance(positive, bool) else ""
    raise DataError(
        f"`columns.positive` is {positive!r}; expected a class: {_first(list(map(str, classes)))}"
        f"{advice}"
    )


def check_labelled_parts(
    parts: "Mapping[str, pd.DataFrame]",
    key: str | None,
    target: str | None,
    positive: Label | None = None,
) -> None:
    """Raise DataError if a key is in two parts, or a part has no row or lacks a class.

    `key` is None if a row has none; such rows are split by their whole content, so equal ones
    share a part. `target` is None if rows have no label. `positive`, the class whose probability
    is answered, must be one of the classes.
    """
    if key is not None:
        _check_keys(parts, key)
    if target is not None:
        _check_classes(parts, target)
        positive_class(class_labels(parts["train"], target), positive)
        return
    for part, rows in parts.items():
        if rows.empty:
            raise DataError(f"part {part} has no row; add rows, or change `split` in the conf")


def _check_keys(parts: "Mapping[str, pd.DataFrame]", key: str) -> None:
    part_of_key: dict[object, str] = {}
    for part, rows in parts.items():
        for value in rows[key].unique().tolist():
            first_part = part_of_key.setdefault(value, part)
            if first_part != part:
                raise DataError(
                    f"key {value} is in the parts {first_part} and {part}; expected each key in one"
                    " part only; remove the duplicate row"
                )


def _check_classes(parts: "Mapping[str, pd.DataFrame]", target: str) -> None:
    classes: set[object] = set()
    for rows in parts.values():
        classes |= set(rows[target])
    for part, rows in parts.items():
        missing = sorted(map(str, classes - set(rows[target])))
        if missing:
            advice = f"add rows of it, or change `split` in the conf{_amount_hint(classes, target)}"
            raise DataError(
                f"part {part} ({len(rows)} rows) has no row of class {_first(missing)} of"
                f" `{target}`; {advice}"
            )
    if len(classes) < 2:
        values = ", ".join(map(str, classes)) or "nothing"
        raise DataError(
            f"`{target}` is {values} in every row; expected two classes; add rows of another class"
        )


def _first(names: Sequence[str]) -> str:
    """The first names, for a message, and how many more there are."""
    text = ", ".join(names[:EXAMPLES])
    more = len(names) - EXAMPLES
    return f"{text} and {more} more" if more > 0 else text


def _amount_hint(classes: Iterable[object], target: str) -> str:
    """What to do if the many classes of a target are numbers."""
    names = sorted(map(str, classes))
    if len(names) < AMOUNTS or not all(re.fullmatch(NUMBER, name) for name in names):
        return ""
    return (
        f"; the {len(names)} classes are numbers, such as {', '.join(names[:EXAMPLES])}: if"
        f" `{target}` is an amount, choose task regression"
    )
