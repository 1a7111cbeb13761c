"""Pictures as tensors."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ...errors import DataError
from ...terminal import progress

if TYPE_CHECKING:
    from torch import Tensor
from .columns import Columns
from .rows import channel_statistics, read_bytes_of, square, to_base64

# --- from rows to tensors ---------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Pictures as tensors: image (rows, channels, size, size) uint8, target (rows) int64."""

    image: "Tensor"
    target: "Tensor"


class Encoder:
    """Pictures to a Batch; what training taught: the classes, mean and spread of each channel in 0..1."""

    named_by = "path"  # what the answers to a file of rows are told apart by

    def __init__(self, columns: Columns, classes: list[Any], mean: list[float], std: list[float]):
        self.columns, self.classes, self.mean, self.std = columns, classes, mean, std

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        mean, std = channel_statistics(rows, columns)
        return cls(columns, sorted(rows[columns.target].unique().tolist()), mean, std)

    def state(self) -> dict[str, Any]:
        """All that was learnt, as JSON."""
        return {"classes": self.classes, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """The inverse of `state`."""
        return cls(columns, **state)

    @property
    def sizes(self) -> dict[str, Any]:
        """What a family's constructor may ask for before its `*`."""
        return {
            "channels": self.columns.channels,
            "size": self.columns.size,
            "classes": len(self.classes),
            "mean": self.mean,
            "std": self.std,
        }

    def encode(self, rows: pd.DataFrame) -> Batch:
        """Rows with `image` to tensors; the target is -1 where it is not there."""
        import torch  # two seconds, which pull, validate and prepare need not wait for

        images = torch.from_numpy(np.stack(rows["image"].tolist())).permute(0, 3, 1, 2)
        target = np.full(len(rows), -1)
        if self.columns.target in rows:
            target = pd.Index(self.classes).get_indexer(rows[self.columns.target])
        return Batch(images, torch.from_numpy(target.astype(np.int64)))

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Standardised features for a baseline, (rows, features): the pictures, averaged to a few large pixels."""
        import torch
        from torch.nn import functional as F

        images, side = self.encode(rows).image, min(self.columns.flat, self.columns.size)
        small = torch.cat([F.adaptive_avg_pool2d(piece / 255, side) for piece in images.split(256)])
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((small - mean) / std).flatten(1).double().numpy()

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows that are asked with, as `encode` takes them: `image` in base64 or bytes, or else the `path` of a file.

        Raises DataError for a missing or surplus column, and for what is no picture, names its row.
        """
        surplus = [str(name) for name in frame if name not in ("image", *self.columns.all)]
        if surplus or not {"image", "path"} & set(frame):
            got = f"{'surplus column' if surplus else 'got'} {', '.join(map(str, surplus or frame)) or 'nothing'}"
            raise DataError(
                f"{got}; expected `image` (a file in base64) or `path` (of a file); name the columns so"
            )
        if frame.empty:
            raise DataError("no rows to answer; give at least one")
        names = [f"row {i}" for i in range(1, len(frame) + 1)]
        if "path" in frame:
            names = [f"{name} ({path})" for name, path in zip(names, frame["path"], strict=True)]
        if "image" in frame:
            given: list[Any] = [
                _file(one, name) for one, name in zip(frame["image"], names, strict=True)
            ]
        else:
            given = [
                read_bytes_of(Path(str(path)), f"row {i}: ")
                for i, path in enumerate(frame["path"], start=1)
            ]
        shown = progress(list(zip(given, names, strict=True)), "decoding", "pictures")
        images = [square(raw, self.columns, name) for raw, name in shown]
        return frame.assign(image=pd.Series(images, index=frame.index))

    def schema(self) -> list[tuple[str, str, bool]]:
        """Columns that may be asked with: name, MLflow type, whether it must be there."""
        return [("image", "string", True)]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as MLflow's interface takes them: `image` in base64."""
        return pd.DataFrame({"image": to_base64(rows)})

    def example(self) -> pd.DataFrame:
        """Three plain pictures of the training colours, dark, middling and bright: nobody's."""
        shades = [
            np.clip(np.array(self.mean) + step * np.array(self.std), 0, 1) for step in (-1, 0, 1)
        ]
        side = (self.columns.size, self.columns.size, 1)
        images = [np.tile((255 * shade).round().astype(np.uint8), side) for shade in shades]
        return self.inputs(pd.DataFrame({"image": pd.Series(images)}))


def _file(given: Any, name: str) -> bytes | np.ndarray:
    """A picture that was asked with: a file's bytes in base64 or as they are, or an array as a part holds it."""
    decoded = (
        isinstance(given, np.ndarray)
        and given.dtype == np.uint8
        and given.shape[2:] in ((), (1,), (3,))
    )
    if isinstance(given, bytes) or (decoded and given.size):
        return given
    try:
        text = given.rpartition(",")[2] if given.startswith("data:") else given
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, ValueError):
        raise DataError(
            f"{name}: `image` is no base64; expected a picture's file in base64; correct the row"
        ) from None
