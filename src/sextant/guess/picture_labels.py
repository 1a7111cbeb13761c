"""A table beside pictures that lists them with their classes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from ..errors import DataError, UsageError
from . import reading
from .facts import Facts
from .reading import Reading

CLASS = re.compile(
    r"(.*[\W_])?(label|class|target|category|species|breed|diagnosis)", re.IGNORECASE
)
MOST_FILES = 10  # tables that are looked at
MOST_CLASSES = 100
LISTED = 0.95  # of the rows, how many have to name a picture that is there


class Listing(NamedTuple):
    """A table with a row for each picture.

    file: its path. form: its format. path, target: the columns of the picture and of its class.
    classes: the class of each listed picture, by the path of the picture.
    is_named: whether the name of the column, or the caller, says that it has the classes.
    """

    file: str
    form: Mapping[str, object]
    path: str
    target: str
    classes: Mapping[str, str]
    is_named: bool

    @property
    def differs(self) -> bool:
        """Whether a class is not the folder that its picture lies in."""
        for path, label in self.classes.items():
            if PurePosixPath(path).parent.name != label:
                return True
        return False

    def below(self, folder: str) -> Self:
        """The same with paths from the folder above."""
        classes = {f"{folder}/{path}": label for path, label in self.classes.items()}
        return self._replace(file=f"{folder}/{self.file}", classes=classes)


def listing(
    folder: Path, tables: Sequence[str], pictures: Sequence[str], target: str | None
) -> Listing | None:
    """The first of the tables in a folder that lists its pictures; None if none does.

    `pictures` are paths in the folder, and `target` is the column of the class, None: to be found.
    """
    places = written_paths(pictures)
    for file in tables[:MOST_FILES]:
        try:
            table = reading.read(folder / file, {})
        except (UsageError, DataError):  # a text, or another file that is no table
            continue
        columns = _columns(table, places, target)
        if columns is not None:
            path, label = columns
            labels = label.texts.to_dict()
            classes = {}
            for row, text in path.texts.items():
                if text in places and row in labels:
                    classes[places[text]] = str(labels[row])
            is_named = target is not None or CLASS.fullmatch(label.name) is not None
            return Listing(file, table.form, path.name, label.name, classes, is_named)
    return None


def written_paths(pictures: Sequence[str]) -> dict[str, str]:
    """The pictures by what a table may call them: a path or a name, with its suffix or without."""
    places: dict[str, str] = {}
    for picture in pictures:
        path = PurePosixPath(picture)
        for written in (picture, path.with_suffix("").as_posix(), path.name, path.stem):
            places.setdefault(written, picture)
    return places


def _columns(
    table: Reading, places: Mapping[str, str], target: str | None
) -> tuple[Facts, Facts] | None:
    """The columns of the picture and of its class; None if the table has no such two."""
    paths = []
    for column in table.columns:
        if column.is_unique and float(column.texts.isin(list(places)).mean()) >= LISTED:
            paths.append(column)
    if not paths:
        return None
    labels = []
    for column in table.columns:
        is_class = 2 <= column.distinct <= MOST_CLASSES and column.missing == 0 and not column.date
        if column.name == target or (target is None and is_class and column.name != paths[0].name):
            labels.append(column)
    if not labels:
        return None
    named = [column for column in labels if CLASS.fullmatch(column.name)]
    return paths[0], (named or labels)[0]
