"""The map of the votes in Congress, by the model of conf/model/votes.yaml.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/votes.py

435 members of the US House of Representatives in 1984, sixteen votes. Five splits by hash (salts 0
to 4): 70 % train, 10 % val (selects the epoch), 20 % held out and scored once. The size of the map
and the last sigma were chosen on val. Writes results/votes.md: mean and standard deviation over the
five splits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sextant import config, plugins
from sextant.errors import run
from sextant.kinds.splits import Shares
from sextant.published import cells, paired, publish, read_rows, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.tasks.mapping.baselines import MAJORITY, majority_of_units
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.saved_model import SavedModel

SALTS = range(5)
# No gate part, because nothing is registered.
SHARES = Shares(train=0.7, val=0.1, gate=0.0, test=0.2)
MAP = "votes"
ON_TRAIN = "votes, training rows"
ONE_UNIT = "all rows as one unit"
BEST_VOTE = "physician_fee_freeze"
COLUMNS = ("purity", "quantization_error", "topographic_error", "outlier_auroc")
PAGE = Path(__file__).with_suffix(".md")
OVERRIDES = ["source=mirror", "budget=standard"]

Scores = dict[str, dict[str, float]]  # the metrics of one split, by method


def share_of(labels: pd.Series, expected: Sequence[object]) -> float:
    """The share of labels that are the expected ones."""
    return float((labels.to_numpy(object) == np.array(expected, object)).mean())


def units_of(model: "SavedModel", rows: pd.DataFrame) -> np.ndarray:
    """The unit of each row, row by row of the grid."""
    answers = model.answer(rows)
    return (answers["row"] * model.card["net"]["cols"] + answers["col"]).to_numpy()


def scores_of_split(
    conf: config.ModelConf, data: config.DatasetConf, rows: pd.DataFrame, salt: int
) -> Scores:
    """The metrics of the map and of its baselines on the held-out rows of one split."""
    split = data.split.model_copy(update={"salt": salt, "shares": SHARES})
    parts = plugins.kind(data.kind).rows.split(rows, data.columns, split)
    train, test = parts["train"], parts["test"]
    target = str(data.columns.target)
    model = trained(conf, data, parts)
    inputs = model.inputs(test)
    scores: Scores = {MAP: model.score(model.answer(inputs), test)}
    train_units = units_of(model, train)
    majorities = majority_of_units(train_units, train[target], conf.net["rows"] * conf.net["cols"])
    scores[MAP]["purity"] = share_of(test[target], majorities[units_of(model, test)])
    scores[ON_TRAIN] = {"purity": share_of(train[target], majorities[train_units])}
    for name, fit in model.task.baselines(data.kind).items():
        answers = model.fit_baseline(fit, parts)(inputs)
        scores[name] = model.score(answers, test)
        if MAJORITY in answers.attrs:
            purity = share_of(test[target], answers.attrs[MAJORITY][: len(test)])
            scores[name]["purity"] = purity
    for name, column in ((ONE_UNIT, None), (BEST_VOTE, BEST_VOTE)):
        scores[name] = {"purity": purity_by(column, train, test, target)}
    return scores


def purity_by(column: str | None, train: pd.DataFrame, test: pd.DataFrame, target: str) -> float:
    """The purity of units that are the levels of one column, or, without one, a single unit."""
    if column is None:
        majority = train[target].value_counts().index[0]
        return share_of(test[target], [majority] * len(test))
    # A missing vote is a level as well.
    levels = train[column].fillna("")
    majority_of = train[target].groupby(levels).agg(lambda labels: labels.value_counts().index[0])
    return share_of(test[target], majority_of.reindex(test[column].fillna("")).tolist())


def page(splits: Sequence[Scores]) -> str:
    """The table, as Markdown."""
    table = [f"| held-out rows | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name in splits[0]:
        row = cells([scores[name] for scores in splits], COLUMNS)
        table.append(f"| {name} | {' | '.join(row)} |")
    comparisons = []
    for other in ("untrained_pca", "kmeans", BEST_VOTE):
        gains = [scores[MAP]["purity"] - scores[other]["purity"] for scores in splits]
        low, high = paired(gains, SHARES.test / SHARES.train)
        comparisons.append(f"{other} {np.mean(gains):+.4f} ({low:+.4f} to {high:+.4f})")
    comparison = (
        "purity, the map minus another on the same rows, with its 95 % interval (Student's t over"
        " the splits, with the variance corrected for the rows that they share: Nadeau and Bengio"
        f" 2003): {', '.join(comparisons)}."
    )
    definitions = (
        "purity: the share of rows whose party is the most frequent one among the training rows of"
        " their unit. quantization_error: mean Euclidean distance to the best-matching unit."
        " topographic_error: share of rows whose second-best unit is not one of the eight around"
        " the best. outlier_auroc: rows against as many synthetic rows, in which each column is"
        f" permuted on its own. {BEST_VOTE}: the three levels of this vote in place of units."
    )
    return as_page("The map of the votes in Congress", __doc__, table, [comparison, definitions])


def main(argv: list[str]) -> None:
    """Train on every split, and write the page."""
    refuse_arguments(argv, "results/votes.py")
    conf = config.model("votes", OVERRIDES, shelf=True)
    data = config.dataset(conf.dataset, OVERRIDES, shelf=True)
    rows = read_rows(data)
    splits = []
    for salt in progress(SALTS, "results/votes.py", "splits"):
        splits.append(scores_of_split(conf, data, rows, salt))
    publish(page(splits), PAGE)


if __name__ == "__main__":
    run(main)
