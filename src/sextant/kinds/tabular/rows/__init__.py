"""Tables as rows: read, repaired, split into four parts and written."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ...formats import FILE, LINE, Table, place, read_table
from ...levels import texts_of
from ...numbers import numbers_or_faults, to_numbers
from ...parts import PARTS, UNLABELLED, check_labelled_parts, class_labels, statistics
from ...parts import load as load
from ...parts import write as write
from ...splits import SEPARATOR, HashSplit, parts_by_hash
from ...tables import check_columns, data_files, listed
from ..columns import Columns
from .countries import Countries, countries

EMPTY = "empty rows"  # the attribute of raw rows that counts those without content
EXAMPLES = 3  # rows in a message
NAMED = 8  # columns in a line of output
WHOLE = r"[+-]?[0-9]{1,15}"  # a whole number that a float64 holds
# A target of so many different numbers is a number and no class; of a short table, so many are
# enough if they are also this share of the rows.
MANY_NUMBERS = 100
SOME_NUMBERS = 20
NUMBERS_SHARE = 0.3

# --- from raw files to four parts ---------------------------------------------------------------


def read(folder: Path, columns: Columns) -> pd.DataFrame:
    """Return all files of `folder` as one frame in upstream columns; its index is (file, line).

    Cells of a text file are text. Only the empty cell and the marks in `unknown` are missing.
    Raises DataError for an empty or unreadable file, for a missing column, and for a file in
    `test_files` that is not there.
    """
    paths = data_files(folder)
    present = [path.name for path in paths]
    for name in columns.test_files:
        if name not in present:
            raise DataError(
                f"{folder} lacks {name}, which `test_files` names; found {', '.join(present)}"
            )
    tables = [_read_table(path, columns) for path in paths]
    rows = pd.concat([table.rows for table in tables])
    expected = columns.resolved(rows.columns).all
    for path, table in zip(paths, tables, strict=True):
        needed = expected
        if path.name in columns.test_files and columns.target not in table.rows:
            needed = [name for name in expected if name != columns.target]
        check_columns(table.rows, needed, path.name, has_header=columns.names is None)
    rows.attrs[EMPTY] = sum(table.empty for table in tables)
    return rows


def _read_table(path: Path, columns: Columns) -> Table:
    return read_table(path, columns, columns.all)


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Return one file of rows, whatever columns it has: Parquet, JSON records, or delimited text.

    Raises DataError for a file that does not exist, is empty, or is not a table.
    """
    return _read_table(path, columns).rows


def passed_over(raw: pd.DataFrame) -> dict[str, int]:
    """Return what reading left out, by the reason."""
    empty = int(raw.attrs.get(EMPTY, 0))
    return {EMPTY: empty} if empty else {}


def numbers_of(column: pd.Series, name: str, columns: Columns) -> pd.Series:
    """Return a numeric column as float64; truth values that have this type are 1 and 0.

    Raises DataError for the first value that is no finite number, with its place.
    """
    return to_numbers(_without_truths(column), name, columns)


def _without_truths(column: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(column):
        return column.astype("Float64")
    if not pd.api.types.is_object_dtype(column):
        return column
    cells = [float(cell) if isinstance(cell, bool | np.bool_) else cell for cell in column]
    return pd.Series(cells, index=column.index, name=column.name, dtype=object)


def table(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the table that the expectations check.

    Numeric columns and a target that is a number are numbers; one with text in it stays text, so
    that the expectations can report it. The other columns are text as it is written.
    """
    columns = columns.resolved(raw.columns)
    numeric = set(columns.numbers)
    target = columns.target
    if target is not None and target in raw and _is_number(texts_of(raw[target]), columns):
        numeric.add(target)
    checked = {}
    for name in raw.columns:
        column = raw[name]
        if name in numeric:
            numbers, is_wrong = numbers_or_faults(_without_truths(column), columns)
            checked[name] = column if is_wrong.any() else _as_whole(numbers, column)
        else:
            checked[name] = texts_of(column).astype("str")
    return pd.DataFrame(checked, index=raw.index)


def repair(raw: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Return the rows with numeric columns as numbers and every other column as text.

    Columns without a role are dropped; values are never scaled.
    Raises DataError for text or infinity in a numeric column, and for a row without a key, a label,
    or a number that the conf requires.
    """
    columns = columns.resolved(raw.columns)
    names = [name for name in raw.columns if name in columns.all]
    repaired = {}
    for name in names:
        if name in columns.numbers:
            repaired[name] = _as_whole(numbers_of(raw[name], name, columns), raw[name])
            if columns.missing.get(name) == "refuse":
                check_present(
                    repaired[name], name, "a number, since the conf has `missing: refuse`"
                )
        else:
            repaired[name] = texts_of(raw[name])
    rows = pd.DataFrame(repaired, index=raw.index)
    if columns.key is not None:
        check_present(rows[columns.key], columns.key, "a key in every row")
    if columns.target is not None:
        _check_labels(rows, columns.target, is_test(rows, columns))
        if _is_number(rows[columns.target], columns):
            numbers = to_numbers(raw[columns.target], columns.target, columns)
            rows[columns.target] = numbers.astype(np.float64)
    return rows


def _is_number(target: pd.Series, columns: Columns) -> bool:
    """Whether a target as it was read is a number and no class; see `target_type` of Columns."""
    if columns.target_type is not None:
        return columns.target_type == "number"
    present = target.dropna()
    distinct = present.nunique()
    is_some = distinct > SOME_NUMBERS and distinct > NUMBERS_SHARE * len(present)
    if distinct <= MANY_NUMBERS and not is_some:
        return False
    _, is_wrong = numbers_or_faults(present, columns)
    return not is_wrong.any()


def has_number_target(rows: pd.DataFrame, columns: Columns) -> bool:
    """Whether the target of repaired rows is a number, which is a float there; a class is text."""
    if columns.target is None:
        return False
    if columns.target_type is not None:
        return columns.target_type == "number"
    return pd.api.types.is_float_dtype(rows[columns.target])


def check_present(column: pd.Series, name: str, expected: str) -> None:
    """Raise DataError for the first row without a value."""
    is_missing = column.isna().to_numpy()
    if is_missing.any():
        row = int(np.flatnonzero(is_missing)[0])
        raise DataError(
            f"{place(column, row)} has no `{name}`; expected {expected}; correct the row"
        )


def _check_labels(rows: pd.DataFrame, target: str, test: np.ndarray) -> None:
    """Raise DataError for rows without a label, unless they are all the rows of the test files."""
    is_unlabelled = rows[target].isna().to_numpy()
    if is_unlabelled[test].all():
        is_unlabelled = is_unlabelled & ~test
    if is_unlabelled.any():
        first = np.flatnonzero(is_unlabelled)[:EXAMPLES]
        places = ", ".join(place(rows, int(row)) for row in first)
        raise DataError(
            f"{int(is_unlabelled.sum())} rows have no `{target}`, such as {places}; label them, or"
            " remove them from the file"
        )


def is_test(rows: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Return whether each row is of a file that the source reserves for testing."""
    if rows.index.names != [FILE, LINE]:
        return np.zeros(len(rows), bool)
    return np.asarray(rows.index.get_level_values(FILE).isin(columns.test_files))


def _as_whole(numbers: pd.Series, column: pd.Series) -> pd.Series:
    """Numbers as int64 if all of them are written or typed as whole numbers, without a gap."""
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        return numbers.astype(np.int64)
    if isinstance(column.dtype, pd.StringDtype) and column.str.fullmatch(WHOLE).all():
        return numbers.astype(np.int64)
    return numbers


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Return the four parts, by a salted hash of the key, or of the whole row if there is no key.

    The part of a row depends on that row alone, so that it never changes as the table grows. Rows
    of `test_files` are the test part; if they have no labels, they are a fifth part, which is
    answered and not scored.
    """
    part_index = parts_by_hash(_keys(rows, columns), split)
    names = list(PARTS)
    test = is_test(rows, columns)
    if test.any():
        part_index = np.where(test, PARTS.index("test"), part_index)
        if columns.target is not None and rows[columns.target][test].isna().all():
            names.append(UNLABELLED)
            part_index = np.where(test, names.index(UNLABELLED), part_index)
    parts = {}
    for index, part in enumerate(names):
        parts[part] = rows[part_index == index].reset_index(drop=True)
    return parts


def _keys(rows: pd.DataFrame, columns: Columns) -> list[str]:
    names = list(rows.columns)
    if columns.key is not None:
        names = [columns.key]
    keys = []
    for cells in zip(*[texts_of(rows[name]) for name in names], strict=True):
        keys.append(SEPARATOR.join(cell or "" for cell in cells))
    return keys


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a key is in two parts, a part has no row or lacks a class, a numeric
    column has no number in train, or the column `place` has no country.
    """
    train = parts["train"]
    labelled = {part: rows for part, rows in parts.items() if part != UNLABELLED}
    is_number = has_number_target(train, columns)
    check_labelled_parts(
        labelled, columns.key, None if is_number else columns.target, columns.positive
    )
    for name in columns.resolved(train.columns).numeric:
        if train[name].isna().all():
            raise DataError(
                f"`{name}` has no number in the training rows; write it under `ignored` in the"
                " conf, or correct its cells"
            )
    if columns.place_column is not None:
        named = _countries(parts, columns.place_column)
        if not named.names:
            raise DataError(
                f"no row of `{columns.place_column}` names a country; found"
                f" {listed(named.unknown) or 'empty cells'}; correct `place` in the conf, or remove"
                " it"
            )


def remarks(parts: dict[str, pd.DataFrame], columns: Columns) -> list[str]:
    """Return what prepare says of the rows: a line about missing numbers, if there are any, and
    lines about names that are no country's and about countries with several rows.
    """
    columns = columns.resolved(parts["train"].columns)
    return [*_gap_remarks(parts["train"], columns), *_place_remarks(parts, columns)]


def _place_remarks(parts: dict[str, pd.DataFrame], columns: Columns) -> list[str]:
    if columns.place_column is None:
        return []
    named = _countries(parts, columns.place_column)
    lines = []
    if named.unknown:
        lines.append(
            f"names in `{columns.place_column}` that are no country's, which the map of the world"
            f" lacks: {listed(named.unknown)}"
        )
    if named.repeated:
        texts = [" and ".join(dict.fromkeys(names)) for names in named.repeated.values()]
        lines.append(
            f"countries in `{columns.place_column}` with several rows, which the map of the world"
            f" shows where most of them lie: {listed(texts)}"
        )
    return lines


def _countries(parts: dict[str, pd.DataFrame], place_column: str) -> Countries:
    """The countries of all parts; a name says nothing of the values of its row."""
    return countries(pd.concat([rows[place_column] for rows in parts.values()]))


def _gap_remarks(train: pd.DataFrame, columns: Columns) -> list[str]:
    gaps = []
    for name in columns.numeric:
        missing = int(train[name].isna().sum())
        if missing:
            indicator = " with an indicator" if name in columns.indicators else ""
            gaps.append(f"`{name}` ({missing:,}{indicator})")
    if not gaps:
        return []
    more = f" and {len(gaps) - NAMED} more" if len(gaps) > NAMED else ""
    return [
        f"of {len(train):,} training rows, numbers are missing in {', '.join(gaps[:NAMED])}{more};"
        " they become the median of training, and stay empty for a task that draws missing cells"
    ]


# --- drift --------------------------------------------------------------------------------------


def monitored(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, pd.Series]:
    """Return the features of the training rows, and their label, whose drift is looked at."""
    train = parts["train"]
    names = list(columns.resolved(train.columns).features)
    if columns.target is not None and columns.target not in names:
        names.append(columns.target)
    return {name: train[name] for name in names if name in train}


# --- the profile --------------------------------------------------------------------------------


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Return a summary of the training rows as JSON.

    `columns`: range and moments of each numeric column, counts of each level and class;
    `classes`: the labels. Of a table with `place`, `places` has the column, the number of countries
    in all parts, the names that are no country's, and those of each country with several rows.
    """
    train = parts["train"]
    columns = columns.resolved(train.columns)
    summaries: dict[str, dict[str, float] | dict[str, int]] = {}
    is_number = has_number_target(train, columns)
    for name in columns.numeric:
        summaries[name] = statistics(train[name])
    counted = list(columns.categorical)
    if is_number:
        summaries[str(columns.target)] = statistics(train[columns.target])
    elif columns.target is not None:
        counted.append(columns.target)
    for name in counted:
        counts = train[name].value_counts().sort_index()
        summaries[name] = {str(level): int(count) for level, count in counts.items()}
    classes = class_labels(train, None if is_number else columns.target)
    profile: dict[str, object] = {"columns": summaries, "classes": classes}
    if columns.place_column is not None:
        named = _countries(parts, columns.place_column)
        profile["places"] = {
            "column": columns.place_column,
            "countries": len(named.names),
            "unknown": named.unknown,
            "repeated": named.repeated,
        }
    return profile
