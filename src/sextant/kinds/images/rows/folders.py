"""Pictures in folders and archives: the class is in the path, in the name, or in CSV files."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ....errors import DataError
from ....files import RECEIPT
from ... import archives, pixels
from ...archives import Member, composed
from ...formats import Format
from ..columns import Columns, Folders
from .labels import LabelTable, label_in, label_tables, listing_table
from .pictures import Picture, listed


def folder_pictures(
    folder: Path, files: Folders, columns: Columns, aside: Counter[str]
) -> list[Picture]:
    """The pictures in folders, by path; counts the other files in `aside`."""
    unordered = archives.members_of_folder(folder, columns.names_encoding, frozenset([RECEIPT]))
    members = sorted(unordered, key=lambda member: (member.path, member.raw or b""))
    keys = _index_keys(members, files)
    tables = label_tables(members, files, columns.target)
    listing = {table.file for table in tables}
    if files.index:
        listing.add(composed(files.index.file))
    places = [*files.train, *files.test]
    classifier = Classifier(files, tables)
    pictures = []
    for member in members:
        if member.path in listing or not _is_candidate(member, files, aside):
            continue
        assert member.raw is not None
        place_and_rest = _place_and_rest(member.path, places)
        if place_and_rest is None and not pixels.is_picture(member.path, member.raw):
            aside["other"] += 1  # of an unknown sort, where no pictures are
            continue
        if place_and_rest is None:
            raise _outside(member.path, files)
        top, rest = place_and_rest
        label = classifier.label(member.path, rest, files)
        if label is None:
            continue
        key = hashlib.sha256(member.raw).hexdigest() if keys is None else keys.get(member.path)
        pictures.append(Picture(member.path, label, top in files.test, key, member.raw))
    classifier.check(members, pictures, places, files)
    if files.index and keys:
        _check_complete(pictures, keys, files.index.file)
    return pictures


def _is_candidate(member: Member, files: Folders, aside: Counter[str]) -> bool:
    """Whether a member may be a picture; one that is known to be none is counted in `aside`."""
    if member.is_folder:
        return False
    if member.raw is None:
        aside["system"] += 1
        return False
    if _place_and_rest(member.path, files.ignored) is not None:
        aside["ignored"] += 1
        return False
    sort = pixels.other_sort(member.path, member.raw)
    if sort is not None:
        aside[sort] += 1
    return sort is None


def _place_and_rest(path: str, places: Iterable[str]) -> tuple[str, str] | None:
    """The folder of `places` that a path is in, the deepest of several, and the path below it."""
    for top in sorted(places, key=len, reverse=True):
        if top == ".":
            continue
        if path.startswith(f"{top}/"):
            return top, path.removeprefix(f"{top}/")
    return (".", path) if "." in places else None


def _outside(path: str, files: Folders) -> DataError:
    places = [*files.train, *files.test]
    by_folder = files.pattern is None and files.labels is None
    inside = "<class>/" if by_folder else ""
    expected = ", ".join(f"{top}/{inside}" for top in places)
    advice = "move it there, or add its folder to `columns.files` in the conf"
    if by_folder and _place_and_rest(path, places) is not None:
        advice = (
            "move it there, or set `columns.files.pattern` in the conf if the class is in the name,"
            " `columns.files.labels` if it is in a CSV"
        )
    return DataError(f"{path} is outside {expected}; {advice}")


class Classifier:
    """Finds the class of each picture: in its path, by a pattern, or in CSV files.

    It collects the pictures without a class, so that a message can count them.
    """

    def __init__(self, files: Folders, tables: "Sequence[LabelTable]"):
        self.pattern = None if files.pattern is None else re.compile(files.pattern)
        self.tables = tables
        self.by_folder = files.pattern is None and files.labels is None
        self.without: list[str] = []

    def label(self, path: str, rest: str, files: Folders) -> str | None:
        """The class of the picture at `path`, which is `rest` below its folder; None: it has none.

        Raises DataError for a picture outside of a folder of a class, where that is the class.
        """
        label = None
        if self.by_folder:
            label, slash, _ = rest.partition("/")
            if not slash:
                raise _outside(path, files)
        elif self.pattern is not None:
            match = self.pattern.search(rest)
            if match:
                label = match["class" if "class" in self.pattern.groupindex else 1]
        else:
            label = label_in(self.tables, path, rest)
        if not label:
            self.without.append(path)
            return None
        return label

    def check(
        self,
        members: Sequence[Member],
        pictures: Sequence[Picture],
        places: Sequence[str],
        files: Folders,
    ) -> None:
        """Raise DataError for pictures without a class, and classes without pictures."""
        if self.without:
            source = f"do not fit `pattern` {files.pattern}"
            if self.pattern is None:
                source = f"are not in {', '.join(table.file for table in self.tables[:3])}"
            raise DataError(
                f"{len(self.without):,} pictures {source}: {listed(self.without)}; correct"
                " `columns.files` in the conf, or name their folder in `ignored`"
            )
        for table in self.tables:
            table.check_used()
        if self.by_folder:
            _check_classes(members, pictures, places, files.ignored)


def _check_classes(
    members: Sequence[Member],
    pictures: Sequence[Picture],
    places: Sequence[str],
    ignored: Sequence[str],
) -> None:
    """Raise DataError for the folder of a class that has no pictures."""
    with_pictures = set()
    for picture in pictures:
        place_and_rest = _place_and_rest(picture.path, places)
        assert place_and_rest is not None
        with_pictures.add((place_and_rest[0], picture.label))
    for member in members:
        if archives.is_system_file(member.path):
            continue
        if _place_and_rest(f"{member.path}/", [*ignored]) is not None:
            continue
        path = f"{member.path}/" if member.is_folder else member.path
        place_and_rest = _place_and_rest(path, places)
        if place_and_rest is None:
            continue
        top, rest = place_and_rest
        label, slash, _ = rest.partition("/")
        holds_places = any(f"{other}/".startswith(path) for other in places)
        if slash and label and not holds_places and (top, label) not in with_pictures:
            raise DataError(
                f"class {label} of {top} has no pictures; add some, remove its folder, or name it"
                " in `ignored`"
            )


def _check_complete(pictures: list[Picture], keys: dict[str, str | None], index_file: str) -> None:
    """Raise DataError if the index lists pictures that do not exist.

    A set that lost the same share of each class would otherwise pass as a small one.
    """
    missing = sorted(keys.keys() - {picture.path for picture in pictures})
    if missing:
        raise DataError(
            f"{index_file} lists {len(missing):,} pictures that do not exist, first {missing[0]};"
            " run `make pull`, or remove them from the index"
        )


def _index_keys(members: Sequence[Member], files: Folders) -> dict[str, str | None] | None:
    """The key of each path in the index, None if the cell is empty; None without an index."""
    if files.index is None:
        return None
    name = files.index.file
    contents = [member.raw for member in members if member.path == composed(name)]
    if not contents or contents[0] is None:
        raise DataError(f"{name}, the index of the pictures, does not exist; run `make pull`")
    index = listing_table(
        name, contents[0], Format(), ["path", files.index.key], "columns.files.index"
    )
    keys: dict[str, str | None] = {}
    for path, key in zip(index["path"], index[files.index.key], strict=True):
        if not pd.isna(path):
            keys[composed(path)] = None if pd.isna(key) else key
    return keys
