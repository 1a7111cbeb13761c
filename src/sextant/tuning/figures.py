"""Two figures of a search: its history, and which settings mattered."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..drawing import COLORS, INK, canvas, in_style, short, tooltip
from .study import Trial

OUTLIERS = 1.5  # interquartile ranges beyond the quartiles; a diverged trial would flatten the rest


@in_style
def history(trials: Sequence[Trial], metric: str, up: bool, today: float | None) -> Figure:
    """The value of each trial in their order, and the best so far.

    today: the value of the trial with today's settings, if it is among them.
    """
    figure = canvas("History of the search")
    axes = figure.add_subplot()
    shown = [trial for trial in trials if trial.value is not None]
    complete = [trial for trial in shown if not trial.pruned]
    # Pruned trials have the value of an early epoch, beside which those of late ones look alike.
    low, high = _limits([trial.value or 0.0 for trial in complete or shown])
    pruned = [trial for trial in shown if trial.pruned]
    for group, color, marker, label in (
        (complete, COLORS[0], "o", "trial"),
        (pruned, INK, "x", "pruned"),
    ):
        if group:
            numbers = [trial.number for trial in group]
            clipped = np.clip([trial.value or 0.0 for trial in group], low, high)
            axes.scatter(numbers, clipped, s=16, color=color, marker=marker, label=label)
    numbers, best = _best_so_far(trials, up)
    if numbers:
        axes.step(numbers, best, where="post", color=COLORS[1], label="best so far")
    if today is not None:
        axes.axhline(today, color=COLORS[2], linestyle=":", label="today's conf")
    pad = (high - low) / 20 or 1e-9
    axes.set(xlabel="trial", ylabel=f"{metric} on val", ylim=(low - pad, high + pad))
    for trial in shown:
        text = f"trial {trial.number}: {trial.value:.4f}{', pruned' if trial.pruned else ''}"
        x = (trial.number - 0.5, trial.number + 0.5)
        tooltip(axes, x, (0, 1), text, axes.get_xaxis_transform())
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.legend()
    beyond = sum(not low <= (trial.value or 0.0) <= high for trial in shown)
    caption = f"{len(complete)} trials trained to the end, {len(trials) - len(complete)} pruned"
    if beyond:
        caption += f"; {beyond} beyond the frame are drawn on its edge"
    figure.set_label(f"{caption}. {'Higher' if up else 'Lower'} is better.")
    return figure


def _limits(shown: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest value to draw, without outliers."""
    finite = np.asarray(shown)[np.isfinite(shown)]
    if not len(finite):
        return 0.0, 1.0
    first, third = np.quantile(finite, (0.25, 0.75))
    reach = OUTLIERS * (third - first)
    low = finite[finite >= first - reach].min()
    high = finite[finite <= third + reach].max()
    return float(low), float(high)


def _best_so_far(trials: Sequence[Trial], up: bool) -> tuple[list[int], list[float]]:
    """The numbers of the trials from the first complete one on, and the best value until each."""
    numbers: list[int] = []
    best: list[float] = []
    for trial in trials:
        counts = not trial.pruned and trial.feasible and trial.value is not None
        if not counts and not best:
            continue
        values = best[-1:]
        if counts and trial.value is not None:
            values = [*values, trial.value]
        numbers.append(trial.number)
        best.append(max(values) if up else min(values))
    return numbers, best


@in_style
def importance(shares: Mapping[str, float], trials: int) -> Figure:
    """How much each setting mattered, the most important one on top.

    shares: by setting its share of all, from 0 to 1; trials: how many they were estimated from.
    """
    ordered = sorted(shares.items(), key=lambda entry: entry[1])
    figure = canvas("What mattered", height=1.4 + 0.28 * len(ordered))
    axes = figure.add_subplot()
    places = np.arange(len(ordered))
    axes.barh(places, [share for _, share in ordered], color=COLORS[0])
    axes.set_yticks(places, [short(name, 26) for name, _ in ordered])
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="share of the importance")
    for place, (name, share) in enumerate(ordered):
        text = f"{name}: {share:.3f}"
        tooltip(axes, (0, 1), (place - 0.5, place + 0.5), text, axes.get_yaxis_transform())
    figure.set_label(
        f"PED-ANOVA over {trials} complete trials: how differently a setting is spread among the"
        " best of them and among all. With fewer than some thirty trials it is rough."
    )
    return figure
