"""Figures of classification: ROC curve, calibration, confusion matrix, and more by kind of data.

A table also gets the permutation importance of its columns and a list of the most confident
mistakes. Pictures also get the worst predictions and, if the net has the members for them, Grad-CAM
maps and augmented training pictures.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ... import plugins
from ...drawing import COLORS, WIDTH, Table, canvas, in_style, short
from ...importance import Loss, importance, importance_figure
from ...kinds.parts import positive_class
from ...probability_figures import THRESHOLD, classifier_figures, label_probability
from .metrics import SMALLEST, scores

if TYPE_CHECKING:
    from ... import contracts
    from ...saved_model import SavedModel
    from .metrics import Label, Labelled, TargetColumn

MISTAKES = 10  # rows of the table of mistakes
MISTAKE_COLUMNS = 6  # the number of feature columns in it, the most important ones

# Members that a net of pictures may offer.
# `grad_cam(batch)`: the evidence for each class, (rows, classes, height, width).
GradCAM: TypeAlias = Callable[[object], Tensor]
# `augment(images)`: the images as training would see them, (rows, channels, height, width) in 0..1.
Augment: TypeAlias = Callable[[Tensor], Tensor]


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "TargetColumn",
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel | None" = None,
    train: pd.DataFrame | None = None,
) -> dict[str, Figure | Table]:
    """Return figures and tables by name, in reading order.

    `answers` and those of each baseline are the answers to `rows`, in the same order. Without
    `model`, the figures that need it are left out; `train` is what it was trained on.
    """
    truth = rows[columns.target]
    classes = _positive_last(sorted(truth.unique().tolist()), columns.positive)
    threshold = THRESHOLD
    if model is not None:
        threshold = model.card.get("calibration", {}).get("threshold", THRESHOLD)
    answers_by_name = {"model": answers, **baselines}
    scores_by_name = {}
    for name, table in answers_by_name.items():
        scores_by_name[name] = scores(table, truth, classes)
    drawn: dict[str, Figure | Table] = {}
    drawn |= classifier_figures(answers_by_name, scores_by_name, truth, classes, threshold)
    truth_probs = label_probability(answers, truth, classes)
    if "image" in rows:
        drawn["worst"] = worst(rows, answers, truth_probs, columns.target)
    if model is None:
        return drawn
    features: list[str] = plugins.optional(columns, "features", [])
    if features:
        rises = importance(model.answer, rows, features, _log_loss(columns.target, classes))
        drawn["importance"] = importance_figure(rises, "log loss")
        important = [str(name) for name in rises][:MISTAKE_COLUMNS]
        drawn |= _mistakes(answers, rows, truth, classes, important)
    maps_of: GradCAM | None = plugins.optional(model.net, "grad_cam", None)
    if maps_of:
        drawn["grad_cam"] = grad_cam(
            maps_of, model.encoder, rows, answers, truth_probs, columns.target
        )
    augment: Augment | None = plugins.optional(model.net, "augment", None)
    if augment and train is not None:
        drawn["augmentation"] = augmentation(augment, model.encoder, train, columns.target)
    return drawn


def _positive_last(classes: "list[Label]", positive: "Label | None") -> "list[Label]":
    """The classes in sorted order; of two, the one that `probability` is about is the last."""
    if len(classes) == 2 and positive_class(classes, positive) == classes[0]:
        return classes[::-1]
    return classes


def _log_loss(target: str, classes: "Sequence[Label]") -> Loss:
    """The log loss of each row, as a function of answers and rows."""

    def loss(answers: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
        probs = label_probability(answers, rows[target], classes)
        return -np.log(np.clip(probs, SMALLEST, 1))

    return loss


# --- the most confident mistakes of a table -----------------------------------------------------


def _mistakes(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    truth: pd.Series,
    classes: "Sequence[Label]",
    important: Sequence[str],
) -> dict[str, Table]:
    """The wrong predictions of the highest probability, with the `important` columns.

    Empty if no prediction is wrong.
    """
    predictions = answers["prediction"]
    wrong = np.flatnonzero(predictions.to_numpy() != truth.to_numpy())
    if not len(wrong):
        return {}
    probs = pd.Series(label_probability(answers, predictions, classes))
    # Stable, so that rows of the same probability stay in the order of the file.
    surest = wrong[np.argsort(-probs.to_numpy()[wrong], kind="stable")][:MISTAKES]
    table: dict[str, Any] = {
        f"true {truth.name}": truth.iloc[surest].to_numpy(),
        "predicted": predictions.iloc[surest].to_numpy(),
        "probability": probs.iloc[surest].round(3).to_numpy(),
    }
    for name in important:
        table[name] = _legible(rows[name]).iloc[surest].to_numpy()
    caption = (
        f"{len(wrong):,} of {len(rows):,} test rows are predicted wrongly. These are the"
        f" {len(surest)} with the highest probability of the wrong class, with the"
        f" {len(important)} most important columns."
    )
    return {"mistakes": Table("Most confident mistakes", caption, pd.DataFrame(table))}


def _legible(values: pd.Series) -> pd.Series:
    """Round floats to three significant digits of their standard deviation.

    They become integers if no fraction is left of them.
    """
    if not pd.api.types.is_float_dtype(values):
        return values
    digits = 3
    spread = float(values.std())
    if spread > 0:
        digits = max(0, 2 - math.floor(math.log10(spread)))
    if digits == 0:
        return values.round().astype("Int64")
    return values.round(digits)


# --- pictures -----------------------------------------------------------------------------------

# Pixels of the longer side, whatever the net reads: sharp on a screen of high resolution, and small
# in a page.
SIDE = 128
WORST = (3, 4)  # rows and columns of the sheet of worst predictions
GRAD_CAM = 4  # right answers, and as many mistakes
AUGMENTED = 4  # training pictures
AUGMENTATIONS = 5  # of each
SEED = 0
# Of a sheet, in inches.
HEADING = 0.3  # the title of the figure
TITLE_LINE = 0.14  # a line of a picture's title
GAP = 0.08  # between two pictures


def worst(
    rows: pd.DataFrame, answers: pd.DataFrame, truth_probs: np.ndarray, target: str
) -> Figure:
    """Draw the pictures whose true class got the least probability, with both.

    `truth_probs`, (rows,), is the probability of each row's true class.
    """
    chosen = np.argsort(truth_probs, kind="stable")[: np.prod(WORST)]
    titles = []
    for i in chosen:
        title = f"{_title_word(rows[target].iloc[i])}: {truth_probs[i]:.1%}"
        if "path" in rows:
            title = f"{_title_word(PurePosixPath(rows['path'].iloc[i]).stem)}\n{title}"
        titles.append(title)
    wrong = answers["prediction"].to_numpy() != rows[target].to_numpy()
    images = _images(rows, chosen)
    figure = _sheet("Worst predictions: true class least likely", 4.7, WORST, images, titles)
    figure.set_label(
        f"{int(wrong.sum())} of {len(rows)} pictures are predicted wrongly. Above each of the"
        f" {len(chosen)} worst: its file, its true class ({target}) and the predicted probability"
        " of that class."
    )
    return figure


def grad_cam(
    maps_of: GradCAM,
    encoder: "contracts.Encoder",
    rows: pd.DataFrame,
    answers: pd.DataFrame,
    truth_probs: np.ndarray,
    target: str,
) -> Figure:
    """Draw eight pictures, each beside the map of the evidence for its predicted class.

    Four are the most confident right answers, four the worst mistakes.
    """
    truth = rows[target]
    # The most confident of each class in turn: otherwise an easy class would fill all four places.
    rank = pd.Series(-truth_probs).groupby(truth.to_numpy()).rank(method="first").to_numpy()
    right = np.lexsort((-truth_probs, rank))[:GRAD_CAM]
    mistaken = np.argsort(truth_probs, kind="stable")[:GRAD_CAM]
    chosen = np.concatenate([right, mistaken])
    predictions = answers["prediction"].iloc[chosen].tolist()
    heat = _heat_maps(maps_of, encoder, rows.iloc[chosen], predictions)
    pictures = []
    titles = []
    for image, i, label, evidence in zip(
        _images(rows, chosen), chosen, predictions, heat, strict=True
    ):
        # A map without any evidence has no range to divide by.
        scaled = (evidence - evidence.min()) / (np.ptp(evidence) or 1.0)
        pictures += [image, _heated(image, scaled)]
        titles.append(f"{_title_word(truth.iloc[i])}: {truth_probs[i]:.1%}")
        titles.append(f"for {_title_word(label)}")
    figure = _sheet(
        "Grad-CAM: evidence for the predicted class", 5.4, (GRAD_CAM, 4), pictures, titles
    )
    figure.set_label(
        "Upper half: the most confident right answers of each class; lower half: the worst"
        f" mistakes. Above each picture: its true class ({target}) and the predicted probability"
        " of that class. Beside it: the evidence for the predicted class, stronger where the"
        " orange is deeper."
    )
    return figure


def _heat_maps(
    maps_of: GradCAM, encoder: "contracts.Encoder", rows: pd.DataFrame, labels: "Sequence[Label]"
) -> np.ndarray:
    """The evidence for the label of each row, at least 0, (rows, SIDE, SIDE)."""
    maps = maps_of(encoder.encode(rows))
    classes = pd.Index(cast("Labelled", encoder).classes)
    maps = maps[np.arange(len(rows)), classes.get_indexer(pd.Index(labels))]
    scaled = F.interpolate(maps[:, None].float(), SIDE, mode="bicubic")
    return scaled.clamp(min=0)[:, 0].numpy()


def augmentation(
    augment: Augment, encoder: "contracts.Encoder", train: pd.DataFrame, target: str
) -> Figure:
    """Draw a few training pictures, each as it is and augmented as in training."""
    # By the number of each row within its class, so that the classes take turns.
    order = np.argsort(train.groupby(target).cumcount().to_numpy(), kind="stable")
    chosen = order[:AUGMENTED]
    images = encoder.encode(train.iloc[chosen]).image.float() / 255
    # A fixed seed, so that the figure is the same on every run; the generator of the process is
    # restored.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        augmented = augment(images.repeat_interleave(AUGMENTATIONS, 0))
    augmented = augmented.view(len(images), AUGMENTATIONS, *images.shape[1:])
    sheet = torch.cat([images[:, None], augmented], 1).flatten(0, 1)
    pixels = (255 * sheet).round().byte().permute(0, 2, 3, 1).numpy()
    titles = []
    for i in chosen:
        titles += [_title_word(train[target].iloc[i]), *[""] * AUGMENTATIONS]
    figure = _sheet(
        "Augmentation of training pictures",
        3.7,
        (AUGMENTED, AUGMENTATIONS + 1),
        [_resized(image) for image in pixels],
        titles,
    )
    figure.set_label(
        f"Left: {len(images)} training pictures. Beside each: {AUGMENTATIONS} random augmentations"
        " of it, as in training."
    )
    return figure


def _sheet(
    title: str,
    height: float,
    shape: tuple[int, int],
    images: Sequence[np.ndarray],
    titles: Sequence[str],
) -> Figure:
    """A sheet of pictures with titles, row by row; places without a picture stay empty.

    All are on the same axes, whose unit is the inch: axes of their own, with their ticks, would
    take most of the time of the figure.
    """
    figure = canvas(title, height)
    figure.set_layout_engine("none")
    bottom = height - HEADING
    axes = figure.add_axes((0, 0, 1, bottom / height), xlim=(0, WIDTH), ylim=(bottom, 0))
    axes.set_axis_off()
    rows, cols = shape
    lines = max(text.count("\n") for text in titles) + 1
    above = lines * TITLE_LINE
    side = min(WIDTH / cols, bottom / rows - above) - GAP
    for place, (image, text) in enumerate(zip(images, titles, strict=True)):
        down, along = divmod(place, cols)
        x = (along + 0.5) * WIDTH / cols
        y = down * bottom / rows + above + side / 2
        half_height = side / 2 * image.shape[0] / SIDE
        half_width = side / 2 * image.shape[1] / SIDE
        edges = (x - half_width, x + half_width, y + half_height, y - half_height)
        axes.imshow(image, extent=edges, interpolation="none", clip_on=False, aspect="auto")
        axes.text(x, y - half_height - GAP / 2, text, fontsize=8, ha="center", va="bottom")
    axes.set(xlim=(0, WIDTH), ylim=(bottom, 0))  # imshow has set them to the last picture's
    return figure


def _title_word(name: object) -> str:
    return short(str(name), 12)  # no more fits above a picture


def _images(rows: pd.DataFrame, chosen: np.ndarray) -> list[np.ndarray]:
    return [_resized(rows["image"].iloc[i]) for i in chosen]


def _resized(image: np.ndarray) -> np.ndarray:
    """A picture in uint8, (height, width, channels), as RGB whose longer side is SIDE pixels."""
    height, width, channels = image.shape
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(image[..., 0] if channels == 1 else image).convert("RGB")
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def _heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture in grey, tinted in orange where `heat`, (SIDE, SIDE) in 0..1, is high."""
    orange = np.array([int(COLORS[1][i : i + 2], 16) for i in (1, 3, 5)])
    grey = image.mean(2, keepdims=True)
    tint = 0.75 * heat[..., None]
    return ((1 - tint) * grey + tint * orange).round().astype(np.uint8)
