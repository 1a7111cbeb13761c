"""Task frames: what are the next frames of a clip?

The squared error of a frame is summed over its pixels, in 0..1, and averaged over frames and clips,
as it is published for Moving MNIST.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ... import intervals
from ...errors import UsageError

if TYPE_CHECKING:
    from ...kinds.clips.columns import Columns

METRICS = {"mse": "down", "ssim": "up", "mae": "down"}
OUTPUTS = ("frames",)  # (rows, future, channels, size, size) in 0..1
WATCHED = ["mse", "mae"]  # the structural similarity takes as long as the net

WINDOW = 7  # pixels of a side, over which SSIM compares
K1, K2 = 0.01, 0.03
CHUNK = 64  # clips that are compared at once, which bounds the memory
GIF_SECONDS = 0.1  # between two frames


class Encoder(Protocol):
    """What the task reads of the encoder of clips."""

    columns: "Columns"


class Batch(Protocol):
    """What the task reads of a batch."""

    @property
    def clip(self) -> Tensor:
        """The frames, uint8 (rows, frames, channels, size, size)."""


def roles(columns: "Columns", train: pd.DataFrame) -> "Columns":
    """The columns without a label, which next frames do not have."""
    changes: dict[str, object] = {"target": None}
    if columns.files.format == "folders":
        changes["files"] = columns.files.model_copy(update={"labels": None})
    return columns.model_copy(update=changes)


def check(encoder: Encoder) -> None:
    """Raise UsageError if the clips have no frames to answer."""
    if not encoder.columns.future:
        raise UsageError(
            "`future` is 0, so that there are no next frames to answer; set it in `columns` of the"
            " data set's conf"
        )


# --- answers ------------------------------------------------------------------------------------


def calibrate(outputs: Mapping[str, Tensor], batch: object) -> dict[str, float]:
    """Return nothing: frames are fitted by training itself."""
    return {}


def answers(
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    encoder: Encoder,
    calibration: Mapping[str, float],
) -> pd.DataFrame:
    """Return one answer per row; see `as_answers`."""
    return as_answers(outputs["frames"])


def as_answers(frames: Tensor) -> pd.DataFrame:
    """Answers from frames in 0..1, (rows, future, channels, size, size): `frames`, of each row a
    .npy file in base64, uint8 (future, size, size, channels).

    So they can be written to any table. Bytes round an error of a frame by less than a thousandth.
    """
    texts = []
    for clip in frames:
        levels = (255 * clip).round().clamp(0, 255).to(torch.uint8)
        file = io.BytesIO()
        np.save(file, levels.permute(0, 2, 3, 1).contiguous().numpy(), allow_pickle=False)
        texts.append(base64.b64encode(file.getvalue()).decode())
    return pd.DataFrame({"frames": pd.Series(texts, dtype="str")})


def decoded(text: str) -> np.ndarray:
    """The frames of an answer, uint8 (future, size, size, channels)."""
    raw = base64.b64decode(text)
    return np.asarray(np.load(io.BytesIO(raw), allow_pickle=False))


def public(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers as a caller sees them: `frames` as arrays, which over HTTP become nested lists.

    uint8 (future, size, size), with the channels at the end if there are several.
    """
    arrays = []
    for text in answers["frames"]:
        frames = decoded(text)
        arrays.append(frames[..., 0] if frames.shape[3] == 1 else frames)
    return answers.assign(frames=pd.Series(arrays, index=answers.index, dtype=object))


def as_files(answers: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """The public answers with the name of a GIF in place of `frames`, and these GIFs by name.

    `names` are the names of the rows, without a suffix.
    """
    files: dict[str, bytes] = {}
    for name, frames in zip(names, answers["frames"], strict=True):
        files[f"{name}.gif"] = gif(np.asarray(frames))
    return answers.assign(frames=list(files)), files


def gif(frames: np.ndarray) -> bytes:
    """Frames, uint8 (frames, height, width[, 3]), as an endless GIF."""
    images = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    duration = round(1000 * GIF_SECONDS)
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return file.getvalue()


# --- metrics ------------------------------------------------------------------------------------


def by_frame(answers: pd.DataFrame, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Each metric of each frame of each row, (rows, future), in float64."""
    scores: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for start in range(0, len(rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        predicted = _in_unit([decoded(text) for text in answers["frames"].iloc[chunk]])
        clips = _in_unit(rows["clip"].iloc[chunk].tolist())
        truth = clips[:, clips.shape[1] - predicted.shape[1] :]
        for name, values in errors(predicted, truth).items():
            scores[name].append(values.double().numpy())
        scores["ssim"].append(ssim(predicted, truth).double().numpy())
    return {name: np.concatenate(values) for name, values in scores.items()}


def _in_unit(clips: Sequence[np.ndarray]) -> Tensor:
    """Clips in bytes as one tensor in 0..1, (rows, frames, channels, size, size)."""
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).float() / 255


def errors(predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """`mse` and `mae` of each frame: the squared and the absolute error, summed over its pixels.

    Both are (rows, frames, channels, size, size) in 0..1; the results (rows, frames).
    """
    difference = predicted - truth
    return {
        "mse": difference.square().sum((2, 3, 4)),
        "mae": difference.abs().sum((2, 3, 4)),
    }


def ssim(predicted: Tensor, truth: Tensor) -> Tensor:
    """The structural similarity of each frame, (rows, frames), of frames in 0..1.

    Wang et al., "Image Quality Assessment", IEEE Transactions on Image Processing 13, 2004, eq. 13,
    averaged over places and channels. As in scikit-image, whose numbers are published for Moving
    MNIST, means and covariances are those of squares of WINDOW pixels with equal weights, the
    covariances divided by their number less one, at the places where the whole square is in the
    frame. Of frames smaller than WINDOW, the square is the frame.
    """
    rows, frames, channels, height, width = predicted.shape
    side = min(WINDOW, height, width)
    x = predicted.reshape(-1, 1, height, width).double()
    y = truth.reshape(-1, 1, height, width).double()

    def mean(values: Tensor) -> Tensor:
        # Along one axis and then the other: 14 additions in place of 49.
        return F.avg_pool2d(F.avg_pool2d(values, (side, 1), 1), (1, side), 1)

    number = side**2
    unbiased = number / max(1, number - 1)
    mean_x, mean_y = mean(x), mean(y)
    variance_x = unbiased * (mean(x * x) - mean_x**2)
    variance_y = unbiased * (mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    c1, c2 = K1**2, K2**2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similar /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return similar.view(rows, frames, channels, -1).mean((2, 3))


def score(answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder) -> dict[str, float]:
    """The metrics, means over frames and rows, in float64; and `mse_1`, `mse_2`, …, those of each
    frame ahead."""
    scores = by_frame(answers, rows)
    means = {name: float(values.mean()) for name, values in scores.items()}
    for ahead, value in enumerate(scores["mse"].mean(0), start=1):
        means[f"mse_{ahead}"] = float(value)
    return means


def contributions(
    answers: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder, metric: str = "mse"
) -> intervals.Sample:
    """The Sample of a metric: its mean over the frames of each row."""
    return intervals.mean(by_frame(answers, rows)[metric].mean(1))


def watch(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """The errors on val during training."""
    frames = outputs["frames"]
    truth = batch.clip[:, batch.clip.shape[1] - frames.shape[1] :]
    totals = dict.fromkeys(WATCHED, 0.0)
    for predicted, true in zip(frames.split(CHUNK), truth.split(CHUNK), strict=True):
        for name, values in errors(predicted, true.float() / 255).items():
            totals[name] += float(values.double().sum())
    return {name: total / frames.shape[:2].numel() for name, total in totals.items()}
