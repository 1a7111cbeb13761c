"""Liked or not, to look at: a classifier of pairs, by how much is known of the user, what its units know; of a net
with energies also whether it knows train by heart, and what it makes of one user."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import intervals, plugins
from ...drawing import COLORS, Table, canvas, in_style, tell_along
from ...kinds.ratings.rows import TARGET
from ...probability_figures import HALF, classifier_figures
from ..recommendation.figures import best_known, by_known, caution, places, somebody, units
from ..recommendation.metrics import truth
from .metrics import contributions

BINS = 25
SHOWN = 8  # films of each sort of one user
CHAINS, STEPS = 20, 100  # Gibbs sampling for each film: chains, and steps of each


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: Any,
    baselines: Mapping[str, pd.DataFrame],
    model: Any = None,
    train: Any = None,
    val: Any = None,
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` and those of each baseline are to what `rows` asks, in the same order."""
    liked = truth(rows, columns)[TARGET] >= columns.like
    labels = pd.Series(np.where(liked, "yes", "no"), name="liked")
    everyone = {"model": answers, **baselines}
    scores = {name: _binary_scores(given, liked.to_numpy()) for name, given in everyone.items()}
    as_classes = {name: _classes(given) for name, given in everyone.items()}
    found: dict[str, Figure | Table] = {}
    found |= classifier_figures(as_classes, scores, labels, ["no", "yes"])
    asked = SimpleNamespace(columns=columns)  # what `contributions` reads of an encoder
    metrics = {
        "AUC": lambda given, questions: contributions(given, questions, asked),
        "log loss": _log_loss(columns),
    }
    found |= {
        "known": by_known({"model": answers, **baselines}, rows, columns, metrics),
        **units(model, train),
    }
    if model is not None and plugins.optional(model.net, "free_energy_of", None):
        found["free_energy"] = _free_energy(model, val)
        found["completion"] = _completion(model, train, rows, columns)
    return found


def _binary_scores(given: pd.DataFrame, liked: np.ndarray) -> dict[str, float]:
    """AUC and Brier score of the answers' probabilities."""
    from sklearn.metrics import roc_auc_score

    probability = given["probability"].to_numpy(np.float64)
    return {
        "auroc": float(roc_auc_score(liked, probability)),
        "brier": float(((probability - liked) ** 2).mean()),
    }


def _classes(given: pd.DataFrame) -> pd.DataFrame:
    probability = given["probability"].to_numpy()
    prediction = np.where(probability >= HALF, "yes", "no")
    return pd.DataFrame({"prediction": prediction, "probability": probability})


def _log_loss(columns: Any) -> Any:
    def sample(given: pd.DataFrame, questions: pd.DataFrame) -> intervals.Sample:
        liked = questions[TARGET].to_numpy() >= columns.like
        p = given["probability"].to_numpy()
        return intervals.mean(
            -np.log(np.clip(np.where(liked, p, 1 - p), 1e-15, 1)), questions[columns.user]
        )

    return sample


# --- free energy ------------------------------------------------------------------------------------------------------


def added(net: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """What a rating of train and what one of val adds to the free energy of the same others, (users) each.

    F itself grows with the ratings of a user, and a rating of train stands among others of train. So of each user as
    many ratings of train are set aside, at random, as val has, and both are added to the rest.
    """
    known, target = batch.known, batch.target
    count = (target > 0).sum(1)
    some = (count > 0) & (count < (known > 0).sum(1))
    known, target, count = known[some], target[some], count[some]
    draw = torch.rand(known.shape, generator=torch.Generator().manual_seed(0)).masked_fill(
        known == 0, -1.0
    )
    rest = known.masked_fill(draw.argsort(1, descending=True).argsort(1) < count[:, None], 0)
    least = net.free_energy_of(rest)
    train, val = (
        (net.free_energy_of(codes) - least) / count
        for codes in (known, torch.maximum(rest, target))
    )
    return train, val


def _free_energy(model: Any, val: pd.DataFrame) -> Figure:
    """How `added` is spread over the users, of train and of val."""
    train, held = (
        values.double().numpy() for values in added(model.net, model.encoder.encode(val))
    )
    low, high = np.quantile(np.concatenate([train, held]), (0.005, 0.995))
    edges = np.linspace(low, high, BINS + 1)
    figure = canvas("Free energy: is train known by heart?", height=3.6)
    axes, middle, shares = figure.add_subplot(), (edges[1:] + edges[:-1]) / 2, {}
    for name, values, color in (
        ("train", train, COLORS[1]),
        ("val", held, COLORS[0]),
    ):  # as in the learning curve
        shares[name] = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
        axes.stairs(
            shares[name],
            edges,
            color=color,
            linewidth=1.6,
            label=f"{name}, mean {values.mean():.4f}",
        )
        axes.axvline(values.mean(), color=color, linewidth=0.8, linestyle="--")
    axes.set(
        xlabel="free energy that a rating adds (nats)", ylabel="users (fraction)", ylim=(0, None)
    )
    tell_along(axes, middle.round(3), shares, "free energy", ".3f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    gap = intervals.mean(held - train, np.arange(len(held)))
    low, high = intervals.interval(gap)
    figure.set_label(
        f"Of {len(held):,} users, as many ratings of train as of val, each added to the same others. One of val adds"
        f" {(held - train).mean():.4f} (95 %: {low:.4f} to {high:.4f}) more than one of train: the further above 0, the"
        " more of train is learnt by heart. Dashed: means."
    )
    return figure


# --- one user, clamped ------------------------------------------------------------------------------------------------


def _completion(model: Any, train: pd.DataFrame, rows: pd.DataFrame, columns: Any) -> Table:
    """What is known of one user, and three ways to how probably other films are liked."""
    known, asked = somebody(rows, columns)
    encoder, calibration = model.encoder, model.card["calibration"]
    given = best_known(known, train, encoder, SHOWN)
    unseen = model.answer(known, top_k=SHOWN)
    found = model.answer(pd.concat([known, asked])).assign(stars=asked[TARGET].to_numpy())
    found = found[~found[columns.item].isin(unseen[columns.item])].sort_values(
        "rank", kind="stable"
    )
    spread = np.unique(np.linspace(0, len(found) - 1, min(len(found), SHOWN)).round().astype(int))
    stars = asked.set_index(columns.item)[TARGET].reindex(unseen[columns.item]).to_numpy()
    shown = pd.concat([unseen.assign(stars=stars), found.iloc[spread]], ignore_index=True)
    codes, items = (
        encoder.encode(known).known[0],
        torch.from_numpy(places(shown[columns.item], encoder)),
    )
    odds = {
        "exact": model.net.exact_log_odds(codes, items),
        "Gibbs": model.net.gibbs_log_odds(codes, items, CHAINS, STEPS),
    }
    ways = {
        name: (calibration["slope"] * values.double() + calibration["offset"])
        .sigmoid()
        .numpy()
        .round(3)
        for name, values in odds.items()
    }
    titles = np.asarray(encoder.titles, object)[places(given[columns.item], encoder)]
    clamped = {"film": titles, "liked": _liked(given[columns.rating], "clamped: ", columns)}
    completed = {"film": shown[columns.title], "liked": _liked(shown["stars"], "test: ", columns)}
    completed |= {"answer": shown["probability"].round(3), **ways}
    return Table(
        "One user completed: what is known is clamped, the rest follows",
        f"A user of whom {len(known)} ratings are known. First the {len(given)} of these that most others rated too,"
        f" then {len(unseen)} unseen films most probably liked, then {len(spread)} of those that test asks about. The"
        " answer is the mean-field probability; exact has the hidden units summed out, Gibbs is the mean of"
        f" {CHAINS * STEPS:,} steps; all three calibrated alike.{caution(model)}",
        pd.concat([pd.DataFrame(clamped), pd.DataFrame(completed)], ignore_index=True),
    )


def _liked(stars: Any, whence: str, columns: Any) -> Any:
    said = np.where(np.asarray(stars) >= columns.like, f"{whence}yes", f"{whence}no")
    return np.where(np.isnan(np.asarray(stars, float)), "not known", said)
