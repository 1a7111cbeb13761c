"""Clips of pictures that move over a black frame and bounce off its edges, as Moving MNIST has.

The procedure of Srivastava et al., "Unsupervised Learning of Video Representations using LSTMs"
(ICML 2015), as their code and later benchmarks have it: a picture starts at a place drawn uniformly
from the room that it has, moves in a direction drawn uniformly by the share `step` of the room from
frame to frame, and turns round along the axis on which it reaches an edge. Places are cut to whole
pixels, and where pictures overlap the brighter pixel is seen.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ....errors import DataError
from ....terminal import Progress
from ... import arrays
from ..columns import Columns, Digits

SAME, OPPOSITE = "same", "opposite"
CHUNK = 256  # clips between two steps of the progress display


class Paths(NamedTuple):
    """Where the pictures of clips are, in 0..1, and by how much they moved to get there.

    Each is (clips, digits, frames, 2): down and along.
    """

    places: np.ndarray
    moves: np.ndarray


def made_clips(folder: Path, files: Digits, columns: Columns) -> pd.DataFrame:
    """One row a clip: `path`, the label, `test`, `key` and `clip`, uint8 (frames, size, size, 1).

    The label says whether two pictures move in the same or in opposite directions at the last of
    the `past` frames: the sign of the scalar product of their moves. No single frame shows it.
    """
    frames = []
    for test, names in ((False, files.train), (True, files.test)):
        for number, name in enumerate(names):
            pictures = arrays.read_idx(folder / name, (3,))
            rng = np.random.default_rng((files.seed, int(test), number))
            frames.append(_clips_of(name, pictures, files, columns, test, rng))
    return pd.concat(frames, ignore_index=True)


def _clips_of(
    name: str,
    pictures: np.ndarray,
    files: Digits,
    columns: Columns,
    test: bool,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The clips of one file of pictures, (pictures, side, side)."""
    count = round(files.clips * len(pictures))
    side = pictures.shape[1]
    if count == 0 or side != pictures.shape[2]:
        raise DataError(
            f"{name} has {len(pictures):,} pictures of {pictures.shape[2]} x {side} pixels;"
            f" expected squares, and enough for a clip, of which there are {files.clips:g} for each"
            " picture; correct `columns.files` in the conf"
        )
    # The test part has files of its own, so that its pictures need no pools.
    pools = 1 if test else min(files.pools, count, max(1, len(pictures) // files.digits))
    pool = np.arange(count) % pools
    draws = rng.random((count, files.digits))
    chosen = pool[:, None] + pools * (draws * _pool_sizes(len(pictures), pools)[pool, None]).astype(
        np.int64
    )
    paths = moved(count, files.digits, columns.length, files.step, rng)
    clips = drawn(pictures, chosen, paths.places, frame_side(side, files.room), name)
    table: dict[str, object] = {"path": [f"{name}/{clip}" for clip in range(count)]}
    if columns.target is not None:
        table[columns.target] = labels(paths, columns.past - 1)
    table["test"] = test
    if test:
        table["key"] = [hashlib.sha256(clip.tobytes()).hexdigest() for clip in clips]
    else:
        table["key"] = [f"{name}/pool {number}" for number in pool]
    table["clip"] = pd.Series(list(clips), dtype=object)
    return pd.DataFrame(table)


def _pool_sizes(pictures: int, pools: int) -> np.ndarray:
    """How many pictures each pool has, if picture i is in pool i modulo the number of pools."""
    return np.bincount(np.arange(pictures) % pools, minlength=pools)


def frame_side(picture_side: int, room: float) -> int:
    """The side of a frame in pixels, a multiple of 4."""
    return max(4 * round(picture_side * room / 4), picture_side + 1)


def moved(clips: int, digits: int, frames: int, step: float, rng: np.random.Generator) -> Paths:
    """Draw starts and directions, and move; the first frame is one step from the start."""
    place = rng.random((clips, digits, 2))
    angle = rng.random((clips, digits)) * 2 * np.pi
    velocity = step * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    places = np.empty((clips, digits, frames, 2))
    moves = np.empty((clips, digits, frames, 2))
    for frame in range(frames):
        moves[:, :, frame] = velocity
        place = place + velocity
        is_outside = (place <= 0) | (place >= 1)
        place = np.clip(place, 0, 1)
        velocity = np.where(is_outside, -velocity, velocity)
        places[:, :, frame] = place
    return Paths(places, moves)


def labels(paths: Paths, frame: int) -> np.ndarray:
    """SAME or OPPOSITE for each clip of two pictures, by their moves to this frame."""
    first = paths.moves[:, 0, frame]
    second = paths.moves[:, 1, frame]
    return np.where((first * second).sum(-1) > 0, SAME, OPPOSITE)


def drawn(
    pictures: np.ndarray, chosen: np.ndarray, places: np.ndarray, size: int, name: str = "clips"
) -> np.ndarray:
    """The frames of clips, uint8 (clips, frames, size, size, 1).

    `chosen`, (clips, digits), numbers the pictures, (pictures, side, side); `places`, (clips,
    digits, frames, 2), are in shares of the room, and cut to whole pixels.
    """
    side = pictures.shape[1]
    pixels = ((size - side) * places).astype(np.int64)
    clips = np.zeros((len(chosen), places.shape[2], size, size, 1), np.uint8)
    with Progress(f"making {name}", len(clips), "clips") as display:
        for clip, numbers in enumerate(chosen):
            if clip % CHUNK == 0:
                display.at(clip)
            for digit, number in enumerate(numbers):
                picture = pictures[number, :, :, None]
                for frame, (top, left) in zip(clips[clip], pixels[clip, digit], strict=True):
                    area = frame[top : top + side, left : left + side]
                    np.maximum(area, picture, out=area)
    return clips
