"""Approval of credit applications, by nested cross-validation.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/hybrid.py

Ten outer folds with the same share of approvals. Each fold is answered by models that did not see
it: a tenth of the rows outside of it, again with the same share, is val, which selects the epoch
and the temperature, and the rest is train. The size of the map and what the net reads of it are
chosen by five inner folds of the rows outside, by the mean log loss; other settings are those of
the conf. `ann` is the same net without the map. Both are trained with three seeds, which draw val
anew. The baselines are fitted on all rows outside of the fold, but for gradient boosting, whose
size val chooses. Writes results/hybrid.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sextant import config, plugins
from sextant.errors import run
from sextant.published import cells, publish, read_rows, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.tasks.classification import metrics as classification
from sextant.terminal import progress

FOLDS = 10
INNER_FOLDS = 5
SEED = 0
SEEDS = range(3)
OVERRIDES = ["source=mirror", "budget=standard"]
SMALL = ["model.net.rows=4", "model.net.cols=4", "model.net.sigma=2.0"]
LARGE = ["model.net.rows=8", "model.net.cols=8", "model.net.sigma=4.0"]
ALL = "model.net.reads=[place,distances,surprise]"
CANDIDATES = {
    "4 x 4, all": [*SMALL, ALL],
    "4 x 4, distances": [*SMALL, "model.net.reads=[distances]"],
    "8 x 8, all": [*LARGE, ALL],
}
WITHOUT_MAP = ["model.net.reads=[]"]
COLUMNS = ("accuracy", "auroc", "log_loss", "brier")
PAGE = Path(__file__).with_suffix(".md")


class OfFold(NamedTuple):
    """Of an outer fold: the answers by method and seed, and the settings that were chosen."""

    answers: dict[tuple[str, int], pd.DataFrame]
    chosen: str


def folds_of(target: pd.Series, count: int, seed: int) -> np.ndarray:
    """The fold of each row, (rows), 0 to count - 1; each has the same share of every label."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(target), int)
    for label in np.unique(target):
        places = rng.permutation(np.flatnonzero(target == label))
        folds[places] = np.arange(len(places)) % count
    return folds


def parts_of(data: config.DatasetConf, rows: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """The rows as train and val, which is a tenth of them."""
    is_val = folds_of(rows[data.columns.target], FOLDS, seed) == 0
    return {"train": rows[~is_val], "val": rows[is_val]}


def conf_of(overrides: Sequence[str], seed: int) -> config.ModelConf:
    """The model with other settings."""
    return config.model("hybrid", [*OVERRIDES, *overrides, f"seed={seed}"], shelf=True)


def inner_loss(
    data: config.DatasetConf, rows: pd.DataFrame, overrides: Sequence[str], seed: int
) -> float:
    """The mean log loss of settings over the inner folds of `rows`."""
    folds = folds_of(rows[data.columns.target], INNER_FOLDS, seed)
    losses = []
    for fold in range(INNER_FOLDS):
        parts = parts_of(data, rows[folds != fold], seed)
        model = trained(conf_of(overrides, seed), data, parts)
        held_out = rows[folds == fold]
        losses.append(model.score(model.answer(held_out), held_out)["log_loss"])
    return float(np.mean(losses))


def answers_of_fold(
    data: config.DatasetConf, rows: pd.DataFrame, test: pd.DataFrame, fold: int
) -> OfFold:
    """The answers of every method to the rows of an outer fold, `test`, from the other `rows`."""
    losses = {}
    for name, overrides in CANDIDATES.items():
        losses[name] = inner_loss(data, rows, overrides, fold)
    chosen = min(losses, key=lambda name: losses[name])
    answers = {}
    for seed in SEEDS:
        parts = parts_of(data, rows, FOLDS * seed + fold)
        for name, overrides in (("hybrid", CANDIDATES[chosen]), ("ann", WITHOUT_MAP)):
            model = trained(conf_of(overrides, FOLDS * seed + fold), data, parts)
            answers[name, seed] = model.answer(test)
    parts = parts_of(data, rows, fold)
    for name, fit in model.task.baselines(data.kind, ["random_forest"]).items():
        fitted_on = parts if plugins.takes(fit, "val") else {**parts, "train": rows}
        answers[name, 0] = model.fit_baseline(fit, fitted_on)(test)
    tables = {key: table.set_axis(test.index) for key, table in answers.items()}
    return OfFold(tables, chosen)


def page(
    answers: Mapping[tuple[str, int], pd.DataFrame], truth: pd.Series, chosen: Sequence[str]
) -> str:
    """The table, as Markdown."""
    classes = sorted(truth.unique().tolist())
    table = [f"| method | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    scores: dict[str, list[dict[str, float]]] = {}
    for (name, _), of_seed in answers.items():
        scores.setdefault(name, []).append(classification.scores(of_seed, truth, classes))
    for name, of_seeds in scores.items():
        table.append(f"| {name} | {' | '.join(cells(of_seeds, COLUMNS))} |")
    accuracy = np.mean([of_seed["accuracy"] for of_seed in scores["hybrid"]])
    error = (accuracy * (1 - accuracy) / len(truth)) ** 0.5
    counts = [f"{name} in {count}" for name, count in Counter(chosen).most_common()]
    definitions = (
        f"All {len(truth)} rows, the answers of the ten folds put together; of three seeds the mean"
        f" and standard deviation. So few rows give an accuracy a standard error of {error:.4f}."
        f" Chosen of the map, by outer folds: {', '.join(counts)}."
    )
    return as_page("Approval of credit applications", __doc__, table, [definitions])


def main(argv: list[str]) -> None:
    """Train in every fold, and write the page."""
    refuse_arguments(argv, "results/hybrid.py")
    data = config.dataset("credit_applications", OVERRIDES)
    rows = read_rows(data)
    folds = folds_of(rows[data.columns.target], FOLDS, SEED)
    tables: dict[tuple[str, int], list[pd.DataFrame]] = {}
    chosen = []
    for fold in progress(range(FOLDS), "results/hybrid.py", "folds"):
        of_fold = answers_of_fold(data, rows[folds != fold], rows[folds == fold], fold)
        chosen.append(of_fold.chosen)
        for key, table in of_fold.answers.items():
            tables.setdefault(key, []).append(table)
    answers = {}
    for key, of_folds in tables.items():
        answers[key] = pd.concat(of_folds).loc[rows.index]
    publish(page(answers, rows[data.columns.target], chosen), PAGE)


if __name__ == "__main__":
    run(main)
