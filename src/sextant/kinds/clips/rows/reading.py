"""The clips of a data set: in folders of frames, GIFs and films, or made of pictures."""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from ....errors import DataError
from ....files import RECEIPT
from ....terminal import progress
from ... import archives, pixels
from ...archives import composed
from ...formats import place, read_table
from ...levels import text_of
from ..columns import Columns, Digits, Folders, Labels
from . import films
from .digits import made_clips

LISTED = 5  # paths that a message lists


class Raw(NamedTuple):
    """The clips of a folder.

    clips: one row each: `path`, the class if there is one, `test`, `key`, and `clip`, uint8
        (frames, size, size, channels), or None if it cannot be read.
    sizes: `width` and `height` of the frames as they were, with the index of `clips`.
    faults: by path, why a clip cannot be read.
    """

    clips: pd.DataFrame
    sizes: pd.DataFrame
    faults: dict[str, str]


class Found(NamedTuple):
    """A clip before it is decoded: its path, and the content of its pictures or of its file."""

    path: str
    pictures: list[tuple[str, bytes]]
    raw: bytes | None


def read(folder: Path, columns: Columns) -> Raw:
    """Return one row a clip, by path; raises DataError for a file that is missing or no clip.

    Clips are decoded and scaled at once, so that the memory holds them at their prepared size.
    """
    files = columns.files
    if isinstance(files, Digits):
        clips = made_clips(folder, files, columns)
        side = clips["clip"].iloc[0].shape[1]
        sizes = pd.DataFrame({"width": side, "height": side}, index=clips.index)
        return Raw(clips, sizes, {})
    return _folder_clips(folder, files, columns)


# --- what is a clip -----------------------------------------------------------------------------


def clips_in(folder: Path) -> list[Found]:
    """The clips in a folder or in its archives, by path: folders of pictures, GIFs and films."""
    if folder.is_dir():
        members = archives.members_of_folder(folder, None, frozenset([RECEIPT]))
    else:
        members = archives.members_of_archive(folder, None)
    clips = []
    pictures: dict[str, list[tuple[str, bytes]]] = {}
    for member in members:
        if member.is_folder or member.raw is None:
            continue
        if films.is_film(member.path):
            clips.append(Found(member.path, [], member.raw))
        elif pixels.is_picture(member.path, member.raw):
            parent = PurePosixPath(member.path).parent.as_posix()
            pictures.setdefault(parent, []).append((member.path, member.raw))
    for path, frames in pictures.items():
        clips.append(Found(path, frames, None))
    return sorted(clips)


def film_of(clip: Found, columns: Columns, name: str) -> films.Film:
    """The frames of a clip; raises DataError, beginning with `name`, if it cannot be decoded."""
    if clip.raw is None:
        return films.from_pictures(clip.pictures, columns, name)
    return films.from_file(clip.raw, columns, name)


def _folder_clips(folder: Path, files: Folders, columns: Columns) -> Raw:
    labels = None
    if files.labels is not None:
        labels = _labels(folder, files.labels, str(columns.target))
    rows: list[dict[str, object]] = []
    sizes = []
    faults: dict[str, str] = {}
    for clip in progress(clips_in(folder), "decoding", "clips"):
        top, rest = _place_and_rest(clip.path, files)
        row: dict[str, object] = {"path": clip.path}
        if columns.target is not None:
            row[columns.target] = _label(clip.path, rest, labels, files)
        row["test"] = top in files.test
        row["key"] = _key(clip)
        row["clip"] = None
        size: tuple[int | None, int | None] = (None, None)
        try:
            film = film_of(clip, columns, clip.path)
            films.check_length(film.frames, columns.length, clip.path)
            row["clip"] = film.frames[: columns.length]
            size = (film.width, film.height)
        except DataError as error:
            faults[clip.path] = str(error)
        rows.append(row)
        sizes.append(size)
    if not rows:
        raise DataError(
            f"{folder} has no clips: no folder of pictures, no GIF and no film; run `make pull`,"
            " or correct `columns.files` in the conf"
        )
    if labels is not None:
        _check_used(labels, [str(row["path"]) for row in rows], files)
    clips = pd.DataFrame(rows)
    return Raw(clips, pd.DataFrame(sizes, columns=["width", "height"]), faults)


def _key(clip: Found) -> str:
    """The sha256 of a clip's file, or of its pictures in the order of their names."""
    digest = hashlib.sha256(clip.raw or b"")
    for _, raw in sorted(clip.pictures):
        digest.update(raw)
    return digest.hexdigest()


def _place_and_rest(path: str, files: Folders) -> tuple[str, str]:
    """The folder of `train` and `test` that a clip is in, the deepest of several, and the path
    below it."""
    places = [composed(name) for name in (*files.train, *files.test)]
    for top in sorted(places, key=len, reverse=True):
        if top != "." and path.startswith(f"{top}/"):
            return top, path.removeprefix(f"{top}/")
    if "." in places:
        return ".", path
    raise DataError(
        f"{path} is outside of {', '.join(places)}; move it there, or add its folder to"
        " `columns.files` in the conf"
    )


# --- classes ------------------------------------------------------------------------------------


def _label(path: str, rest: str, labels: dict[str, str] | None, files: Folders) -> str:
    if labels is None:
        label, slash, _ = rest.partition("/")
        if slash:
            return label
        raise DataError(
            f"{path} is in no folder of a class; move it there, or name a CSV with the classes in"
            " `columns.files.labels` of the conf"
        )
    for name in _names(path, rest):
        if name in labels:
            return labels[name]
    assert files.labels is not None
    raise DataError(f"{path} is not in {files.labels.file}; add it, or remove the clip")


def _names(path: str, rest: str) -> list[str]:
    """How a CSV may name a clip: by its whole path or below its folder, with its suffix or not."""
    names = []
    for name in (path, rest):
        names += [name, str(PurePosixPath(name).with_suffix(""))]
    return names


def _labels(folder: Path, block: Labels, target: str) -> dict[str, str]:
    """The class of each path in the CSV of a conf."""
    rows = read_table(folder / block.file, block, [block.path, target]).rows
    for column in (block.path, target):
        if column not in rows:
            raise DataError(
                f"{block.file} lacks column {column}; it has {', '.join(map(str, rows))}; correct"
                " it, or change `columns.files.labels` in the conf"
            )
    labels: dict[str, str] = {}
    for position, (path, label) in enumerate(zip(rows[block.path], rows[target], strict=True)):
        path_text, label_text = text_of(path), text_of(label)
        if path_text is None or label_text is None:
            empty = block.path if path_text is None else target
            where = place(rows, position)
            raise DataError(f"{where} has no `{empty}`; expected a path and a class; correct it")
        labels[composed(path_text)] = label_text
    return labels


def _check_used(labels: dict[str, str], paths: Sequence[str], files: Folders) -> None:
    """Raise DataError if the CSV lists clips that do not exist."""
    used: set[str] = set()
    for path in paths:
        used.update(_names(path, _place_and_rest(path, files)[1]))
    missing = [path for path in labels if path not in used]
    if missing:
        assert files.labels is not None
        raise DataError(
            f"{files.labels.file} lists {len(missing):,} clips that do not exist:"
            f" {', '.join(missing[:LISTED])}; add them, or remove the rows"
        )
