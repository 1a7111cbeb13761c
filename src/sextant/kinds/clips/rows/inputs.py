"""Input rows: the clips that somebody asks about."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ... import archives, pixels
from ...formats import Format, place, read_table
from ..columns import Columns
from . import films
from .reading import Found, clips_in, film_of


def read_rows(path: Path, columns: Columns) -> pd.DataFrame:
    """Return input rows: a folder or an archive with clips, one clip, or a table with `path` or
    base64 in `clip`.

    A clip is a folder of frames, a GIF, a film, or a .npy file. The frame has `path` and the frames
    as `clip`. A path in a table is relative to the folder of the table.
    Raises DataError for what does not exist or cannot be decoded.
    """
    if path.is_dir() or archives.is_archive(path):
        clips = clips_in(path)
        if not clips:
            raise DataError(
                f"{path} has no pictures, GIFs or films; name a folder of clips, each of which is a"
                " folder of frames, a GIF or a film"
            )
        return _frame([_named(clip, path) for clip in clips], columns)
    if path.is_file() and (films.is_film(path.name) or path.suffix.lower() == ".npy"):
        return _frame([Found(path.name, [], path.read_bytes())], columns)
    rows = read_table(path, Format(), ["path", "clip"]).rows
    if "path" in rows and "clip" not in rows:
        films_of_rows = []
        for position, name in enumerate(rows["path"]):
            where = place(rows, position)
            if pd.isna(name):
                raise DataError(f"{where} has no `path`; name a clip")
            films_of_rows.append(clip_at(path.parent / str(name), columns, f"{where} ({name})"))
        rows["clip"] = pd.Series(films_of_rows, index=rows.index, dtype=object)
    return rows


def _named(clip: Found, folder: Path) -> Found:
    """A clip with a name: that of the folder for frames that lie in it directly."""
    return clip._replace(path=folder.name) if clip.path == "." else clip


def _frame(clips: list[Found], columns: Columns) -> pd.DataFrame:
    paths = [clip.path for clip in clips]
    frames = [film_of(clip, columns, clip.path).frames for clip in clips]
    return pd.DataFrame({"path": paths, "clip": pd.Series(frames, dtype=object)})


def clip_at(path: Path, columns: Columns, name: str) -> np.ndarray:
    """The frames of the clip at a path; raises DataError, beginning with `name`."""
    if path.is_dir():
        pictures = []
        for file in sorted(path.iterdir()):
            raw = file.read_bytes() if file.is_file() else b""
            if pixels.is_picture(file.name, raw):
                pictures.append((file.name, raw))
        return films.from_pictures(pictures, columns, name).frames
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{name} cannot be read ({error.strerror}); name a folder of frames, a GIF or a film"
        ) from None
    return films.from_file(raw, columns, name).frames


def decoded(value: object, columns: Columns, name: str) -> np.ndarray:
    """The frames in an input cell: base64 or bytes of a GIF, a film or a .npy file, or an array.

    Raises DataError, beginning with `name`, for what is none of these.
    """
    if isinstance(value, np.ndarray):
        return films.from_array(value, columns, name).frames
    raw = value
    if isinstance(value, str):
        text = value.rpartition(",")[2] if value.startswith("data:") else value
        try:
            raw = base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            raw = None
    if not isinstance(raw, bytes) or not raw:
        raise DataError(
            f"{name}: `clip` is not base64; expected a GIF, a film or a .npy file in base64;"
            " correct the row"
        )
    return films.from_file(raw, columns, name).frames


def to_base64(clip: np.ndarray) -> str:
    """A clip as a .npy file in base64, which loses nothing and keeps frames that are alike."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(clip), allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def write_inputs(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of a part as input of any champion: `clip` in base64.

    Only the frames that a model sees are written: it takes the last ones of a longer clip.
    """
    clips = []
    for clip, seen in zip(rows["clip"], rows["seen"], strict=True):
        clips.append(to_base64(clip[:seen]))
    pd.DataFrame({"clip": clips}).to_parquet(path, index=False)
