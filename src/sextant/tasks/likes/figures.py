"""Figures of likes: a classifier's figures, metrics by length of history, hidden units.

A net with energies, such as an RBM, also gets a test for overfitting by free energy, and the
completion of one user by exact inference and Gibbs sampling.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ... import intervals, plugins
from ...drawing import COLORS, Table, canvas, in_style, tooltips
from ...kinds.ratings.rows import TARGET
from ...probability_figures import THRESHOLD, classifier_figures
from ..recommendation.figures import (
    by_history,
    example_user,
    item_index,
    most_rated,
    privacy_note,
    unit_weights,
    units_figure,
)
from ..recommendation.metrics import targets
from .metrics import contributions, likelihood

if TYPE_CHECKING:
    from ...kinds.ratings.columns import Columns
    from ...kinds.ratings.encoder import Batch, Encoder
    from ...saved_model import SavedModel

BINS = 25
# The histogram of free energies ends at these quantiles, since a few users would stretch its axis.
HISTOGRAM_ENDS = (0.005, 0.995)
FILMS = 8  # of each group in the completion of one user
CHAINS, STEPS = 20, 100  # Gibbs sampling for each film: chains, and steps of each


class EnergyNet(Protocol):
    """What the figures of energies read of a net; a net that lacks a member has no such figures.

    `codes` are ratings as in Batch: (users, items) or, of one user, (items).
    """

    def free_energy_of(self, codes: Tensor) -> Tensor:
        """F, (users), of the ratings `codes`, (users, items)."""

    def exact_log_odds(self, codes: Tensor, items: Tensor) -> Tensor:
        """Log odds, (n), that the films at the places `items`, (n), are liked, given `codes`."""

    def gibbs_log_odds(self, codes: Tensor, items: Tensor, chains: int, steps: int) -> Tensor:
        """The same by Gibbs sampling."""


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: "Columns",
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
    train: pd.DataFrame,
    val: pd.DataFrame,
) -> dict[str, Figure | Table]:
    """Figures and tables by name, of the answers of a model and of baselines to the test part."""
    encoder = cast("Encoder", model.encoder)
    all_answers = {"model": answers, **baselines}

    def auc(answers: pd.DataFrame, requests: pd.DataFrame) -> intervals.Sample:
        return contributions(answers, requests, encoder)

    def log_loss(answers: pd.DataFrame, requests: pd.DataFrame) -> intervals.Sample:
        liked = requests[TARGET].to_numpy() >= columns.like
        losses = -np.log(likelihood(answers["probability"].to_numpy(), liked))
        return intervals.mean(losses, requests[columns.user])

    drawn: dict[str, Figure | Table] = {}
    drawn |= _classifier_figures(all_answers, rows, columns)
    drawn["known"] = by_history(all_answers, rows, columns, {"AUC": auc, "log loss": log_loss})
    weights = unit_weights(model)
    if weights is not None:
        drawn["units"] = units_figure(weights, train, encoder)
    if not plugins.lacking(type(model.net), plugins.members(EnergyNet)):
        net = cast("EnergyNet", model.net)
        drawn["free_energy"] = _free_energy(net, encoder.encode(val))
        drawn["completion"] = _completion(model, net, train, rows)
    return drawn


# --- a classifier of liked and not liked --------------------------------------------------------


def _classifier_figures(
    all_answers: Mapping[str, pd.DataFrame], rows: pd.DataFrame, columns: "Columns"
) -> dict[str, Figure]:
    liked = targets(rows, columns)[TARGET] >= columns.like
    labels = pd.Series(np.where(liked, "yes", "no"), name="liked")
    scores = {}
    classified = {}
    for name, answers in all_answers.items():
        scores[name] = _binary_scores(answers, liked.to_numpy())
        classified[name] = _as_classes(answers)
    return classifier_figures(classified, scores, labels, ["no", "yes"])


def _binary_scores(answers: pd.DataFrame, liked: np.ndarray) -> dict[str, float]:
    """AUC and Brier score of the answers' probabilities."""
    from sklearn.metrics import roc_auc_score

    probability = answers["probability"].to_numpy(np.float64)
    return {
        "auroc": float(roc_auc_score(liked, probability)),
        "brier": float(((probability - liked) ** 2).mean()),
    }


def _as_classes(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers in the form of those of classification."""
    probability = answers["probability"].to_numpy()
    prediction = np.where(probability >= THRESHOLD, "yes", "no")
    return pd.DataFrame({"prediction": prediction, "probability": probability})


# --- overfitting, by free energy ----------------------------------------------------------------


def free_energy_gains(net: EnergyNet, batch: "Batch") -> tuple[Tensor, Tensor]:
    """What a train rating and what a val rating add to the free energy of the same other ratings.

    Both are (users), in nats per rating. The parts cannot be compared directly: the free energy
    grows with the number of ratings, and a train rating is seen among other train ratings. So for
    each user as many train ratings as val has are taken out at random, and either these or the val
    ratings are added to the rest. Users without a val rating, or with too few train ratings, are
    left out.
    """
    counts = (batch.target > 0).sum(1)
    usable = (counts > 0) & (counts < (batch.observed > 0).sum(1))
    # Fewer val ratings than known ones, so that some known ones remain as the rest.
    counts = counts[usable]
    train_codes, val_codes = batch.observed[usable], batch.target[usable]
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(train_codes.shape, generator=generator).masked_fill(train_codes == 0, -1.0)
    draw_ranks = draws.argsort(1, descending=True).argsort(1)
    rest = train_codes.masked_fill(draw_ranks < counts[:, None], 0)
    base = net.free_energy_of(rest)
    train = (net.free_energy_of(train_codes) - base) / counts
    val = (net.free_energy_of(torch.maximum(rest, val_codes)) - base) / counts
    return train, val


def _free_energy(net: EnergyNet, val_batch: "Batch") -> Figure:
    """Histograms over the users of the free energy that a train and a val rating add."""
    train_gains, val_gains = free_energy_gains(net, val_batch)
    train, val = train_gains.double().numpy(), val_gains.double().numpy()
    low, high = np.quantile(np.concatenate([train, val]), HISTOGRAM_ENDS)
    edges = np.linspace(low, high, BINS + 1)
    figure = canvas("Free energy: does the model overfit train?", height=3.6)
    axes = figure.add_subplot()
    shares = {}
    # The colors are those of the learning curve.
    for name, gains, color in (("train", train, COLORS[1]), ("val", val, COLORS[0])):
        counts, _ = np.histogram(np.clip(gains, edges[0], edges[-1]), edges)
        shares[name] = counts / len(gains)
        mean = gains.mean()
        label = f"{name}, mean {mean:.4f}"
        axes.stairs(shares[name], edges, color=color, linewidth=1.6, label=label)
        axes.axvline(mean, color=color, linewidth=0.8, linestyle="--")
    axes.set(xlabel="free energy added by a rating (nats)")
    axes.set(ylabel="users (fraction)", ylim=(0, None))
    centers = (edges[1:] + edges[:-1]) / 2
    tooltips(axes, centers.round(3), shares, "free energy", ".3f")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    # A paired comparison: both gains of a user have the same rest.
    gap = intervals.mean(val - train, np.arange(len(val)))
    gap_low, gap_high = intervals.interval(gap)
    figure.set_label(
        f"As many train ratings as val ratings of each of {len(val):,} users, added to the same"
        f" other ratings. A val rating adds {(val - train).mean():.4f} (95 %: {gap_low:.4f} to"
        f" {gap_high:.4f}) more than a train rating: the further above 0, the more of train the"
        " model has memorised. Dashed: means."
    )
    return figure


# --- one user, clamped --------------------------------------------------------------------------


def _completion(
    model: "SavedModel", net: EnergyNet, train: pd.DataFrame, rows: pd.DataFrame
) -> Table:
    """The clamped ratings of one user, and three estimates of the probability of others."""
    encoder = cast("Encoder", model.encoder)
    columns = encoder.columns
    history, test_rows = example_user(rows, columns)
    clamped = most_rated(history, train, encoder, FILMS)
    recommended = model.answer(history, top_k=FILMS)
    test_stars = test_rows.set_index(columns.item)[TARGET]
    recommended_stars = test_stars.reindex(recommended[columns.item]).to_numpy()
    tested = _some_tested(model, history, test_rows, recommended[columns.item])
    films = pd.concat([recommended.assign(stars=recommended_stars), tested], ignore_index=True)

    clamped_titles = np.asarray(encoder.titles, object)[item_index(clamped[columns.item], encoder)]
    clamped_rows = pd.DataFrame(
        {
            "film": clamped_titles,
            "liked": _liked(clamped[columns.rating], columns.like, "clamped: "),
        }
    )
    completed_rows = pd.DataFrame(
        {
            "film": films[columns.title],
            "liked": _liked(films["stars"], columns.like, "test: "),
            "answer": films["probability"].round(3),
            **_inferred(model, net, history, films[columns.item]),
        }
    )
    return Table(
        "One user's likes, completed from the clamped ones",
        f"A user with {len(history)} known ratings. First the {len(clamped)} of these that most"
        f" other users rated too, then the {len(recommended)} unrated films that are most probably"
        f" liked, then {len(tested)} films of the test part. Probabilities that a film is liked:"
        " the answer is the mean-field estimate, exact sums over all hidden states, and"
        f" Gibbs is the mean of {CHAINS * STEPS:,} sampling steps. All are calibrated alike."
        f"{privacy_note(model)}",
        pd.concat([clamped_rows, completed_rows], ignore_index=True),
    )


def _some_tested(
    model: "SavedModel", history: pd.DataFrame, test_rows: pd.DataFrame, listed: pd.Series
) -> pd.DataFrame:
    """Answers to some test rows, with the true `stars`, evenly spread over the ranks.

    Films of `listed` are left out, because the table has them already.
    """
    columns = model.encoder.columns
    answers = model.answer(pd.concat([history, test_rows]))
    answers = answers.assign(stars=test_rows[TARGET].to_numpy())
    answers = answers[~answers[columns.item].isin(listed)]
    answers = answers.sort_values("rank", kind="stable")
    count = min(len(answers), FILMS)
    # From the first rank to the last, since the films at either end alone would flatter the model.
    places = np.unique(np.linspace(0, len(answers) - 1, count).round().astype(int))
    return answers.iloc[places]


def _inferred(
    model: "SavedModel", net: EnergyNet, history: pd.DataFrame, items: pd.Series
) -> dict[str, np.ndarray]:
    """The calibrated probability that each film is liked, by exact inference and by sampling."""
    encoder = cast("Encoder", model.encoder)
    calibration = model.card["calibration"]
    codes = encoder.encode(history).observed[0]
    places = torch.from_numpy(item_index(items, encoder))
    log_odds = {
        "exact": net.exact_log_odds(codes, places),
        "Gibbs": net.gibbs_log_odds(codes, places, CHAINS, STEPS),
    }
    probs = {}
    for name, values in log_odds.items():
        calibrated = calibration["slope"] * values.double() + calibration["offset"]
        probs[name] = calibrated.sigmoid().numpy().round(3)
    return probs


def _liked(stars: pd.Series, like: float, prefix: str) -> np.ndarray:
    """`yes` or `no` after `prefix`, or `unknown` if there is no rating."""
    values = stars.to_numpy(float)
    labels = np.where(values >= like, f"{prefix}yes", f"{prefix}no")
    return np.where(np.isnan(values), "unknown", labels)
