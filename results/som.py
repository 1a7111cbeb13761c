"""The map of the real credit card applications, by the model of conf/model/som.yaml.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/som.py

690 rows with 14 features, the codes as numbers, each scaled by its range in the training rows. Five
splits by hash (salts 0 to 4): 70 % train, 10 % val (selects the epoch, calibrates which rows are
outliers), 20 % held out and scored once. Sigma and the number of epochs were chosen on val. Writes
results/som.md: mean and standard deviation over the five splits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sextant import config, plugins
from sextant.errors import run
from sextant.kinds.splits import Shares
from sextant.published import (
    NO_VALUE,
    cell,
    paired,
    publish,
    read_rows,
    refuse_arguments,
    trained,
)
from sextant.published import page as as_page
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.contracts import Answer

SALTS = range(5)
# No gate part, because nothing is registered.
SHARES = Shares(train=0.7, val=0.1, gate=0.0, test=0.2)
PARTS = {"train": "training rows", "test": "held out"}
AUROC = "outlier_auroc"
PAGE = Path(__file__).with_suffix(".md")
OVERRIDES = ["source=mirror", "budget=standard"]

# The metrics of one split, by part and method.
Scores = dict[tuple[str, str], dict[str, float]]


def scores_of_split(
    conf: config.ModelConf, data: config.DatasetConf, rows: pd.DataFrame, salt: int
) -> Scores:
    """The metrics of the map and of its baselines on the training and the held-out rows of one
    split.
    """
    split = data.split.model_copy(update={"salt": salt, "shares": SHARES})
    parts = plugins.kind(data.kind).rows.split(rows, data.columns, split)
    model = trained(conf, data, parts)
    methods: dict[str, Answer] = {"som": model.answer}
    for name, fit in plugins.task(conf.task).baselines(data.kind).items():
        methods[name] = model.fit_baseline(fit, parts)
    scores = {}
    for part in PARTS:
        inputs = model.inputs(parts[part])
        for name, answer in methods.items():
            scores[part, name] = model.score(answer(inputs), parts[part])
    return scores


def page(conf: config.ModelConf, splits: Sequence[Scores]) -> str:
    """The table, as Markdown."""
    metrics = list(plugins.task(conf.task).metrics.METRICS)
    table = [f"| method | rows | {' | '.join(metrics)} |", "|---|---|" + "---|" * len(metrics)]
    for part, name in splits[0]:
        of_splits = [scores[part, name] for scores in splits]
        cells = [_cell(of_splits, metric, part) for metric in metrics]
        if set(cells) != {NO_VALUE}:
            table.append(f"| {name} | {PARTS[part]} | {' | '.join(cells)} |")

    differences = []
    for scores in splits:
        differences.append(scores["test", "som"][AUROC] - scores["test", "knn_distance"][AUROC])
    low, high = paired(differences, SHARES.test / SHARES.train)
    comparison = (
        f"{AUROC}, som minus knn_distance on the same rows: {np.mean(differences):+.4f}, 95 % from"
        f" {low:+.4f} to {high:+.4f} (Student's t over the splits, with the variance corrected for"
        " the rows that they share: Nadeau and Bengio 2003)."
    )
    definitions = (
        "quantization_error: mean Euclidean distance to the best-matching unit. topographic_error:"
        " share of rows whose second-best unit is not one of the eight around the best."
        " outlier_auroc: rows against as many synthetic rows, in which each column is permuted on"
        " its own; mean over 20 such permutations, the same for all methods. knn_distance:"
        " distance to the nearest training row. Class is not a feature, and it is approval: there"
        " is no label of fraud to compare with."
    )
    sentences = [comparison, definitions]
    return as_page("The map of the credit card applications", __doc__, table, sentences)


def _cell(of_splits: Sequence[dict[str, float]], metric: str, part: str) -> str:
    """The mean and standard deviation of a metric over the splits."""
    # A training row is its own nearest neighbour, so only held-out rows can be scored as outliers.
    if metric == AUROC and part == "train":
        return NO_VALUE
    return cell([scores[metric] for scores in of_splits if metric in scores])


def main(argv: list[str]) -> None:
    """Train on every split, and write the page."""
    refuse_arguments(argv, "results/som.py")
    conf = config.model("som", OVERRIDES)
    data = config.dataset(conf.dataset, OVERRIDES)
    rows = read_rows(data)
    splits = []
    for salt in progress(SALTS, "results/som.py", "splits"):
        splits.append(scores_of_split(conf, data, rows, salt))
    text = page(conf, splits)
    publish(text, PAGE)


if __name__ == "__main__":
    run(main)
