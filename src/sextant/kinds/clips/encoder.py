"""Clips as tensors."""

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
from .rows import decoded, to_base64
from .rows.films import check_length
from .rows.inputs import clip_at

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 64  # clips that are converted to float32 at once, which bounds the memory


class Batch(NamedTuple):
    """Clips as tensors; the target is -1 if a row has no label.

    Rows of a prepared part have `past` + `future` frames, input rows the `past` ones alone.
    """

    clip: "Tensor"  # (rows, frames, channels, size, size) uint8
    target: "Tensor"  # (rows,) int64, index in `classes`


class Encoder:
    """Turns clips into a Batch, with the classes and the size of the training rows."""

    named_by = ["path"]  # what identifies a row in an answer, if a caller sends it

    def __init__(self, columns: Columns, classes: list[Label], size: int):
        self.columns = columns
        self.classes = classes
        self.size = size

    @classmethod
    def fit(cls, rows: pd.DataFrame, columns: Columns) -> Self:
        """Learn from the training part alone."""
        return cls(columns, class_labels(rows, columns.target), rows["clip"].iloc[0].shape[1])

    def state(self) -> dict[str, object]:
        """Return all that was learnt, as JSON."""
        return {"classes": self.classes, "size": self.size}

    @classmethod
    def from_state(cls, state: dict[str, Any], columns: Columns) -> Self:
        """Return the encoder that gave this `state`."""
        return cls(columns, state["classes"], state["size"])

    @property
    def sizes(self) -> dict[str, int]:
        """What a family's constructor may name before its `*`: `channels`, `size` in pixels, the
        frames `past` and `future`, and `classes`, their number."""
        return {
            "channels": self.columns.channels,
            "size": self.size,
            "past": self.columns.past,
            "future": self.columns.future,
            "classes": len(self.classes),
        }

    def encode(self, rows: pd.DataFrame) -> Batch:
        """Return rows with `clip` as tensors.

        Frames stay uint8, a quarter of the memory of float32; a family scales them on the device.
        """
        import torch  # takes two seconds, which pull, validate and prepare need not wait for

        shape = (0, self.columns.past, self.size, self.size, self.columns.channels)
        clips = np.empty(shape, np.uint8)
        if len(rows):
            clips = np.stack(rows["clip"].tolist())
        target = np.full(len(rows), -1)
        if self.columns.target in rows:
            target = pd.Index(self.classes).get_indexer(pd.Index(rows[self.columns.target]))
        frames = torch.from_numpy(clips).permute(0, 1, 4, 2, 3)
        if self.columns.channels == 1:  # the same bytes in another order of axes
            frames = torch.from_numpy(clips).view(*clips.shape[:2], 1, *clips.shape[2:4])
        return Batch(frames, torch.from_numpy(target.astype(np.int64)))

    def flat(self, rows: pd.DataFrame) -> np.ndarray:
        """Return features for baselines, (rows, 2 * channels * flat * flat) float64 in 0..1: the
        mean of the frames that a model sees, and the last of them.

        Both are averaged to `flat` x `flat` pixels.
        """
        from torch.nn import functional as F

        side = min(self.columns.flat, self.size)
        parts = []
        for still in self.stills(rows).values():
            parts.append(F.adaptive_avg_pool2d(still, side).flatten(1).double().numpy())
        return np.concatenate(parts, axis=1)

    def stills(self, rows: pd.DataFrame) -> "dict[str, Tensor]":
        """The `mean` of the frames that a model sees, and the `last` of them, as pictures in 0..1,
        (rows, channels, size, size) each: what a clip shows without its motion."""
        import torch

        means = []
        lasts = []
        for chunk in self.encode(rows).clip[:, : self.columns.past].split(CHUNK):
            means.append(chunk.float().mean(1) / 255)
            lasts.append(chunk[:, -1].float() / 255)
        return {"mean": torch.cat(means), "last": torch.cat(lasts)}

    # --- input rows ---

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return input rows as `encode` takes them: `clip` as a GIF, a film or a .npy file in
        base64, or, where there is no `clip`, the `path` of a clip. Of a longer clip the last `past`
        frames are taken.

        Other columns are passed over, with a warning. Raises DataError for a missing column, and,
        naming the row, for what is no clip or a shorter one.
        """
        frame = self._known_columns(frame)
        if frame.empty:
            raise DataError("no rows to answer; give at least one")
        has_clip = "clip" in frame
        contents = frame["clip" if has_clip else "path"].tolist()
        clips = []
        for position, content in enumerate(progress(contents, "decoding", "clips")):
            name = place(frame, position)
            if "path" in frame:
                name = f"{name} ({frame['path'].iloc[position]})"
            if has_clip:
                frames = decoded(content, self._scaled, name)
            else:
                frames = clip_at(Path(str(content)), self._scaled, name)
            check_length(frames, self.columns.past, name)
            clips.append(frames[-self.columns.past :])
        return frame.assign(clip=pd.Series(clips, index=frame.index, dtype=object))

    @property
    def _scaled(self) -> Columns:
        """The columns with the size of the training clips."""
        return self.columns.model_copy(update={"size": self.size})

    def remarks(self, rows: pd.DataFrame, answers: pd.DataFrame) -> list[str]:
        """What is unusual about each clip: nothing moves in it, or it is of one colour."""
        remarks = Remarks(len(rows))
        for row, clip in enumerate(rows["clip"]):
            if (clip == clip[0, 0, 0]).all():
                remarks.add(row, "the clip has one colour")
            elif (clip == clip[:1]).all():
                remarks.add(row, "nothing moves in the clip")
        return remarks.texts()

    def _known_columns(self, frame: pd.DataFrame) -> pd.DataFrame:
        if "clip" not in frame and "path" not in frame:
            names = listed(frame) or "no column"
            raise DataError(
                f"got {names}; expected `clip` (a GIF, a film or a .npy file in base64) or `path`"
                " (of a clip); name the columns like this"
            )
        return without_surplus(frame, [], ["clip", "seen", *self.columns.all])

    def schema(self) -> list[tuple[str, str, bool]]:
        """Return the input columns: name, MLflow type, and whether it is required."""
        return [("clip", "string", True)]

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows as MLflow's interface takes them: the frames that a model sees as `clip`,
        a .npy file in base64."""
        clips = [to_base64(clip[: self.columns.past]) for clip in rows["clip"]]
        return pd.DataFrame({"clip": clips})

    def example(self) -> pd.DataFrame:
        """Return a synthetic input example: two clips of a grey square that moves along or down."""
        shape = (self.columns.past, self.size, self.size, self.columns.channels)
        side = max(1, self.size // 4)
        clips = []
        for axis in (1, 2):
            clip = np.zeros(shape, np.uint8)
            for number, frame in enumerate(clip):
                start = number * (self.size - side) // self.columns.past
                area = [slice(side, 2 * side), slice(side, 2 * side)]
                area[axis - 1] = slice(start, start + side)
                frame[tuple(area)] = 192
            clips.append(clip)
        return self.inputs(pd.DataFrame({"clip": pd.Series(clips, dtype=object)}))
