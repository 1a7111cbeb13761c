"""Approval of credit applications, by nested cross-validation.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/hybrid.py

Ten outer folds with the same share of approvals. Each fold is answered by models that did not see
it: a tenth of the rows outside of it, again with the same share, is val, which selects the epoch
and the temperature, and the rest is train. The log loss on val also chooses what the net reads of
the map: all facts, or place and surprise. Other settings are those of the conf. `ann` is the same
net without the map. The baselines are fitted on all rows outside of the fold, but for gradient
boosting, whose size val chooses. Writes results/hybrid.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sextant import config, plugins
from sextant.errors import run
from sextant.published import page as as_page
from sextant.published import publish, read_rows, refuse_arguments, trained
from sextant.tasks.classification import metrics as classification
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.saved_model import SavedModel

FOLDS = 10
SEED = 0
OVERRIDES = ["source=mirror", "budget=standard"]
# What the net may read of the map, by method.
READS = {"hybrid": ("[place,distances,surprise]", "[place,surprise]"), "ann": ("[]",)}
COLUMNS = ("accuracy", "auroc", "log_loss", "brier")
PAGE = Path(__file__).with_suffix(".md")


def folds_of(target: pd.Series, count: int, seed: int) -> np.ndarray:
    """The fold of each row, (rows), 0 to count - 1; each has the same share of every label."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(target), int)
    for label in np.unique(target):
        places = rng.permutation(np.flatnonzero(target == label))
        folds[places] = np.arange(len(places)) % count
    return folds


def chosen(
    data: config.DatasetConf, parts: dict[str, pd.DataFrame], candidates: Sequence[str], seed: int
) -> "SavedModel":
    """The model of the candidate with the least log loss on val."""
    models = []
    for reads in candidates:
        overrides = [*OVERRIDES, f"model.net.reads={reads}", f"seed={seed}"]
        conf = config.model("hybrid", overrides, shelf=True)
        models.append(trained(conf, data, parts))
    return min(models, key=lambda model: model.card["val"]["log_loss"])


def answers_of_fold(
    data: config.DatasetConf, rows: pd.DataFrame, test: pd.DataFrame, seed: int
) -> dict[str, pd.DataFrame]:
    """The answers of every method to the rows of an outer fold, `test`, from the other `rows`."""
    is_val = folds_of(rows[data.columns.target], FOLDS, seed) == 0
    parts = {"train": rows[~is_val], "val": rows[is_val]}
    answers = {}
    for name, candidates in READS.items():
        model = chosen(data, parts, candidates, seed)
        answers[name] = model.answer(test)
    for name, fit in model.task.baselines(data.kind, ["random_forest"]).items():
        fitted_on = parts if plugins.takes(fit, "val") else {**parts, "train": rows}
        answers[name] = model.fit_baseline(fit, fitted_on)(test)
    return {name: table.set_axis(test.index) for name, table in answers.items()}


def page(by_method: Mapping[str, pd.DataFrame], truth: pd.Series) -> str:
    """The table, as Markdown."""
    classes = sorted(truth.unique().tolist())
    table = [f"| method | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name, answers in by_method.items():
        scores = classification.scores(answers, truth, classes)
        cells = [f"{scores[metric]:.4f}" for metric in COLUMNS]
        error = (scores["accuracy"] * (1 - scores["accuracy"]) / len(truth)) ** 0.5
        cells[0] += f" ± {error:.4f}"
        table.append(f"| {name} | {' | '.join(cells)} |")
    definitions = (
        f"All {len(truth)} rows, the answers of the ten folds put together; accuracy ± its"
        " standard error."
    )
    return as_page("Approval of credit applications", __doc__, table, [definitions])


def main(argv: list[str]) -> None:
    """Train in every fold, and write the page."""
    refuse_arguments(argv, "results/hybrid.py")
    data = config.dataset("credit_applications", OVERRIDES)
    rows = read_rows(data)
    folds = folds_of(rows[data.columns.target], FOLDS, SEED)
    tables: dict[str, list[pd.DataFrame]] = {}
    for fold in progress(range(FOLDS), "results/hybrid.py", "folds"):
        answers = answers_of_fold(data, rows[folds != fold], rows[folds == fold], fold)
        for name, table in answers.items():
            tables.setdefault(name, []).append(table)
    by_method = {}
    for name, of_folds in tables.items():
        by_method[name] = pd.concat(of_folds).loc[rows.index]
    text = page(by_method, rows[data.columns.target])
    publish(text, PAGE)


if __name__ == "__main__":
    run(main)
