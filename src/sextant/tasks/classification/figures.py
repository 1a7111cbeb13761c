"""Figures of classification: how well it ranks, whether its probabilities hold, what it mixes up.

For a table also the importance of its columns and the surest mistakes as rows; for pictures the pictures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional as F

from ... import plugins
from ...drawing import COLORS, INK, Table, canvas, in_style, short, tell
from ...probability_figures import classifier_figures, given_probability
from .metrics import score

MISTAKES, TELLING = 10, 6  # rows and columns of the table of mistakes


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any = None,
    train: Any = None,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` and those of each baseline are to the same `rows`, in the same order.

    Those that ask the model again need `model`, and what it was trained on as `train`.
    """
    truth = rows[columns.target]
    classes = sorted(truth.unique().tolist())
    everyone = {"model": answers, **baselines}
    asked = SimpleNamespace(columns=columns, classes=classes)  # what `score` reads of an encoder
    scores = {name: score(given, rows, asked) for name, given in everyone.items()}
    found: dict[str, Figure | Table] = {}
    found |= classifier_figures(everyone, scores, truth, classes)
    own = given_probability(answers, truth, classes)
    if "image" in rows:
        found["worst"] = worst(rows, answers, own, columns.target)
    features = plugins.optional(columns, "features", None)
    if features and model is not None:
        rises = importance(model.answer, rows, columns.features, _log_loss(columns.target, classes))
        found["importance"] = importance_figure(rises, "log loss")
        found |= _mistakes(answers, rows, truth, classes, list(map(str, rises))[:TELLING])
    if model is not None and plugins.optional(model.net, "grad_cam", None):
        found["grad_cam"] = grad_cam(model, rows, answers, own, columns.target)
    if model is not None and plugins.optional(model.net, "augment", None):
        found["augmentation"] = augmentation(model, train, columns.target)
    return found


def _mistakes(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    truth: pd.Series,
    classes: list[Any],
    telling: Sequence[str],
) -> dict[str, Table]:
    """The rows that were answered wrongly with most certainty, where any were, in the columns that tell most."""
    prediction = answers["prediction"]
    wrong = np.flatnonzero(prediction.to_numpy() != truth.to_numpy())
    if not len(wrong):
        return {}
    sure = pd.Series(given_probability(answers, prediction, classes))
    surest = wrong[np.argsort(-sure.to_numpy()[wrong], kind="stable")][:MISTAKES]
    found = pd.DataFrame(
        {
            f"true {truth.name}": truth.iloc[surest].to_numpy(),
            "predicted": prediction.iloc[surest].to_numpy(),
            "probability": sure.iloc[surest].round(3).to_numpy(),
            **{name: _legible(rows[name]).iloc[surest].to_numpy() for name in telling},
        }
    )
    says = (
        f"{len(wrong):,} of {len(rows):,} test rows are mistaken; these are the {len(found)} whose wrong class was"
        f" given most probability, in the {len(telling)} columns that tell the model most."
    )
    return {"mistakes": Table("The surest mistakes", says, found)}


def _log_loss(target: str, classes: list[Any]) -> "Loss":
    """What each row adds to the log loss."""
    return lambda answers, rows: (
        -np.log(np.clip(given_probability(answers, rows[target], classes), 1e-15, 1))
    )


def _legible(values: pd.Series) -> pd.Series:
    """Numbers to three digits of how far they spread, whole ones where that leaves no fraction."""
    if not pd.api.types.is_float_dtype(values):
        return values
    spread = float(values.std())
    digits = max(0, 2 - math.floor(math.log10(spread))) if spread > 0 else 3
    return values.round(digits) if digits else values.round().astype("Int64")


# --- permutation importance ---

REPEATS = 5
ASKED, LEAST = (
    4000,
    50,
)  # answers in a repeat over all columns, and rows at least: a third of a second for the ann
BARS = 20  # columns shown

Answer = Callable[[pd.DataFrame], pd.DataFrame]
Loss = Callable[[pd.DataFrame, pd.DataFrame], np.ndarray]


def importance(
    answer: Answer, rows: pd.DataFrame, columns: Sequence[str], loss: Loss, repeats: int = REPEATS
) -> pd.DataFrame:
    """By how much the mean `loss(answers, rows)` rises when a column is shuffled: (repeats, columns), most first.

    Each repeat draws its own rows, so that the spread over repeats is also that of the rows. `loss` gives one value a
    row.
    """
    n = min(len(rows), max(LEAST, ASKED // len(columns)))
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        drawn = rows.sample(n, random_state=rng).reset_index(drop=True)
        shuffled = [
            drawn.assign(**{name: rng.permutation(drawn[name].to_numpy())}) for name in columns
        ]
        as_it_is, *others = (float(loss(answer(each), each).mean()) for each in (drawn, *shuffled))
        found.append(np.subtract(others, as_it_is))
    rises = pd.DataFrame(found, columns=list(columns))
    return rises[rises.mean().sort_values(ascending=False, kind="stable").index]


def importance_figure(rises: pd.DataFrame, metric: str) -> Figure:
    """What `importance` found, a bar a column."""
    shown = rises.iloc[:, :BARS]
    names, at = list(map(str, shown)), np.arange(shown.shape[1])
    mean, low, high = (getattr(shown, name)().to_numpy() for name in ("mean", "min", "max"))
    drawn = canvas("Importance: what it cannot do without", height=1.3 + 0.24 * len(at))
    axes = drawn.add_subplot()
    axes.barh(at, mean, color=COLORS[0], alpha=0.6)
    axes.hlines(at, low, high, color=INK, linewidth=1.4)
    axes.set_yticks(at, [short(name, 24) for name in names])
    axes.set(
        xlabel=f"rise of {metric} when the column is shuffled",
        ylabel="column",
        ylim=(len(at) - 0.4, -0.6),
    )
    axes.grid(False, axis="y")
    for i, name in enumerate(names):
        words = f"{name}: {metric} {mean[i]:+.4f}; {len(shown)} repeats from {low[i]:+.4f} to {high[i]:+.4f}"
        tell(axes, (0, 1), (i - 0.5, i + 0.5), words, axes.get_yaxis_transform())
    left_out = f" The {len(at)} of {rises.shape[1]} columns that matter most." * (
        len(at) < rises.shape[1]
    )
    first = ", ".join(f"{name} {rise:.4f}" for name, rise in zip(names[:3], mean, strict=False))
    drawn.set_label(
        f"Rise of {metric} when one column of test rows is shuffled; most: {first}."
        f" Bars: mean of {len(shown)} repeats, lines: least to most of them.{left_out}"
    )
    return drawn


# --- pictures ---

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
