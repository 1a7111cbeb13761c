"""Input rows: the pictures that somebody asks about."""

import sys
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ....errors import DataError
from ... import archives, arrays, pixels
from ...formats import JSON_LINES, WORKBOOKS, Format, place, read_table
from ..columns import Arrays, Columns, Pixels
from .pictures import counted, listed
from .pixel_tables import table_images
from .squares import is_decodable, to_base64

# A zip with one file of these is a table with paths, pictures in base64, or pixels.
TABLES = (".csv", ".tsv", ".parquet", ".json", *JSON_LINES, *WORKBOOKS)


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
        images = table_images(rows, columns.files, path.name, columns.white)
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
    conf_names = []
    if isinstance(columns.files, Arrays):
        conf_names = [pair.images for pair in [*columns.files.test, *columns.files.train]]
    for name in conf_names:
        if name in names:
            return name
    if len(names) != 1:
        expected = f"one, or one named {' or '.join(conf_names)}" if conf_names else "one"
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
        elif "undecodable" in columns.leave_out and not is_decodable(member.raw, columns):
            undecodable.append(member.path)
        else:
            pictures.append((member.path, member.raw))
    if not pictures:
        remark = f"; it has other files: {counted(aside)}" if aside else ""
        raise DataError(f"{path} has no pictures{remark}; name a folder that has some")
    if aside:
        print(f"{path}: files that are no pictures: {counted(aside)}", file=sys.stderr)
    if undecodable:
        left_out = f"{len(undecodable):,} pictures cannot be decoded: {listed(sorted(undecodable))}"
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
