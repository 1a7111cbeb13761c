"""Classes of pictures in CSV files."""

import fnmatch
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from ....errors import DataError
from ...archives import Member, composed
from ...formats import Format, place, read_table
from ...levels import text_of
from ..columns import Folders, Labels
from .pictures import listed


class LabelTable:
    """A CSV with the classes of pictures.

    folder: where its paths begin; only: whether it lists pictures of this folder alone.
    """

    def __init__(self, file: str, folder: str, only: bool) -> None:
        self.file = file
        self.folder = folder
        self.only = only
        self.label_of: dict[str, str] = {}
        self.used: set[str] = set()

    def add(self, path: str, label: str, where: str) -> None:
        """Add a row; raises DataError for a path that has another class already."""
        other = self.label_of.setdefault(path, label)
        if other != label:
            raise DataError(
                f"{where} gives {path} the class {label}, another line {other}; correct one of them"
            )

    def find(self, path: str, rest: str) -> str | None:
        """The class of the picture at `path`, which is `rest` below its folder of `columns.files`.

        The table may name it below its own folder, below that of the pictures, or by its whole
        path, each with its suffix or not.
        """
        names = [] if self.only else [rest, path]
        if self.folder == ".":
            names.insert(0, path)
        elif path.startswith(f"{self.folder}/"):
            names.insert(0, path.removeprefix(f"{self.folder}/"))
        for name in names:
            for candidate in (name, str(PurePosixPath(name).with_suffix(""))):
                if candidate in self.label_of:
                    self.used.add(candidate)
                    return self.label_of[candidate]
        return None

    def check_used(self) -> None:
        """Raise DataError if the table lists pictures that do not exist."""
        missing = [path for path in self.label_of if path not in self.used]
        if missing:
            raise DataError(
                f"{self.file} lists {len(missing):,} pictures that do not exist:"
                f" {listed(missing)}; add them, remove the rows, or correct `columns.files` in the"
                " conf"
            )


def label_tables(members: Sequence[Member], files: Folders, target: str) -> list[LabelTable]:
    """The CSV files of `labels`; raises DataError if one is missing or has no class in a row."""
    tables = []
    for block in files.labels or []:
        for pattern in block.file:
            chosen = [member for member in members if fnmatch.fnmatchcase(member.path, pattern)]
            if not chosen:
                raise DataError(
                    f"{pattern}, with the classes of the pictures, does not exist; run `make pull`,"
                    " or correct `columns.files.labels` in the conf"
                )
            for member in chosen:
                assert member.raw is not None
                tables.append(_label_table(member.path, member.raw, block, target))
    return tables


def _label_table(file: str, content: bytes, block: Labels, target: str) -> LabelTable:
    rows = listing_table(file, content, block, [block.path, target], "columns.files.labels")
    folder = block.folder or PurePosixPath(file).parent.as_posix()
    table = LabelTable(file, folder, block.folder is not None)
    for position, (path, label) in enumerate(zip(rows[block.path], rows[target], strict=True)):
        where = place(rows, position)
        path_text, label_text = text_of(path), text_of(label)
        if path_text is None or label_text is None:
            empty = block.path if path_text is None else target
            raise DataError(f"{where} has no `{empty}`; expected a path and a class; correct it")
        table.add(composed(path_text), label_text, where)
    return table


def label_in(tables: Sequence[LabelTable], path: str, rest: str) -> str | None:
    """The class of a picture; raises DataError if two CSV files disagree."""
    labels = {}
    for table in tables:
        label = table.find(path, rest)
        if label is not None:
            labels[label] = table.file
    if len(labels) > 1:
        answers = ", ".join(f"{label} in {file}" for label, file in labels.items())
        raise DataError(
            f"{path} has several classes: {answers}; set `folder` of each of"
            " `columns.files.labels` in the conf"
        )
    return next(iter(labels), None)


def listing_table(
    name: str, content: bytes, form: Format, expected: Sequence[str], key: str
) -> pd.DataFrame:
    """The rows of a table that was read already; raises DataError if a column is missing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PurePosixPath(name).name
        path.write_bytes(content)
        rows = read_table(path, form, expected).rows
    for column in expected:
        if column not in rows:
            raise DataError(
                f"{name} lacks column {column}; found {', '.join(map(str, rows))}; correct it, or"
                f" change `{key}` in the conf"
            )
    return rows
