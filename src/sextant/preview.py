"""Compare the first rows of the files at hand with the conf, before anything runs.

A misspelt column or a wrong delimiter is reported by `make check` within a second, and not after
DVC has emptied the outputs of a stage. Files that are not on this machine yet are not looked at.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from . import config, files, paths, pull
from .errors import DataError, UsageError
from .strict import advice

if TYPE_CHECKING:
    import pandas as pd

    from .kinds.formats import Format

HEAD = 2**18  # bytes of a text that are looked at
LARGEST = 2**23  # bytes of another file, which has to be read as a whole
DELIMITERS = (";", "\t", ",", "|")
SHOWN = 40  # characters of a value in a message


class View(NamedTuple):
    """How a file is read: its format, the columns that it must have, and those of numbers."""

    form: "Format"
    expected: Sequence[str]
    numbers: Sequence[str]


def check_files(conf: config.DatasetConf) -> None:
    """Raise UsageError if the first rows of a file at hand do not fit the conf."""
    for path, view in _views(conf):
        rows = _checked_head(conf, path, view)
        if rows is not None:
            view = _without_patterns(conf, rows, view)
            _check_columns(conf, path, rows, view)
            if conf.kind == "series":
                rows = _checked_days(conf, rows)
            _check_numbers(conf, rows, view)


def check_classes(conf: config.DatasetConf, model: str) -> None:
    """Raise UsageError if the target of a classification is an amount, in the files at hand."""
    from .kinds.numbers import numbers_or_faults
    from .kinds.tabular.rows import MANY_NUMBERS, NUMBERS_SHARE, SOME_NUMBERS

    if conf.kind != "tabular" or conf.columns.target_type == "class":
        return
    target = conf.columns.target
    for path, view in _views(conf):
        rows = _head(path, view.form, view.expected)
        if rows is None or target not in rows:
            continue
        present = rows[target].dropna()
        numbers, faults = numbers_or_faults(present, view.form)
        distinct = numbers.nunique()
        is_some = distinct > SOME_NUMBERS and distinct > NUMBERS_SHARE * len(present)
        is_amount = distinct > MANY_NUMBERS or is_some
        if len(present) and not faults.any() and is_amount:
            examples = ", ".join(str(value) for value in present.unique()[:3])
            raise UsageError(
                f"model `{model}`: task classification, but `{target}` of {conf.name} is a number"
                f" with {distinct:,} different values in {len(present):,} rows ({examples}, …);"
                f" write `task: regression` in {paths.PARAMS}, or `target_type: class` in"
                f" {pull.conf_path(conf)}"
            )


# --- files at hand ------------------------------------------------------------------------------


def _views(conf: config.DatasetConf) -> Iterator[tuple[Path, View]]:
    """The files at hand of the chosen source that the conf describes, and how they are read."""
    for entry in pull.chosen_entries(conf):
        path = _at_hand(conf, entry)
        if path is None or not path.is_file():
            continue
        view = _view(conf, entry.file)
        if view is not None:
            yield path, view


def _at_hand(conf: config.DatasetConf, entry: pull.Entry) -> Path | None:
    """Where a file lies on this machine: at its source, or as it was pulled from there."""
    is_local = isinstance(entry, pull.Local)
    if isinstance(entry, pull.Mirror):
        base = Path(os.environ.get("SEXTANT_MIRROR", ""))
        is_local = base.is_absolute() and base.is_dir()
    if is_local and not entry.member:
        return Path(pull.locate(entry))
    receipt = paths.raw(conf.name) / files.RECEIPT
    if receipt.is_file() and files.read_json(receipt)["source"] == conf.chosen_source:
        return paths.raw(conf.name) / entry.file
    return None


def _view(conf: config.DatasetConf, file: str) -> View | None:
    """How a file of a data set is read; None for what is no table."""
    columns = conf.columns
    if conf.kind == "tabular":
        expected = columns.all
        if file in columns.test_files:  # which may lack the labels
            expected = [name for name in expected if name != columns.target]
        return View(columns, expected, columns.numeric)
    if conf.kind == "series":
        return View(columns, [*columns.upstream, *columns.only], columns.numbers)
    if conf.kind != "ratings":
        return None
    if file in (*columns.files, *columns.test_files) and columns.ratings.layout == "rows":
        return View(columns.ratings.as_written, columns.needed, [columns.rating])
    if file == columns.items_file:
        return View(columns.items.as_written, [columns.item, columns.title], [])
    if file == columns.users_file:
        return View(columns.users.as_written, [columns.user], [])
    return None


# --- their first rows ---------------------------------------------------------------------------


def _checked_head(conf: config.DatasetConf, path: Path, view: View) -> "pd.DataFrame | None":
    """The first rows; raises UsageError for a file that is not in its format."""
    _check_delimiter(conf, path, view)
    try:
        return _head(path, view.form, view.expected)
    except DataError as error:
        raise UsageError(f"{pull.conf_path(conf)} columns: {error}") from None


def _head(path: Path, form: "Format", expected: Sequence[str]) -> "pd.DataFrame | None":
    """The first rows of a file, None if it is too large to be looked at.

    Raises DataError for a file that is not in its format.
    """
    from .guess.reading import is_text_name
    from .kinds import formats

    if not is_text_name(path.name) or _is_packed(path):
        if path.stat().st_size > LARGEST:
            return None
        return formats.read_table(path, form, expected).rows
    if path.stat().st_size <= HEAD:
        return formats.read_table(path, form, expected).rows
    with TemporaryDirectory() as folder, path.open("rb") as stream:
        text = stream.read(HEAD).decode(form.encoding, errors="ignore")
        head = Path(folder) / path.name
        head.write_bytes(text[: text.rfind("\n") + 1].encode(form.encoding))
        try:
            return formats.read_table(head, form.model_copy(update={"footer": 0}), expected).rows
        except DataError:
            # The cut may lie inside of a cell in quotation marks; validate reads the whole file.
            return None


def _is_packed(path: Path) -> bool:
    from .kinds import formats

    return path.suffix.lower() in (*formats.COMPRESSED, ".zip")


def _check_delimiter(conf: config.DatasetConf, path: Path, view: View) -> None:
    """Raise UsageError if the first line has no delimiter of the conf, and another one."""
    from .guess.reading import is_text_name
    from .kinds import formats

    form = view.form
    if not is_text_name(path.name) or form.delimiter == formats.BLANKS:
        return
    if len(view.expected) < 2 or _is_packed(path):
        return
    with path.open("rb") as stream:
        text = stream.read(HEAD).decode(form.encoding, errors="ignore")
    lines = text.splitlines()[form.skip :]
    if form.comment is not None:
        lines = [line for line in lines if not line.startswith(form.comment)]
    first = next((line for line in lines if line.strip()), "")
    if form.delimiter in first:
        return
    for other in DELIMITERS:
        if other in first:
            raise UsageError(
                f"{pull.conf_path(conf)} columns: with delimiter {form.delimiter!r},"
                f" {path.name} has one column; its first line has {other!r}: set `delimiter:"
                f" {_yaml(other)}`"
            )


def _yaml(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


# --- their columns and numbers ------------------------------------------------------------------


def _without_patterns(conf: config.DatasetConf, rows: "pd.DataFrame", view: View) -> View:
    """How a table is read, with the names that the patterns for columns stand for.

    Raises UsageError for a pattern that no column fits.
    """
    if conf.kind != "tabular":
        return view
    try:
        columns = conf.columns.resolved(rows.columns)
    except DataError as error:
        raise UsageError(f"{pull.conf_path(conf)} columns: {error}") from None
    optional = set(conf.columns.all) - set(view.expected)
    return View(columns, [name for name in columns.all if name not in optional], columns.numeric)


def _check_columns(conf: config.DatasetConf, path: Path, rows: "pd.DataFrame", view: View) -> None:
    present = [str(name) for name in rows.columns]
    for name in view.expected:
        if name not in present:
            columns_in_quotes = [repr(column) if " " in column else column for column in present]
            hint = advice(name, present)
            if hint.startswith("expected"):
                hint = f"it has: {', '.join(columns_in_quotes)}"
            raise UsageError(
                f"{pull.conf_path(conf)} columns: {path.name} has no column `{name}`; {hint}"
            )


def _checked_days(conf: config.DatasetConf, rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of the series that the conf chooses.

    Raises UsageError for the first day that is not as the conf says. Days come before numbers,
    because their message knows the further header rows that some providers write.
    """
    from .kinds.levels import texts_of
    from .kinds.series.rows import checked_days

    columns = conf.columns
    for name, value in columns.only.items():
        rows = rows[texts_of(rows[name]) == value]
    try:
        checked_days(rows[columns.date], columns, iso=False)
    except DataError as error:
        raise UsageError(f"{pull.conf_path(conf)} columns: {error}") from None
    return rows


def _check_numbers(conf: config.DatasetConf, rows: "pd.DataFrame", view: View) -> None:
    """Raise UsageError for the first text in a column of numbers, with the key to set."""
    from .guess import numbers as marks
    from .kinds.formats import place
    from .kinds.numbers import number_pattern, numbers_or_faults, parse

    for name in view.numbers:
        _, faults = numbers_or_faults(rows[name], view.form)
        if not faults.any():
            continue
        row = int(faults.nonzero()[0][0])
        value = rows[name].iloc[row]
        repair = "correct it, or move the column to `categorical` or `ignored`"
        if conf.kind != "tabular":
            repair = "correct it, or name another column"
        if str(value) in marks.MARKS:
            repair = f"add {str(value)!r} to `unknown` if it marks a missing value"
        for form in marks.FORMS:
            fits = isinstance(value, str) and parse(value, form, number_pattern(form)) is not None
            if fits and form.thousands == view.form.thousands:
                repair = f'set `decimal: "{form.decimal}"`'
                break
            if fits:
                repair = f'set `decimal: "{form.decimal}"` and `thousands: "{form.thousands}"`'
                break
        raise UsageError(
            f"{pull.conf_path(conf)} columns: {place(rows, row)} has {str(value)[:SHOWN]!r} in"
            f" `{name}`; expected a number; {repair}"
        )
