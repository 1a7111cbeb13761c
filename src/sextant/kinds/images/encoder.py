"""Pictures as tensors."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from ...terminal import progress
from ..formats import place
from ..parts import Label, class_labels
from ..remarks import Remarks
from ..tables import listed, without_surplus
from .columns import Columns
from .rows import Content, channel_statistics, read_picture, square, to_base64

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256  # pictures that `flat` converts to float32 at once, which bounds the memory


class Batch(NamedTuple):
    """Pictures as tensors; the target is -1 if a row has no label."""

    image: "Tensor"  # (rows, channels, size, size) uint8
    target: "Tensor"  # (rows) int64, index in `classes`


class Encoder:
    """Turns pictures into a Batch, with classes and channel statistics of the training rows.

    classes: the labels, sorted.
    mean, std: of each channel over all training pixels, in 0..1.
    """

    named_by = ["path"]  # what identifies a row in an answer, if a caller sends it

    def __init__(self, columns: Columns, classes: list[Label], mean: list[float], std: list[float]):
        self.columns = columns
        self.classes = classes
        self.mean = mean
        self.std = std

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        mean, std = channel_statistics(rows, columns)
        return cls(columns, class_labels(rows, columns.target), mean, std)

    def state(self) -> dict[str, object]:
        """Return all that was learnt, as JSON."""
        return {"classes": self.classes, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """Return the encoder that gave this `state`."""
        return cls(columns, state["classes"], state["mean"], state["std"])

    @property
    def sizes(self) -> dict[str, int | list[float]]:
        """What a family's constructor may name before its `*`: `channels`, `size` in pixels,
        `classes`, their number, and `mean` and `std` by channel."""
        return {
            "channels": self.columns.channels,
            "size": self.columns.size,
            "classes": len(self.classes),
            "mean": self.mean,
            "std": self.std,
        }

    def encode(self, rows: pd.DataFrame) -> Batch:
        """Return rows with `image` as tensors.

        Images stay uint8, a quarter of the memory of float32; a family scales them by `mean` and
        `std` on the device.
        """
        import torch  # takes two seconds, which pull, validate and prepare need not wait for

        images = torch.from_numpy(np.stack(rows["image"].tolist())).permute(0, 3, 1, 2)
        target = np.full(len(rows), -1)
        if self.columns.target in rows:
            target = pd.Index(self.classes).get_indexer(pd.Index(rows[self.columns.target]))
        return Batch(images, torch.from_numpy(target.astype(np.int64)))

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Return features for baselines, (rows, channels * flat * flat) float64.

        The pictures are averaged to `flat` x `flat` pixels and standardised.
        """
        import torch
        from torch.nn import functional as F

        side = min(self.columns.flat, self.columns.size)
        images = self.encode(rows).image
        averaged = [F.adaptive_avg_pool2d(chunk / 255, side) for chunk in images.split(CHUNK)]
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        return ((torch.cat(averaged) - mean) / std).flatten(1).double().numpy()

    # --- input rows ---

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return input rows as `encode` takes them: `image` as a file in base64 or bytes, or, where
        there is no `image`, the `path` of a file.

        Other columns are passed over, with a warning. Raises DataError for a missing column, and,
        naming the row, for what is not a picture.
        """
        frame = self._known_columns(frame)
        if frame.empty:
            raise DataError("no rows to answer; give at least one")
        images = []
        for content, name in progress(_contents(frame), "decoding", "pictures"):
            images.append(square(content, self.columns, name))
        return frame.assign(image=pd.Series(images, index=frame.index))

    def remarks(self, rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
        """What is unusual about each picture: that it is of one colour, as an empty scan is."""
        remarks = Remarks(len(rows))
        for row, image in enumerate(rows["image"]):
            if (image == image[0, 0]).all():
                remarks.add(row, "the picture has one colour")
        return remarks.texts()

    def _known_columns(self, frame: pd.DataFrame) -> pd.DataFrame:
        if "image" not in frame and "path" not in frame:
            names = listed(frame) or "no column"
            raise DataError(
                f"got {names}; expected `image` (a file in base64) or `path` (of a file); name the"
                " columns like this"
            )
        return without_surplus(frame, [], ["image", *self.columns.all])

    def schema(self) -> list[tuple[str, str, bool]]:
        """Return the input columns: name, MLflow type, and whether it is required."""
        return [("image", "string", True)]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows as MLflow's interface takes them: `image` in base64."""
        return pd.DataFrame({"image": to_base64(rows)})

    def example(self) -> pd.DataFrame:
        """Return a synthetic input example: three plain pictures.

        One has the mean colour of training, the others are darker and brighter by a standard
        deviation.
        """
        mean = np.array(self.mean)
        std = np.array(self.std)
        images = []
        for shift in (-1, 0, 1):
            colour = np.clip(mean + shift * std, 0, 1)
            pixel = (255 * colour).round().astype(np.uint8)
            images.append(np.tile(pixel, (self.columns.size, self.columns.size, 1)))
        return self.inputs(pd.DataFrame({"image": pd.Series(images)}))


def _contents(frame: pd.DataFrame) -> list[tuple[Content, str]]:
    """The content of each input row's picture, and the row's name for messages."""
    names = [place(frame, position) for position in range(len(frame))]
    contents: list[Content] = []
    if "image" not in frame:
        for path, name in zip(frame["path"], names, strict=True):
            contents.append(read_picture(Path(str(path)), f"{name}: "))
    if "path" in frame:
        names = [f"{name} ({path})" for name, path in zip(names, frame["path"], strict=True)]
    if "image" in frame:
        for value, name in zip(frame["image"], names, strict=True):
            contents.append(_content(value, name))
    return list(zip(contents, names, strict=True))


def _content(value: object, name: str) -> Content:
    """The file in an input cell (base64, a data URL, or bytes), or the array of a prepared part."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.ndarray) and _is_image(value):
        return value
    if isinstance(value, str):
        text = value
        if text.startswith("data:"):
            text = text.rpartition(",")[2]
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            pass
    raise DataError(
        f"{name}: `image` is not base64; expected a picture's file in base64; correct the row"
    )


def _is_image(array: np.ndarray) -> bool:
    """Whether an array is an image, uint8 (height, width[, 1, 3 or 4]), with pixels."""
    is_shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    return array.dtype == np.uint8 and is_shaped and array.size > 0
