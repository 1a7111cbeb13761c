"""From a path and what the caller has decided to the confs of a data set and a model."""

import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from .. import pull
from ..errors import DataError, UsageError
from ..kinds import archives, formats
from ..kinds.series.columns import UNIX
from ..kinds.series.rows import iso_day
from . import (
    clips,
    clips_conf,
    confs,
    dates,
    encoding,
    picture_arrays,
    picture_labels,
    pictures,
    pictures_conf,
    pixel_tables,
    ratings,
    ratings_conf,
    reading,
    roles,
    series,
    series_conf,
    tables,
    texts,
    texts_conf,
)
from .facts import Facts, facts
from .reading import Reading
from .result import Result

NAME = re.compile(r"[^a-z0-9]+")
LONGEST_NAME = 40


def name_of(path: Path) -> str:
    """A name for a data set: `loans` for Loans 2023.csv, without what names may not have."""
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    name = NAME.sub("_", stem.lower()).strip("_")[:LONGEST_NAME].strip("_")
    return name if name[:1].isalpha() else f"data_{name}".strip("_")


def pinned_path(path: Path) -> str:
    """A path as the conf has it: relative to the repository if it lies below, else absolute."""
    absolute = Path(path).absolute()
    root = Path.cwd()
    if absolute.is_relative_to(root) and absolute != root:
        return absolute.relative_to(root).as_posix()
    return absolute.as_posix()


def pinned(path: Path, file: str | None = None, member: str = "") -> confs.Pinned:
    """The entry of a file or folder as it is now."""
    pin = pull.pin_of(path)
    return confs.Pinned(file or path.name, pinned_path(path), pin["bytes"], pin["sha256"], member)


def build(path: Path, name: str, options: Mapping[str, str], form: Mapping[str, object]) -> Result:
    """The confs of what lies at `path`.

    `options` are what the caller has decided, and `form` the keys of formats.Format among them.
    Raises UsageError or DataError for what cannot be understood.
    """
    kind = options.get("kind")
    if kind == "text" or options.get("task") == "writing":
        return _of_text(path, name, options)
    # An option of a table says that it is one; a text has an encoding alone.
    is_open = not {"kind", "task", "target"} & options.keys() and form.keys() <= {"encoding"}
    if is_open and texts.are_texts(path):
        return _of_text(path, name, options)
    is_archive = not path.is_dir() and _is_archive(path)
    table_files: list[str] = []
    if path.is_dir() or is_archive:
        films = clips.clip_paths(path)
        if films.files and (kind == "clips" or (kind is None and clips.has_clips(films))):
            return _of_clips(path, name, options, films)
        if kind == "clips":
            raise UsageError(f"{path} has no clips: no folder of frames, no GIF and no film")
        paths, read = pictures.members(path)
        table_files = _tables_in(path)
        is_of_pictures = kind == "images" or (kind is None and len(paths) >= len(table_files))
        if paths and is_of_pictures:
            return _of_pictures(path, name, options, paths, read, table_files)
    if kind in (None, "images") and not is_archive:
        stored = picture_arrays.picture_arrays(path, options)
        if stored is not None:
            return _of_arrays(path, name, options, stored)
    if path.is_dir() or is_archive:
        if kind == "images":
            raise UsageError(f"{path} has no pictures; expected <class>/<picture>")
        if not table_files:
            raise UsageError(f"{path} has neither pictures nor files of rows; name a file")
        if len(table_files) > 1 or path.is_dir():
            return _of_tables(path, table_files, name, options, form)
    if kind in (None, "images") and options.get("task") in (None, "classification"):
        table = pixel_tables.pixel_table(path, form, options.get("target"))
        if table is not None:
            target = str(table.label)
            return pictures_conf.result(name, path.name, table, target, [pinned(path)])
    if kind == "images":
        raise UsageError(f"{path} is no folder, archive or table of pictures")
    return _of_rows([path], [pinned(path)], name, options, form)


def _is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name; a file named .zip has to be one."""
    if path.suffix.lower() == ".zip":
        return zipfile.is_zipfile(path)
    return archives.is_archive(path)


# --- text ---------------------------------------------------------------------------------------


def _of_text(path: Path, name: str, options: Mapping[str, str]) -> Result:
    guess = texts.texts(path, options.get("encoding"))
    return texts_conf.result(name, path.name, guess, [pinned(path)])


# --- pictures -----------------------------------------------------------------------------------


def _of_pictures(
    path: Path,
    name: str,
    options: Mapping[str, str],
    paths: Sequence[str],
    read: pictures.Reader,
    table_files: Sequence[str],
) -> Result:
    file = path.name
    listing = None
    if path.is_dir():  # pull copies the folder with its name
        listing = picture_labels.listing(path, table_files, paths, options.get("target"))
        if listing is not None:
            listing = listing.below(file)
        paths = [f"{file}/{inner}" for inner in paths]
        below = read
        prefix = f"{file}/"

        def read(names: Collection[str]) -> Iterator[bytes]:
            return below([inner.removeprefix(prefix) for inner in names])

    else:
        _refuse_listing_in_archive(path, paths, table_files, options.get("target"))
    size = int(options["size"]) if "size" in options else None
    guess = pictures.pictures(paths, read, size, listing)
    target = options.get("target", "label") if guess.listing is None else guess.listing.target
    if "leave_out" in options:
        guess.leaves_out = True
        guess.doubts.append("some pictures cannot be decoded: left out")
    return pictures_conf.result(name, file, guess, target, [pinned(path)])


def _refuse_listing_in_archive(
    path: Path, paths: Sequence[str], table_files: Sequence[str], target: str | None
) -> None:
    """Raise UsageError for a zip in which a table says the classes: it is read beside files only.

    Without it the classes would be taken from folders and names, or be missing.
    """
    import tempfile

    if not table_files or not zipfile.is_zipfile(path):
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        names = {}
        for number, inner in enumerate(table_files[: picture_labels.MOST_FILES]):
            name = f"{number}{Path(inner).suffix}"
            names[name] = inner
            (Path(folder) / name).write_bytes(archive.read(inner))
        listing = picture_labels.listing(Path(folder), list(names), paths, target)
    if listing is not None and pictures.is_needed(paths, listing):
        raise UsageError(
            f"{path}: `{listing.target}` of {names[listing.file]} says the classes of the pictures,"
            " and a table inside of an archive is not read; unpack it, and name the folder: FILE=…"
        )


def _of_arrays(
    path: Path, name: str, options: Mapping[str, str], guess: pictures.Pictures
) -> Result:
    entries = [pinned(path)]
    if path.is_dir():
        entries = [pinned(path / file) for file in guess.files]
    target = options.get("target", "label")
    if target == guess.label:
        target = Path(target).stem
    return pictures_conf.result(name, path.name, guess, target, entries)


# --- clips --------------------------------------------------------------------------------------


def _of_clips(path: Path, name: str, options: Mapping[str, str], paths: clips.Paths) -> Result:
    prefix = f"{path.name}/" if path.is_dir() else ""  # pull copies the folder with its name
    guess = clips.clips(paths, options, prefix)
    target = options.get("target", "label")
    return clips_conf.result(name, path.name, guess, target, [pinned(path)])


# --- folders of tables --------------------------------------------------------------------------


def _tables_in(path: Path) -> list[str]:
    """The files of rows in a folder, or in a zip, by their paths there.

    These are all but pictures, hidden files, and those that systems add.
    """
    if path.is_dir():
        names = [file.name for file in sorted(path.iterdir()) if file.is_file()]
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
    else:
        return []
    return [name for name in names if not _is_other(name)]


def _is_other(name: str) -> bool:
    return archives.is_system_file(name) or pictures.is_picture(name)


def _of_tables(
    path: Path,
    names: Sequence[str],
    name: str,
    options: Mapping[str, str],
    form: Mapping[str, object],
) -> Result:
    """Ratings with their lists, or files of rows with the same columns."""
    named = [inner for inner in names if ratings.is_ratings_file(Path(inner).name)]
    kind = options.get("kind")
    if named and kind in (None, "ratings"):
        return _of_ratings(path, named[0], names, name, options, form)
    if not path.is_dir():
        raise UsageError(
            f"{path} contains {len(names)} files; unpack it, and name one of them or their folder"
        )
    files = [path / inner for inner in names if _is_rows(path / inner)]
    if not files:
        raise UsageError(f"{path} has no file of rows; name a file")
    return _of_rows(files, [pinned(file) for file in files], name, options, form)


def _is_rows(path: Path) -> bool:
    if not reading.is_text_name(path.name):
        return True
    with path.open("rb") as stream:
        head = stream.read(8000)
    compressed = path.suffix.lower() in formats.COMPRESSED
    return compressed or (bool(head) and encoding.is_text(head))


def _of_ratings(
    path: Path,
    main: str,
    names: Sequence[str],
    name: str,
    options: Mapping[str, str],
    form: Mapping[str, object],
) -> Result:
    """Ratings in one file, with the files of items and users beside it."""
    main_reading = _member(path, main, form)
    column_roles = ratings.roles(main_reading, options)
    if column_roles is None:
        listed = ", ".join(column.name for column in main_reading.columns)
        raise UsageError(
            f"{main} has {listed}; which are user, item and rating? name them with USER=… ITEM=…"
            " RATING=…"
        )
    lists = []
    for inner in names:
        file = Path(inner).name
        is_list = ratings.ITEMS_FILE.fullmatch(file) or ratings.USERS_FILE.fullmatch(file)
        if inner != main and is_list:
            try:
                lists.append(_member(path, inner, {}))
            except (UsageError, DataError):
                continue  # a file that merely has such a name
    result = ratings.ratings(main_reading, column_roles, lists, options)
    used = {result.ratings.file}
    used |= {other.file for other in (result.items, result.users) if other is not None}
    entries = []
    for inner in names:
        file = Path(inner).name
        if file in used and path.is_dir():
            entries.append(pinned(path / inner))
        elif file in used:
            entries.append(pinned(path, file, inner))
    task = options.get("task", "likes")
    return ratings_conf.result(name, path.name, result, task, entries)


def _member(path: Path, inner: str, form: Mapping[str, object]) -> Reading:
    """A file in a folder or in a zip."""
    if path.is_dir():
        return reading.read(path / inner, form)
    import tempfile

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        file = Path(folder) / Path(inner).name
        file.write_bytes(archive.read(inner))
        return reading.read(file, form)


# --- rows: ratings, a series or a table ---------------------------------------------------------


def _of_rows(
    files: Sequence[Path],
    entries: Sequence[confs.Pinned],
    name: str,
    options: Mapping[str, str],
    form: Mapping[str, object],
) -> Result:
    first = reading.read(files[0], form)
    kind = options.get("kind")
    task = options.get("task")
    column_roles = ratings.roles(first, options)
    if kind == "ratings" or (
        kind is None and column_roles and len(files) == 1 and task in (None, "likes", "stars")
    ):
        if column_roles is None:
            raise UsageError(
                f"{files[0].name}: which columns are user, item and rating? name them with USER=…"
                " ITEM=… RATING=…"
            )
        result = ratings_conf.result(
            name,
            first.file,
            ratings.ratings(first, column_roles, [], options),
            task or "likes",
            entries,
        )
        return _with_head(result, first, files, first.rows)
    rows, columns = _all_rows(first, files)
    target = options.get("target")
    is_series = kind == "series" or task == "forecasting"
    if kind is None and task is None:
        is_series = series.looks_like_series(columns, target)
    if is_series:
        result = _of_series(rows, columns, first, name, options, entries)
    else:
        result = _of_table(rows, columns, first, name, options, entries)
    return _with_head(result, first, files, rows)


def _all_rows(first: Reading, files: Sequence[Path]) -> tuple[pd.DataFrame, list[Facts]]:
    """The rows of all files, which have the same columns, and the facts of their columns."""
    if len(files) == 1:
        return first.rows, first.columns
    tables_of = [first.rows]
    for path in files[1:]:
        try:
            rows = formats.read_table(path, first.format, list(first.rows.columns)).rows
        except DataError as error:
            raise UsageError(
                f"{path.name} is not written as {files[0].name} ({error}); name one of them, or a"
                " folder in which all files are alike"
            ) from None
        if list(rows.columns) != list(first.rows.columns):
            raise UsageError(
                f"{path.name} has other columns than {files[0].name}; name one of them, or a folder"
                " in which all files have the same"
            )
        tables_of.append(rows)
    rows = pd.concat(tables_of)
    return rows, facts(rows, first.format)


def _with_head(result: Result, first: Reading, files: Sequence[Path], rows: pd.DataFrame) -> Result:
    """The result with a first line on the file, and the doubts about its format."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    head = f"{first.file}{more}: {len(rows):,} rows, {len(first.columns)} columns"
    empty = f", {first.empty:,} empty rows passed over" if first.empty else ""
    result.lines.insert(0, f"{head}; {first.dialect}{empty}")
    result.doubts[:0] = first.doubts
    return result


def _of_series(
    rows: pd.DataFrame,
    columns: Sequence[Facts],
    first: Reading,
    name: str,
    options: Mapping[str, str],
    entries: Sequence[confs.Pinned],
) -> Result:
    by_name = {column.name: column for column in columns}
    day = by_name.get(options.get("date", "")) or series.day_column(columns)
    if day is None or day.date is None:
        raise UsageError(f"{first.file}: no column has days; name it with DATE=…")
    only: dict[str, str] = {}
    doubts = []
    symbol = series.symbol_column(columns, day)
    if symbol is not None and day.distinct < 0.98 * len(day.texts):
        levels = symbol.texts.value_counts()
        value = options.get("only", str(levels.index[0]))
        if value not in levels.index:
            raise UsageError(f"ONLY={value}: `{symbol.name}` has no such value")
        only = {symbol.name: value}
        if "only" not in options:
            doubts.append(f"`{symbol.name}` has {symbol.distinct} series: {value} (ONLY=… another)")
        kept = symbol.texts[symbol.texts == value].index
        rows = rows.loc[kept]
        columns = facts(rows, first.format)
        day = next(column for column in columns if column.name == day.name)
    day_format = dates.date_format(day.texts.tolist()) if day.date not in UNIX else None
    if day_format and day_format.other:
        doubts.append(f"days are read as {day_format.format} (DATE_FORMAT={day_format.other})")
    written = options.get("date_format", str(day.date))
    date_format = series_conf.ISO if written == "typed" else written
    iso = day.texts.map(lambda text: iso_day(text, date_format))
    file_of = pd.Series(day.texts.index.get_level_values(formats.FILE).astype(str))
    file_of.index = day.texts.index
    guess = series.series(columns, iso, file_of, options)
    guess.only = only
    guess.ignored.pop(next(iter(only), ""), None)
    guess.doubts += doubts
    if "date_format" in options:
        columns = [
            column._replace(date=written) if column.name == day.name else column
            for column in columns
        ]
    unit = options.get("unit", "units")
    if "unit" not in options:
        guess.doubts.append("the unit of the prices (UNIT=USD)")
    return series_conf.result(name, first.file, first.form, columns, guess, entries, unit)


def _of_table(
    rows: pd.DataFrame,
    columns: Sequence[Facts],
    first: Reading,
    name: str,
    options: Mapping[str, str],
    entries: Sequence[confs.Pinned],
) -> Result:
    chosen = roles.Chosen(
        target=_column(options.get("target"), columns),
        task=options.get("task"),
        key=_column(options.get("key"), columns),
        ignored=_list(options.get("ignored")),
        numeric=_list(options.get("numeric")),
        categorical=_list(options.get("categorical")),
    )
    column_roles = roles.roles(columns, chosen)
    result = tables.table(
        name=name,
        file=first.file,
        form=first.form,
        columns=columns,
        column_roles=column_roles,
        pinned=entries,
        positive=options.get("positive"),
        decide=options.get("decide"),
        rows=len(rows),
    )
    repeated = int(rows.duplicated().sum())
    result.lines[-1] += f"; rows that occur twice: {repeated:,}"
    return result


def _column(name: str | None, columns: Sequence[Facts]) -> str | None:
    """The name of a column; a number is its place, from 1, unless a column has that name."""
    names = [column.name for column in columns]
    if name is None or name in names or not name.isdecimal():
        return name
    place = int(name)
    return names[place - 1] if 1 <= place <= len(names) else name


def _list(text: str | None) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()] if text else []
