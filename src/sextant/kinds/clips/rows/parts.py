"""Four parts of clips: checked, split, written and summed up."""

from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ....files import readable
from ... import pixels
from ...parts import check_labelled_parts, class_labels
from ...splits import HashSplit, parts_with_test
from ..columns import Columns, Folders
from .reading import LISTED, Raw


def repair(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Return the rows of `read` with `seen`, the number of frames that a model sees.

    Raises DataError for clips that cannot be read.
    """
    if raw.faults:
        message = next(iter(raw.faults.values()))
        if len(raw.faults) > 1:
            paths = ", ".join(list(raw.faults)[:LISTED])
            message += f"; {len(raw.faults):,} clips cannot be used: {paths}"
        raise DataError(message)
    return raw.clips.assign(seen=columns.past)


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Return the four parts, as `parts_with_test` does."""
    return parts_with_test(rows, split)


def check_parts(parts: dict[str, pd.DataFrame], columns: Columns) -> None:
    """Raise DataError if a clip is in two parts, or a part has no clip of some class."""
    if isinstance(columns.files, Folders):
        _check_repeated(pd.concat([rows[["path", "test", "key"]] for rows in parts.values()]))
    check_labelled_parts(parts, columns.key, columns.target, columns.positive)


def _check_repeated(rows: pd.DataFrame) -> None:
    """Raise DataError if a clip is both among those for training and those for testing."""
    test_rows = rows[rows["test"]]
    path_of = dict(zip(test_rows["key"], test_rows["path"], strict=True))
    repeated = rows[~rows["test"].astype(bool) & rows["key"].isin(path_of)].sort_values("path")
    if len(repeated):
        path, key = repeated["path"].iloc[0], repeated["key"].iloc[0]
        raise DataError(
            f"{path}, for training, and {path_of[key]}, for testing, are the same clip; remove one"
            " of them"
        )


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write a part: the frames to `path`.npy as bytes, the rest to `path`.parquet.

    A .npy file is mapped into memory by `load`, so that a large set need not fit. It is written
    clip by clip, which takes no second copy of the frames.
    """
    shape = (0, 1, 1, 1, 1)
    if len(rows):
        shape = (len(rows), *rows["clip"].iloc[0].shape)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.with_suffix(".npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for clip in rows["clip"]:
            stream.write(np.ascontiguousarray(clip).tobytes())
    rows.drop(columns="clip").to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Return a part that `write` wrote; a clip is read from the disk when it is used."""
    with readable(path):  # with either suffix
        clips = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        rows = pd.read_parquet(path.with_suffix(".parquet"))
    return rows.assign(clip=pd.Series(list(np.asarray(clips)), index=rows.index, dtype=object))


MONITORED = 500  # clips whose drift is looked at


def monitored(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, pd.Series]:
    """Return class, motion, and brightness, contrast and fixed projections of the first frame.

    Motion is the mean difference of a pixel from frame to frame, in 0..1.
    """
    train = parts["train"]
    values: dict[str, pd.Series] = {}
    if columns.target is not None and columns.target in train:
        values[columns.target] = train[columns.target].astype("str")
    clips = [train["clip"].iloc[place] for place in pixels.sampled(len(train), MONITORED)]
    for name, numbers in pixels.quantities([clip[0] for clip in clips]).items():
        values[name] = pd.Series(numbers)
    motion = []
    for clip in clips:
        frames = clip[: columns.past].astype(np.int16)
        steps = np.abs(np.diff(frames, axis=0))
        motion.append(round(float(steps.mean()) / 255, 5) if len(steps) else 0.0)
    values["motion"] = pd.Series(motion)
    return values


def profile(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, object]:
    """Return a summary of the training clips as JSON: counts by class, frames, mean brightness."""
    train = parts["train"]
    frames, size, _, channels = train["clip"].iloc[0].shape
    total = sum(int(clip.sum(dtype=np.int64)) for clip in train["clip"])
    pixels = len(train) * train["clip"].iloc[0].size
    clip = {
        "frames": frames,
        "size": size,
        "channels": channels,
        "mean": round(total / (255 * pixels), 6),
    }
    summary: dict[str, object] = {"columns": {"clip": clip}}
    if columns.target is not None:
        counts = train[columns.target].value_counts().sort_index()
        of_classes = {str(label): int(count) for label, count in counts.items()}
        summary["columns"] = {columns.target: of_classes, "clip": clip}
        summary["classes"] = class_labels(train, columns.target)
    return summary
