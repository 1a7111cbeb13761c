"""Pictures as rows: read, decoded to squares, split into four parts and written.

A picture is cut to its largest centred square and scaled to `size` pixels, in training and when it
is answered, so the aspect ratio is kept.
"""

import base64
import fnmatch
import hashlib
import io
import math
import re
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from ...errors import DataError
from ...files import RECEIPT
from ...terminal import progress
from .. import archives, arrays, pixels
from ..archives import Member, composed
from ..formats import JSON_LINES, WORKBOOKS, Format, place, read_table
from ..levels import text_of
from ..numbers import to_numbers
from ..parts import PARTS, Label, check_labelled_parts, class_labels
from ..splits import HashSplit, parts_by_hash
from ..tables import Finding
from .columns import ArrayPair, Arrays, Columns, Folders, Idx, Labels, Pixels

NAMED_BY = "path"  # the column that names a picture in messages
# By column of the table, what a data set's conf can do about an expectation that failed.
ADVICE = {"decodable": "set `columns.leave_out: undecodable` in the conf"}
LISTED = 10  # paths that a message lists

# Two pictures look alike if their 64-bit fingerprints differ in at most so many bits. Of the 10,000
# real pets, 3 gives seven pairs, all of them true; 4 adds false ones.
MAX_DIFFERENT_BITS = 3
PAIRS_AT_ONCE = 2**20  # fingerprints are compared in chunks, which bounds the memory
# A picture is plain if no two of its pixels differ by more levels: those of noise and of JPEG.
PLAIN_LEVELS = 16
MOST = (
    0.9  # a set in which a larger share of the pictures is plain, or alike, cannot be learnt from
)

# A zip with one file of these is a table with paths, pictures in base64, or pixels.
TABLES = (".csv", ".tsv", ".parquet", ".json", *JSON_LINES, *WORKBOOKS)

# The content of a picture: the bytes of its file; uint8 (height, width[, channels]) from an array.
Content: TypeAlias = bytes | np.ndarray


class Picture(NamedTuple):
    """One row of `Raw.pictures`."""

    path: str
    label: Label
    test: bool  # whether the source reserves it for testing
    key: str | None  # None: the index does not list it
    raw: Content


class Raw(NamedTuple):
    """The pictures of a folder.

    pictures: one row each: `path`, the class, `test`, `key` and `raw`.
    left_out: by rule of `leave_out`, the paths of the pictures that it leaves out.
    aside: by sort, the number of files that are no pictures.
    """

    pictures: pd.DataFrame
    left_out: dict[str, list[str]]
    aside: dict[str, int]


# --- read ---------------------------------------------------------------------------------------


def read(folder: Path, columns: Columns) -> Raw:
    """Return one row a picture: `path`, the class, `test`, `key` and `raw`; by path from folders.

    `raw` is the file's bytes, or from arrays and tables uint8 (height, width[, channels]). Nothing
    is decoded yet, unless undecodable pictures are to be left out.
    Raises DataError for a file that is missing, cannot be opened, or has a path outside its folder.
    """
    files = columns.files
    aside: Counter[str] = Counter()
    if isinstance(files, Idx):
        pictures = _idx_pictures(folder, files)
    elif isinstance(files, Arrays):
        pictures = _array_pictures(folder, files, columns.white)
    elif isinstance(files, Pixels):
        pictures = _table_pictures(folder, files, columns)
    else:
        pictures = _folder_pictures(folder, files, columns, aside)
    if not pictures:
        others = ""
        if aside:
            others = f" ({_counted(aside)} in it)"
        raise DataError(
            f"{folder} has no pictures in the folders of `columns.files`{others}; run `make pull`,"
            " or correct `columns.files` in the conf"
        )
    left_out = {}
    if "undecodable" in columns.leave_out:
        left_out["undecodable"] = _undecodable(pictures, columns)
    if "repeated" in columns.leave_out:
        left_out["repeated"] = _repeated(pictures)
    paths = set().union(*left_out.values())
    remaining = [picture for picture in pictures if picture.path not in paths]
    names = ["path", columns.target, "test", "key", "raw"]
    return Raw(pd.DataFrame(remaining, columns=names), left_out, dict(aside))


def passed_over(raw: Raw) -> dict[str, object]:
    """Return what reading left out, as JSON: paths by rule of conf, the numbers of other files."""
    counts: dict[str, object] = {rule: paths for rule, paths in raw.left_out.items() if paths}
    if raw.aside:
        counts["no pictures"] = raw.aside
    return counts


def _counted(aside: Mapping[str, int]) -> str:
    """Numbers of files by sort for a message, such as `2 system, 1 text`."""
    return ", ".join(f"{count:,} {sort}" for sort, count in sorted(aside.items()))


def _undecodable(pictures: Sequence[Picture], columns: Columns) -> list[str]:
    """The paths of the pictures that cannot be decoded; raises DataError for too many of them."""
    paths = []
    for picture in progress(pictures, "decoding", "pictures"):
        if not _is_decodable(picture.raw, columns):
            paths.append(picture.path)
    if len(paths) > columns.undecodable_share * len(pictures):
        raise DataError(
            f"{len(paths):,} of {len(pictures):,} pictures cannot be decoded: {_listed(paths)};"
            f" expected a share of at most {columns.undecodable_share:g}; pull them again, or"
            " change `undecodable_share` in the conf"
        )
    return paths


def _is_decodable(raw: Content, columns: Columns) -> bool:
    try:
        pixels.decoded(raw, columns.channels, columns.ground, columns.white)
    except ValueError:
        return False
    return True


def _repeated(pictures: Sequence[Picture]) -> list[str]:
    """The paths of the pictures for training that are also among those for testing."""
    test_keys = {picture.key for picture in pictures if picture.test} - {None}
    return [picture.path for picture in pictures if not picture.test and picture.key in test_keys]


def _listed(paths: Sequence[str]) -> str:
    """Paths for a message, the first LISTED of them."""
    text = ", ".join(paths[:LISTED])
    return f"{text}, …" if len(paths) > LISTED else text


# --- read: folders and archives -----------------------------------------------------------------


def _folder_pictures(
    folder: Path, files: Folders, columns: Columns, aside: Counter[str]
) -> list[Picture]:
    """The pictures in folders, by path; counts the other files in `aside`."""
    found = archives.members_of_folder(folder, columns.names_encoding, frozenset([RECEIPT]))
    members = sorted(found, key=lambda member: (member.path, member.raw or b""))
    keys = _index_keys(members, files)
    tables = _label_tables(members, files, columns.target)
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
            label = _label_in(self.tables, path, rest)
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
                f"{len(self.without):,} pictures {source}: {_listed(self.without)}; correct"
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
    index = _table(name, contents[0], Format(), ["path", files.index.key], "columns.files.index")
    keys: dict[str, str | None] = {}
    for path, key in zip(index["path"], index[files.index.key], strict=True):
        if not pd.isna(path):
            keys[composed(path)] = None if pd.isna(key) else key
    return keys


def _table(
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


# --- read: classes in CSV files -----------------------------------------------------------------


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
                f" {_listed(missing)}; add them, remove the rows, or correct `columns.files` in the"
                " conf"
            )


def _label_tables(members: Sequence[Member], files: Folders, target: str) -> list[LabelTable]:
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
    rows = _table(file, content, block, [block.path, target], "columns.files.labels")
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


def _label_in(tables: Sequence[LabelTable], path: str, rest: str) -> str | None:
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


# --- read: arrays -------------------------------------------------------------------------------


def _array_pictures(folder: Path, files: Arrays, white: float | None) -> list[Picture]:
    pictures = []
    for test, pairs in ((False, files.train), (True, files.test)):
        for pair in pairs:
            images_name = pair.images
            labels_name = pair.labels
            if pair.file is not None:
                images_name = f"{pair.file}/{images_name}"
                labels_name = f"{pair.file}/{labels_name}"
            images = arrays.as_pictures(
                arrays.read_numpy(folder, pair.file, pair.images), images_name, white
            )
            labels = arrays.read_numpy(folder, pair.file, pair.labels)
            pictures += _paired(images_name, images, labels_name, _array_labels(labels, pair), test)
    return pictures


def _paired(
    images_name: str, images: np.ndarray, labels_name: str, labels: Sequence[Label], test: bool
) -> list[Picture]:
    """Pictures with the sha256 of their pixels as keys; raises DataError for unequal numbers."""
    if len(images) != len(labels):
        raise DataError(
            f"{images_name} has {len(images):,} pictures, but {labels_name} has"
            f" {len(labels):,} labels; expected one label a picture; name the two of one set in"
            " `columns.files`"
        )
    pictures = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        key = hashlib.sha256(image.tobytes()).hexdigest()
        pictures.append(Picture(f"{images_name}/{i}", label, test, key, image))
    return pictures


def _array_labels(labels: np.ndarray, pair: ArrayPair) -> list[Label]:
    """The labels as text; raises DataError for an array that has not one for each picture."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{pair.labels} has the shape {labels.shape}; expected one label a picture; correct"
            " `columns.files` in the conf"
        )
    texts: list[Label] = []
    for i, label in enumerate(labels.tolist()):
        text = text_of(label.decode("utf-8", "replace") if isinstance(label, bytes) else label)
        if text is None:
            raise DataError(f"{pair.labels}/{i} is missing; expected a label; correct it")
        texts.append(text)
    return texts


# --- read: tables of pixels ---------------------------------------------------------------------


def _table_pictures(folder: Path, files: Pixels, columns: Columns) -> list[Picture]:
    pictures = []
    for test, names in ((False, files.train), (True, files.test)):
        for name in names:
            path = folder / name
            rows = _plain_rows(path, files)
            if rows is None:
                rows = read_table(path, files, [columns.target, files.pixels]).rows
            if columns.target not in rows:
                raise DataError(
                    f"{name} lacks column {columns.target}; found {_listed(list(map(str, rows)))};"
                    " correct `target` in the conf"
                )
            labels: list[Label] = []
            for position, value in enumerate(rows[columns.target]):
                text = text_of(value)
                if text is None:
                    where = place(rows, position)
                    raise DataError(f"{where} has no `{columns.target}`; correct it")
                labels.append(text)
            images = _table_images(rows, files, name, columns.white)
            pictures += _paired(name, images, name, labels, test)
    return pictures


def _plain_rows(path: Path, files: Pixels) -> pd.DataFrame | None:
    """The rows of a text file in which each pixel is a plain number, and nothing is missing.

    None if there is anything else in it, which `read_table` reads, or refuses by its line. MNIST as
    CSV, 47 million cells, takes a twentieth of the time and of the memory here.
    """
    form = files.model_dump(include=set(Format.model_fields))
    is_text = path.suffix.lower() in (".csv", ".tsv", ".txt") and len(files.delimiter) == 1
    if not is_text or form != Format(delimiter=files.delimiter).model_dump():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            line = stream.readline().strip()
        header = [name.strip().strip('"').strip() for name in line.split(files.delimiter)]
        is_pixel = [fnmatch.fnmatchcase(name, files.pixels) for name in header]
        dtypes = {}
        for name, is_number in zip(header, is_pixel, strict=True):
            dtypes[name] = np.float32 if is_number else str
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pandas cuts rows that are too long, with a warning
            rows = pd.read_csv(
                path,
                sep=files.delimiter,
                header=None,
                names=header,
                skiprows=1,
                index_col=False,
                dtype=dtypes,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except (ValueError, OSError, Warning):
        return None
    texts = rows.loc[:, [not is_number for is_number in is_pixel]]
    numbers = rows.loc[:, is_pixel]
    has_gaps = texts.isna().any(axis=None) or not np.isfinite(numbers.to_numpy()).all()
    if has_gaps or rows.empty or not any(is_pixel):
        return None
    for column in texts:
        if texts[column].str.contains('^\\s*$|[\n\r"]').any():
            return None
        rows[column] = texts[column].str.strip()
    return rows


def _table_images(rows: pd.DataFrame, files: Pixels, name: str, white: float | None) -> np.ndarray:
    """The pictures of a table as uint8 (rows, height, width[, channels])."""
    names = _pixel_names(rows, files)
    shape = _pixel_shape(len(names), files, name)
    values = np.empty((len(rows), len(names)), np.float32)
    with np.errstate(over="ignore"):  # what exceeds a float32 is refused as infinite
        for i, column in enumerate(names):
            values[:, i] = _numbers(rows[column], column, files)
    if (values == np.rint(values)).all() and np.abs(values).max(initial=0) < 2**31:
        values = values.astype(np.int32)  # whole numbers do not end at 1
    array = values.reshape(len(rows), *shape)
    if len(shape) == 3:
        array = arrays.channels_last(array, name)
    return arrays.as_8_bits(array, name, white)


def _numbers(column: pd.Series, name: str, files: Pixels) -> np.ndarray:
    """A column of pixels; raises DataError for a cell that is no finite number."""
    if files.decimal == "." and files.thousands is None:
        # A hundred times as fast, for columns of plain numbers, as nearly all are.
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
        if np.isfinite(numbers).all():
            return numbers
    numbers = to_numbers(column, name, files).to_numpy(float)
    if np.isnan(numbers).any():
        where = place(column, int(np.flatnonzero(np.isnan(numbers))[0]))
        raise DataError(f"{where} has no `{name}`; expected a pixel; correct it")
    return numbers


def _pixel_names(rows: pd.DataFrame, files: Pixels) -> list[str]:
    """The columns of the pixels in their order."""
    names = [str(name) for name in rows if fnmatch.fnmatchcase(str(name), files.pixels)]
    if not names:
        raise DataError(
            f"no column is like {files.pixels}; found {_listed(list(map(str, rows)))}; correct"
            " `columns.files.pixels` in the conf"
        )
    numbers = [re.search(r"\d+$", name) for name in names]
    if all(numbers):
        order = np.argsort([int(match[0]) for match in numbers if match], kind="stable")
        names = [names[i] for i in order]
    return names


def _pixel_shape(number: int, files: Pixels, name: str) -> list[int]:
    shape = files.shape
    if shape is None:
        shape = [math.isqrt(number)] * 2
    if math.prod(shape) != number:
        raise DataError(
            f"{name} has {number:,} columns like {files.pixels}; expected"
            f" {' x '.join(map(str, shape))}; set `columns.files.shape` in the conf"
        )
    return shape


# --- read: IDX files ----------------------------------------------------------------------------


def _idx_pictures(folder: Path, files: Idx) -> list[Picture]:
    pictures = []
    for test, pairs in ((False, files.train), (True, files.test)):
        for pair in pairs:
            images = arrays.read_idx(folder / pair.images, (3, 4))
            numbers = arrays.read_idx(folder / pair.labels, (1,)).tolist()
            labels = [str(number) for number in numbers]
            pictures += _paired(pair.images, images, pair.labels, labels, test)
    return pictures


# --- decode -------------------------------------------------------------------------------------


def square(raw: Content, columns: Columns, name: str) -> np.ndarray:
    """Return the largest centred square of a picture, scaled: uint8 (size, size, channels).

    Raises DataError, beginning with `name`, for a picture that cannot be decoded or is too small.
    """
    try:
        image, _ = pixels.decoded(raw, columns.channels, columns.ground, columns.white)
    except ValueError as error:
        raise Undecodable(
            f"{name} cannot be decoded as a picture ({error}); replace it, or remove it"
        ) from None
    width, height = image.size
    short = min(width, height)
    if short < columns.smallest:
        raise DataError(
            f"{name} is {width} x {height} pixels; expected at least {columns.smallest} on the"
            " short side; replace it, or remove it"
        )
    left = (width - short) / 2
    top = (height - short) / 2
    scaled = image.resize(
        (columns.size, columns.size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + short, top + short),
    )
    return np.asarray(scaled).reshape(columns.size, columns.size, columns.channels)


class Undecodable(DataError):
    """A picture that cannot be decoded."""


def png(image: np.ndarray) -> bytes:
    """Return an image as a PNG file, which decodes to the same pixels."""
    file = io.BytesIO()
    is_grey = image.shape[2:] == (1,)
    Image.fromarray(image[..., 0] if is_grey else image).save(file, "PNG")
    return file.getvalue()


# --- the table of the expectations --------------------------------------------------------------


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Return the facts of each picture: size, whether it decodes, digest, and fingerprint.

    `dhash` is a 64-bit fingerprint (Krawetz 2013): whether each of 8 x 8 grey pixels is darker than
    its right neighbour, as hexadecimal. `lookalike`: whether another picture's fingerprint differs
    in at most MAX_DIFFERENT_BITS bits; `alike`: the share of the other pictures whose does.
    `plain`: whether the picture is of one colour, up to PLAIN_LEVELS of 255 levels.
    """
    pictures = raw.pictures
    contents = progress(pictures["raw"].tolist(), "checking", "pictures")
    facts = pd.DataFrame([_facts(content, columns) for content in contents], index=pictures.index)
    similar = _similar_pictures(facts["dhash"])
    facts["lookalike"] = similar > 0
    others = max(1, int(facts["dhash"].notna().sum()) - 1)
    facts["alike"] = np.where(facts["dhash"].notna(), similar / others, np.nan)
    return pd.concat([pictures.drop(columns="raw"), facts], axis=1)[columns.all]


def findings(raw: Raw, columns: Columns, table: pd.DataFrame) -> list[Finding]:
    """Expectations of every set: not all pictures are of one colour, and not all are alike."""
    return [
        _finding(
            table,
            table["plain"].eq(True),
            "expect_pictures_to_show_something",
            "nearly all pictures are of one colour: they were written or converted wrongly, or"
            " `white` in the conf is not the value that is white",
        ),
        _finding(
            table,
            table["alike"] > MOST,
            "expect_pictures_to_differ",
            "nearly all pictures are alike: they are copies of one, or empty",
        ),
    ]


def _finding(table: pd.DataFrame, is_unusual: pd.Series, expectation: str, why: str) -> Finding:
    """The expectation that at most the share MOST of the pictures is unusual."""
    is_met = is_unusual.mean() <= MOST
    return Finding(
        expectation=expectation,
        kwargs={"mostly": round(1 - MOST, 6)},
        severity="critical",
        unit="pictures",
        checked=len(table),
        unexpected=0 if is_met else int(is_unusual.sum()),
        examples=table["path"][is_unusual].tolist(),
        why=why,
    )


def _facts(raw: Content, columns: Columns) -> dict[str, bool | int | str | None]:
    content = raw.tobytes() if isinstance(raw, np.ndarray) else raw
    facts: dict[str, bool | int | str | None] = {
        "width": None,
        "height": None,
        "channels": None,
        "decodable": False,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "dhash": None,
        "plain": None,
    }
    try:
        image, bands = pixels.decoded(raw, columns.channels, columns.ground, columns.white)
    except ValueError:
        return facts
    facts["width"], facts["height"] = image.size
    facts["channels"] = bands
    facts["decodable"] = True
    facts["dhash"] = _dhash(image)
    facts["plain"] = _is_plain(image)
    return facts


def _dhash(image: Image.Image) -> str:
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    is_brighter = grey[:, 1:] > grey[:, :-1]
    return np.packbits(is_brighter).tobytes().hex()


def _is_plain(image: Image.Image) -> bool:
    extremes = np.array(image.getextrema()).reshape(-1, 2)  # the lowest and highest by channel
    return bool((extremes[:, 1] - extremes[:, 0] <= PLAIN_LEVELS).all())


def _similar_pictures(dhash: pd.Series) -> np.ndarray:
    """The number of other fingerprints that are near, shape (rows,) int; 0 if there is none."""
    is_present = dhash.notna().to_numpy()
    fingerprints = np.array([int(digits, 16) for digits in dhash[is_present]], np.uint64)
    number_of_chunks = max(1, len(fingerprints) ** 2 // PAIRS_AT_ONCE)
    near = []
    for chunk in np.array_split(fingerprints, number_of_chunks):
        different_bits = np.bitwise_count(chunk[:, None] ^ fingerprints)
        # Each fingerprint is near itself.
        near.append((different_bits <= MAX_DIFFERENT_BITS).sum(1) - 1)
    similar = np.zeros(len(dhash), np.int64)
    similar[is_present] = np.concatenate(near)
    return similar


# --- four parts ---------------------------------------------------------------------------------


def repair(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Return the rows of `read` with a column `image`, uint8 (size, size, channels).

    Raises DataError for pictures that do not decode, are too small, or are not in the index.
    """
    pictures = raw.pictures
    unlisted = pictures["path"][pictures["key"].isna()]
    if len(unlisted):
        raise DataError(
            f"{len(unlisted)} pictures, first {unlisted.iloc[0]}, are not in the index; add them"
        )
    images = np.empty((len(pictures), columns.size, columns.size, columns.channels), np.uint8)
    contents = progress(pictures["raw"].tolist(), "decoding", "pictures")
    faults: list[DataError] = []
    paths: list[str] = []
    for i, (content, path) in enumerate(zip(contents, pictures["path"], strict=True)):
        try:
            images[i] = square(content, columns, path)
        except DataError as error:
            faults.append(error)
            paths.append(path)
    if faults:
        raise _unusable(faults, paths)
    return pictures.assign(image=list(images))


def _unusable(faults: Sequence[DataError], paths: Sequence[str]) -> DataError:
    """One message for all pictures that cannot be used."""
    message = str(faults[0])
    if isinstance(faults[0], Undecodable):
        message += ", or set `columns.leave_out: undecodable` in the conf"
    if len(faults) > 1:
        message += f"; {len(faults):,} pictures cannot be used: {_listed(paths)}"
    return DataError(message)


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Return the four parts: test is what the source reserves for testing, the rest is split by a
    salted hash of the key.

    Rows are sorted by key, which mixes the classes. The rows of the gate keep the files, because a
    champion answers these, whatever size of square it was trained on.
    """
    rows = rows.sort_values(["key", "path"], ignore_index=True)
    part_index = parts_by_hash(rows["key"], split)
    part_index = np.where(rows["test"], PARTS.index("test"), part_index)
    parts = {}
    for index, part in enumerate(PARTS):
        parts[part] = rows[part_index == index].reset_index(drop=True)
        if part != "gate":
            parts[part] = parts[part].drop(columns="raw")
    return parts


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a picture is in two parts, or a part has no picture of some class."""
    _check_repeated(pd.concat([rows[["path", "test", "key"]] for rows in parts.values()]))
    check_labelled_parts(parts, columns.key, columns.target, columns.positive)


def _check_repeated(rows: pd.DataFrame) -> None:
    """Raise DataError if a picture is both among those for training and those for testing."""
    test_rows = rows[rows["test"]]
    path_of = dict(zip(test_rows["key"], test_rows["path"], strict=True))
    repeated = rows[~rows["test"].astype(bool) & rows["key"].isin(path_of)].sort_values("path")
    if repeated.empty:
        return
    path, key = repeated["path"].iloc[0], repeated["key"].iloc[0]
    number = "" if len(repeated) == 1 else f" (as are {len(repeated):,} of the training pictures)"
    raise DataError(
        f"{path}, for training, and {path_of[key]}, for testing, are the same picture{number};"
        " remove one of them, or set `columns.leave_out: repeated` in the conf, which leaves it out"
        " of training"
    )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part: the images to `path`.npy, the rest to `path`.parquet.

    A .npy file can be mapped into memory, so that a large set need not fit.
    """
    np.save(path.with_suffix(".npy"), np.stack(rows["image"].tolist()))
    facts = rows.drop(columns="image")
    if "raw" in facts:
        facts["raw"] = [_file_of(raw) for raw in facts["raw"]]
    facts.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Return a part that `write` wrote; an image is read from the disk when it is used."""
    images = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return pd.read_parquet(path.with_suffix(".parquet")).assign(image=list(np.asarray(images)))


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Return a summary of the training pictures as JSON: counts by class, and their colours.

    `mean` and `std` are by channel, in 0..1; `classes` are the labels.
    """
    train = parts["train"]
    counts = train[columns.target].value_counts().sort_index()
    mean, std = channel_statistics(train, columns)
    image = {"size": columns.size, "channels": columns.channels, "mean": mean, "std": std}
    return {
        "columns": {
            columns.target: {str(label): int(count) for label, count in counts.items()},
            "image": image,
        },
        "classes": class_labels(train, columns.target),
    }


def channel_statistics(rows: pd.DataFrame, columns: Columns) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, in 0..1, to six digits.

    Pixels are counted by level, in whole numbers, so the order of the pictures cannot change a
    digit.
    """
    counts = np.zeros((columns.channels, 256), np.int64)
    for image in rows["image"]:
        for channel in range(columns.channels):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    std = np.where(std > 1e-3, std, 1)  # a channel of one level is only centred
    return [round(float(x), 6) for x in mean], [round(float(x), 6) for x in std]


# --- input rows ---------------------------------------------------------------------------------


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Return input rows: a folder, an archive, one picture, a file in the format of the training
    files, or a table with `path` or base64 in `image`.

    The frame has `path` and, where files were read, their contents as `image`. A path in a table is
    relative to the folder of the table.
    Raises DataError for a file that does not exist or cannot be read.
    """
    if path.is_dir() or (archives.is_archive(path) and not _is_zipped_table(path)):
        return _read_folder(path, columns)
    if path.is_file():
        with path.open("rb") as stream:
            start = stream.read(pixels.TEXT_BYTES)
        if path.suffix.lower() in (".npy", ".npz"):
            return _read_arrays(path, columns)
        if arrays.is_idx(path):
            return _frame(path.name, arrays.read_idx(path, (3, 4)))
        if pixels.is_picture(path.name, start):
            return pd.DataFrame({"path": [path.name], "image": [read_picture(path)]})
    form = columns.files if isinstance(columns.files, Pixels) else Format()
    rows = read_table(path, form, ["path", "image"]).rows
    if isinstance(columns.files, Pixels) and not {"path", "image"} & set(rows):
        images = _table_images(rows, columns.files, path.name, columns.white)
        return _frame(path.name, images)
    if "path" in rows and "image" not in rows:
        contents = []
        for position, name in enumerate(rows["path"]):
            where = place(rows, position)
            if pd.isna(name):
                raise DataError(f"{where} has no `path`; name a picture's file")
            contents.append(read_picture(path.parent / str(name), f"{where}: "))
        rows["image"] = contents
    return rows


def _is_zipped_table(path: Path) -> bool:
    """Whether an archive is a zip with one file, which is a table by its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [member.filename for member in archive.infolist() if not member.is_dir()]
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # a tar; of a damaged zip the reader of pictures says so
    names = [file for file in files if not archives.is_system_file(file)]
    return len(names) == 1 and PurePosixPath(names[0]).suffix.lower() in TABLES


def _frame(name: str, images: np.ndarray) -> pd.DataFrame:
    """Input rows of pictures in an array, named by their number from 0, as in training."""
    paths = [f"{name}/{i}" for i in range(len(images))]
    return pd.DataFrame({"path": paths, "image": pd.Series(list(images), dtype=object)})


def _read_arrays(path: Path, columns: Columns) -> pd.DataFrame:
    """The pictures of a .npy file, or of a .npz file: the only one, or one named as in training."""
    if path.suffix.lower() == ".npy":
        name = path.name
        array = arrays.read_numpy(path.parent, None, name)
    else:
        chosen = _images_name(path, columns)
        name = f"{path.name}/{chosen}"
        array = arrays.read_numpy(path.parent, path.name, chosen)
    return _frame(name, arrays.as_pictures(array, name, columns.white))


def _images_name(path: Path, columns: Columns) -> str:
    """The array of a .npz file that has the pictures."""
    names = arrays.names_of(path)
    known = []
    if isinstance(columns.files, Arrays):
        known = [pair.images for pair in [*columns.files.test, *columns.files.train]]
    for name in known:
        if name in names:
            return name
    if len(names) != 1:
        expected = f"one, or one named {' or '.join(known)}" if known else "one"
        raise DataError(
            f"{path.name} has the arrays {', '.join(names) or 'none'}; expected {expected}; save"
            " the pictures alone"
        )
    return names[0]


def _read_folder(path: Path, columns: Columns) -> pd.DataFrame:
    if path.is_dir():
        members = archives.members_of_folder(path, columns.names_encoding)
    else:
        members = archives.members_of_archive(path, columns.names_encoding)
    pictures = []
    undecodable = []
    aside: Counter[str] = Counter()
    for member in members:
        if member.is_folder:
            continue
        if member.raw is None:
            aside["system"] += 1
            continue
        sort = pixels.other_sort(member.path, member.raw)
        if sort is not None:
            aside[sort] += 1
        elif "undecodable" in columns.leave_out and not _is_decodable(member.raw, columns):
            undecodable.append(member.path)
        else:
            pictures.append((member.path, member.raw))
    if not pictures:
        others = f"; it has other files: {_counted(aside)}" if aside else ""
        raise DataError(f"{path} has no pictures{others}; name a folder that has some")
    if aside:
        print(f"{path}: files that are no pictures: {_counted(aside)}", file=sys.stderr)
    if undecodable:
        left_out = (
            f"{len(undecodable):,} pictures cannot be decoded: {_listed(sorted(undecodable))}"
        )
        print(f"{path}: {left_out}; they are not answered", file=sys.stderr)
    return pd.DataFrame(sorted(pictures), columns=["path", "image"])


def read_picture(path: Path, where: str = "") -> bytes:
    """Return the bytes of a picture's file; raise DataError, beginning with `where`, if it cannot
    be read."""
    if not path.exists():
        path = Path(str(path).replace("\\", "/"))  # from a table that was written on Windows
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}{path} cannot be read ({error.strerror}); name a picture that exists"
        ) from None


def write_inputs(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of a part as input of any champion: `image` in base64."""
    pd.DataFrame({"image": to_base64(rows)}).to_parquet(path, index=False)


def to_base64(rows: pd.DataFrame) -> list[str]:
    """Return each picture's file in base64; a prepared square as PNG if there is no file."""
    contents = rows["raw"] if "raw" in rows else rows["image"]
    return [base64.b64encode(_file_of(content)).decode() for content in contents]


def _file_of(content: Content) -> bytes:
    return png(content) if isinstance(content, np.ndarray) else content
