"""Baselines of next frames: the last frame repeated, each pixel's motion extrapolated, and the mean
frame of training.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from .metrics import as_answers

if TYPE_CHECKING:
    from typing import Any

    from ... import contracts
    from ...kinds.clips.columns import Columns

CHUNK = 16  # clips at once, which bounds the memory
STEP = 0.5  # pixels between two velocities that are tried
FRAMES = 2  # before the last one, in which a velocity is looked for
WINDOW = 17  # pixels of a side, over which the differences of a velocity are averaged


class Encoder(Protocol):
    """What the baselines read of the encoder of clips."""

    columns: "Columns"

    def encode(self, rows: pd.DataFrame) -> "Any":
        """The Batch of rows."""


class Velocities(NamedTuple):
    """The velocities that are tried, in pixels per frame, the slowest first; (velocities,) each."""

    down: Tensor
    along: Tensor


def last_frame(train: pd.DataFrame, columns: "Columns", encoder: Encoder) -> "contracts.Answer":
    """Repeat the last frame that is seen."""

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        last = encoder.encode(rows).clip[:, columns.past - 1 : columns.past].float() / 255
        return as_answers(last.expand(-1, columns.future, -1, -1, -1)).set_axis(rows.index)

    return answer


def motion(train: pd.DataFrame, columns: "Columns", encoder: Encoder) -> "contracts.Answer":
    """Move each pixel of the last frame on with the velocity that it has there.

    The velocity of a pixel is the one whose shifts of the FRAMES frames before explain the square
    of WINDOW pixels around it best, of all up to a sixteenth of the frame's side in each direction,
    every STEP pixels; of equally good ones the slowest. Where pixels meet, the brightest is seen,
    and where none arrives, the median of the frames that are seen. Pixels leave the frame at its
    edge.
    """

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        drawn = []
        for chunk in encoder.encode(rows).clip[:, : columns.past].split(CHUNK):
            drawn.append(extrapolated(chunk.float() / 255, columns.future))
        return as_answers(torch.cat(drawn)).set_axis(rows.index)

    return answer


def mean_frame(train: pd.DataFrame, columns: "Columns", encoder: Encoder) -> "contracts.Answer":
    """Answer the mean of the training frames, which of all fixed frames has the least squared
    error."""
    total = torch.zeros(())
    for chunk in encoder.encode(train).clip[:, columns.past :].split(CHUNK):
        total = total + chunk.float().mean(1).sum(0)
    mean = total / (255 * len(train))

    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        return as_answers(mean.expand(len(rows), columns.future, -1, -1, -1)).set_axis(rows.index)

    return answer


BASELINES: "dict[str, contracts.Fit]" = {
    "last_frame": last_frame,
    "motion": motion,
    "mean_frame": mean_frame,
}


# --- motion -------------------------------------------------------------------------------------


def extrapolated(clips: Tensor, future: int) -> Tensor:
    """The next frames of clips, (rows, frames, channels, size, size) in 0..1; see `motion`."""
    last = clips[:, -1]
    rows, channels, height, width = last.shape
    velocities = _velocities(max(2, height // 16))
    chosen = _best_velocities(clips, velocities)
    down = velocities.down[chosen]
    along = velocities.along[chosen]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ground = clips.median(1).values.flatten(2)
    frames = []
    for ahead in range(1, future + 1):
        # The way is rounded and not the place: half pixels would tear what moves together.
        to_y = y + (ahead * down).round().long()
        to_x = x + (ahead * along).round().long()
        inside = (to_y >= 0) & (to_y < height) & (to_x >= 0) & (to_x < width)
        # Pixels that leave go to one place more, which is cut off.
        place = torch.where(inside, to_y * width + to_x, height * width).flatten(1)
        place = place[:, None].expand(-1, channels, -1)
        empty = last.new_full((rows, channels, height * width + 1), -1.0)
        arrived = empty.scatter_reduce(2, place, last.flatten(2), "amax")[:, :, :-1]
        frame = torch.where(arrived < 0, ground, arrived)
        frames.append(frame.view(rows, channels, height, width))
    return torch.stack(frames, 1)


def _velocities(reach: int) -> Velocities:
    values = torch.arange(-reach, reach + STEP / 2, STEP)
    down, along = torch.meshgrid(values, values, indexing="ij")
    order = torch.argsort((down**2 + along**2).flatten(), stable=True)
    return Velocities(down.flatten()[order], along.flatten()[order])


def _best_velocities(clips: Tensor, velocities: Velocities) -> Tensor:
    """The number of the best velocity at each pixel of the last frame, (rows, height, width)."""
    last = clips[:, -1]
    least = torch.full_like(last[:, 0], torch.inf)
    best = torch.zeros(least.shape, dtype=torch.int64)
    pairs = zip(velocities.down.tolist(), velocities.along.tolist(), strict=True)
    for number, (down, along) in enumerate(pairs):
        difference = torch.zeros_like(least)
        for back in range(1, min(FRAMES, clips.shape[1] - 1) + 1):
            before = clips[:, -1 - back]
            moved = _shifted(before, round(back * down), round(back * along))
            difference += (last - moved).square().sum(1)
        around = _window_mean(difference)
        # The tolerance keeps rounding errors from preferring a faster velocity.
        is_better = around < least - 1e-7
        least = torch.where(is_better, around, least)
        best[is_better] = number
    return best


def _shifted(frame: Tensor, down: int, along: int) -> Tensor:
    """The frame moved by whole pixels, (rows, channels, height, width); black comes in."""
    height, width = frame.shape[2:]
    moved = torch.zeros_like(frame)
    to_y = slice(max(0, down), min(height, height + down))
    from_y = slice(max(0, -down), min(height, height - down))
    to_x = slice(max(0, along), min(width, width + along))
    from_x = slice(max(0, -along), min(width, width - along))
    moved[:, :, to_y, to_x] = frame[:, :, from_y, from_x]
    return moved


def _window_mean(values: Tensor) -> Tensor:
    """The mean over the window around each pixel, (rows, height, width)."""
    half = WINDOW // 2
    rows = F.avg_pool2d(values[:, None], (WINDOW, 1), 1, (half, 0))
    return F.avg_pool2d(rows, (1, WINDOW), 1, (0, half))[:, 0]
