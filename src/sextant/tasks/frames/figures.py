"""Figures of next frames: the metrics by frame ahead, and strips of truth, answer and baselines."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...drawing import WIDTH, canvas, in_style, line, tooltips
from .metrics import by_frame, decoded

if TYPE_CHECKING:
    from ...kinds.clips.columns import Columns

STRIPS = 3  # clips that are shown: of a small, the median and a large error
FRAMES = 5  # of each strip
LABEL = 0.85  # of a strip, in inches
GAP = 0.04  # between two frames
HEADING = 0.3  # the title of the figure
SHOWN = {"mse": "squared error of a frame", "ssim": "structural similarity"}


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "Columns",
    baselines: Mapping[str, pd.DataFrame],
) -> dict[str, Figure]:
    """The figures by name, in reading order; `answers` are those to `rows`, the test part."""
    answers_by_name = {"model": answers, **baselines}
    scores = {name: by_frame(table, rows) for name, table in answers_by_name.items()}
    drawn = {"ahead": _ahead(scores)}
    order = np.argsort(scores["model"]["mse"].mean(1), kind="stable")
    places = np.linspace(0.1, 0.9, STRIPS) * (len(order) - 1)
    names = ("small", "median", "large")
    for name, row in zip(names, order[places.round().astype(int)], strict=True):
        error = scores["model"]["mse"][row].mean()
        drawn[f"{name}-error"] = _strips(int(row), name, error, rows, answers_by_name, columns)
    return drawn


def _ahead(scores: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Both metrics by frame ahead, of the model and each baseline."""
    figure = canvas("Error and similarity by frame ahead", height=5.2)
    for place, (metric, label) in enumerate(SHOWN.items()):
        axes = figure.add_subplot(2, 1, place + 1)
        lines = {name: values[metric].mean(0) for name, values in scores.items()}
        ahead = np.arange(1, len(lines["model"]) + 1)
        for number, (name, values) in enumerate(lines.items()):
            axes.plot(ahead, values, label=name, **line(number))
        axes.set(xlabel="frame ahead", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        tooltips(axes, ahead.tolist(), lines, "frame", ".3f")
        if place == 0:
            axes.legend()
    first, final = (scores["model"]["mse"].mean(0)[place] for place in (0, -1))
    figure.set_label(
        f"Means over {len(scores['model']['mse']):,} clips of test. The model's squared error,"
        f" summed over the pixels of a frame, grows from {first:.1f} to {final:.1f}."
    )
    return figure


def _strips(
    row: int,
    name: str,
    error: float,
    rows: pd.DataFrame,
    answers: Mapping[str, pd.DataFrame],
    columns: "Columns",
) -> Figure:
    """One clip: what was seen, what came, and what the model and each baseline drew."""
    clip = rows["clip"].iloc[row]
    future = decoded(answers["model"]["frames"].iloc[row])
    seen = _spread(clip[: columns.past])
    strips: dict[str, Sequence[np.ndarray]] = {"seen": seen}
    strips["truth"] = _spread(clip[len(clip) - len(future) :])
    for answer, table in answers.items():
        strips[answer] = _spread(decoded(table["frames"].iloc[row]))
    side = (WIDTH - LABEL) / FRAMES
    height = HEADING + len(strips) * side
    figure = canvas(f"A clip with a {name} error", height)
    figure.set_layout_engine("none")
    bottom = height - HEADING
    axes = figure.add_axes((0, 0, 1, bottom / height), xlim=(0, WIDTH), ylim=(bottom, 0))
    axes.set_axis_off()
    for down, (label, frames) in enumerate(strips.items()):
        axes.text(0.05, (down + 0.5) * side, label.replace("_", "\n"), fontsize=8, va="center")
        for along, frame in enumerate(frames):
            left = LABEL + along * side
            top = down * side
            edges = (left, left + side - GAP, top + side - GAP, top)
            axes.imshow(_colours(frame), extent=edges, interpolation="none", aspect="auto")
    axes.set(xlim=(0, WIDTH), ylim=(bottom, 0))  # imshow has set them to the last picture's
    numbers = ", ".join(str(number + 1) for number in _places(len(future)))
    figure.set_label(
        f"Frames {numbers} ahead, and as many of those that were seen, the last one at the right."
        f" The model's squared error of a frame is {error:.1f} in this clip."
    )
    return figure


def _places(frames: int) -> list[int]:
    """The frames that a strip shows, counted from 0; the last one among them."""
    count = min(FRAMES, frames)
    ends = (np.arange(1, count + 1) * frames / count).round().astype(int)
    return (ends - 1).tolist()


def _spread(frames: np.ndarray) -> list[np.ndarray]:
    return [frames[place] for place in _places(len(frames))]


def _colours(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 (size, size, channels), as RGB."""
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame
