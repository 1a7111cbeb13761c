"""Four parts of decoded pictures: repaired, split, checked, written and summed up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ....errors import DataError
from ....files import readable
from ....terminal import progress
from ... import pixels
from ...parts import PARTS, check_labelled_parts, class_labels
from ...splits import HashSplit, parts_with_test
from ..columns import Columns
from .pictures import Raw, listed
from .squares import Undecodable, file_of, square


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
        message += f"; {len(faults):,} pictures cannot be used: {listed(paths)}"
    return DataError(message)


def split(rows: pd.DataFrame, columns: Columns, split: HashSplit) -> dict[str, pd.DataFrame]:
    """Return the four parts, as `parts_with_test` does.

    The rows of the gate keep the files, because a champion answers these, whatever size of square
    it was trained on.
    """
    parts = parts_with_test(rows, split)
    for part in set(PARTS) - {"gate"}:
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
        facts["raw"] = [file_of(raw) for raw in facts["raw"]]
    facts.to_parquet(path.with_suffix(".parquet"), index=False)


def load(path: Path) -> pd.DataFrame:
    """Return a part that `write` wrote; an image is read from the disk when it is used."""
    with readable(path):  # with either suffix
        images = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
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


MONITORED = 2000  # pictures whose drift is looked at


def monitored(parts: dict[str, pd.DataFrame], columns: Columns) -> dict[str, pd.Series]:
    """Return class, brightness, contrast and fixed projections of the training pictures.

    Width and height are those of the files, which the gate part keeps.
    """
    train = parts["train"]
    values: dict[str, pd.Series] = {}
    if columns.target in train:
        values[columns.target] = train[columns.target].astype("str")
    chosen = pixels.sampled(len(train), MONITORED)
    images = [train["image"].iloc[place] for place in chosen]
    for name, numbers in pixels.quantities(images).items():
        values[name] = pd.Series(numbers)
    if "gate" in parts:
        raw = parts["gate"]["raw"]
        chosen = pixels.sampled(len(raw), MONITORED)
        sizes = [pixels.size_of(raw.iloc[place]) for place in chosen]
        values["width"] = pd.Series([width for width, _ in sizes])
        values["height"] = pd.Series([height for _, height in sizes])
    return values


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
