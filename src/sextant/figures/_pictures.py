"""What a classifier of pictures is looked at for: its worst mistakes, where it looks, how training sees a picture.

Rows have an `image`, uint8 (height, width, channels). `own` is the probability that each row's true class was given.
"""

from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional as F

from . import COLORS, canvas, short

SIDE = 128  # pixels of a side as shown, whatever the net reads: sharp on a fine screen, and small in a page
WORST = 3, 4  # rows and columns of pictures
LOOKED = 4  # mistakes, and as many right answers, of which is shown where the net looks
SEEN = 4, 5  # training pictures, and how often each is augmented
SEED = 0


def worst(rows: pd.DataFrame, answers: pd.DataFrame, own: np.ndarray, target: str) -> Figure:
    """The pictures whose true class was given the least probability, each with that class and probability."""
    chosen = np.argsort(own, kind="stable")[: np.prod(WORST)]
    names = [f"{_word(PurePosixPath(path).stem)}\n" for path in rows.get("path", [])]
    told = [
        (names[i] if names else "") + f"{_word(rows[target].iloc[i])}: {own[i]:.1%}" for i in chosen
    ]
    wrong = answers["prediction"].to_numpy() != rows[target].to_numpy()
    figure = _sheet(
        "Worst mistakes: the truth thought unlikely", 4.7, WORST, _images(rows, chosen), told
    )
    figure.set_label(
        f"{int(wrong.sum())} of {len(rows)} are mistaken. Of each of the {len(chosen)} worst: its file, what it shows"
        f" ({target}), and the probability that this was given."
    )
    return figure


def grad_cam(
    model: Any, rows: pd.DataFrame, answers: pd.DataFrame, own: np.ndarray, target: str
) -> Figure:
    """Beside each of eight pictures where the evidence for the class is that it was taken for."""
    truth, order = rows[target], np.argsort(own, kind="stable")
    # The surest of each class in turn: a class that is easier must not fill all places.
    place = pd.Series(-own).groupby(truth.to_numpy()).rank(method="first").to_numpy()
    chosen = [*np.lexsort((-own, place))[:LOOKED], *order[:LOOKED]]
    taken = answers["prediction"].iloc[chosen].tolist()
    maps = model.net.grad_cam(model.encoder.encode(rows.iloc[chosen]))
    maps = maps[np.arange(len(chosen)), pd.Index(model.encoder.classes).get_indexer(taken)]
    heat = F.interpolate(maps[:, None].float(), SIDE, mode="bicubic").clamp(min=0)[:, 0].numpy()
    pictures, told = [], []
    for image, i, label, one in zip(_images(rows, chosen), chosen, taken, heat, strict=True):
        pictures += [image, _heated(image, (one - one.min()) / (np.ptp(one) or 1.0))]
        told += [f"{_word(truth.iloc[i])}: {own[i]:.1%}", f"as {_word(label)}"]
    figure = _sheet("Grad-CAM: where it looks", 5.4, (LOOKED, 4), pictures, told)
    figure.set_label(
        f"Above the surest answers of each class, below the worst mistakes: what each picture shows ({target}) and the"
        " probability that this was given; beside it what it was taken for, the deeper the orange the more for that."
    )
    return figure


def augmentation(model: Any, train: pd.DataFrame, target: str) -> Figure:
    """A few training pictures, each as it is and as training may meet it."""
    pictures, times = SEEN
    chosen = np.argsort(train.groupby(target).cumcount().to_numpy(), kind="stable")[
        :pictures
    ]  # a class after another
    x = model.encoder.encode(train.iloc[chosen]).image.float() / 255
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        seen = model.net.augment(x.repeat_interleave(times, 0))
    both = torch.cat([x[:, None], seen.view(len(x), times, *x.shape[1:])], 1).flatten(0, 1)
    images = [_shown(image) for image in (255 * both).round().byte().permute(0, 2, 3, 1).numpy()]
    told = [
        _word(train[target].iloc[i]) if k == 0 else "" for i in chosen for k in range(times + 1)
    ]
    figure = _sheet("Augmentation: what training sees", 3.7, (pictures, times + 1), images, told)
    figure.set_label(
        f"Left {len(x)} training pictures, beside each {times} of the ways in which training may meet it."
    )
    return figure


def _sheet(
    title: str, height: float, shape: tuple[int, int], images: list[np.ndarray], told: list[str]
) -> Figure:
    figure = canvas(title, height)
    every = figure.subplots(*shape, squeeze=False).ravel()
    for axes in every:
        axes.set_axis_off()
    for axes, image, words in zip(every, images, told, strict=False):
        axes.imshow(image, interpolation="none", clip_on=False)
        axes.set_title(words, fontsize=8, pad=3)
    return figure


def _word(name: Any) -> str:
    return short(str(name), 12)  # what fits above a picture


def _images(rows: pd.DataFrame, chosen: Any) -> list[np.ndarray]:
    return [_shown(rows["image"].iloc[i]) for i in chosen]


def _shown(image: np.ndarray) -> np.ndarray:
    """A picture as the page shows it: uint8, its longer side SIDE pixels, in colours whatever its channels."""
    height, width, channels = image.shape
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(image[..., 0] if channels == 1 else image).convert("RGB")
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def _heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture in grey, tinted where `heat`, (SIDE, SIDE) of 0..1, is high."""
    color = np.array([int(COLORS[1][i : i + 2], 16) for i in (1, 3, 5)])
    grey = image.mean(2, keepdims=True)
    tint = 0.75 * heat[..., None]
    return ((1 - tint) * grey + tint * color).round().astype(np.uint8)
