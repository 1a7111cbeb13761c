"""Suspicious credit applications: outliers found by a map and a net, over five splits.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/suspects.py

Five splits of the applications by hash, the salts 0 to 4: 70 % train, 10 % val, 20 % held out. Map
and net learn from train, val selects the epoch, and the held-out rows are scored once, against 20
sets of synthetic outliers, which are the same rows with each column permuted on its own. Writes
results/suspects.md. The figures are mean and standard deviation over the five splits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sextant import config, injection, intervals, plugins, saved_model
from sextant.errors import run
from sextant.kinds.splits import Shares
from sextant.published import cells, paired, publish, read_rows, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.terminal import progress

SALTS = range(5)
# No gate part, because nothing is registered.
SHARES = Shares(train=0.7, val=0.1, gate=0.0, test=0.2)
OVERRIDES = ["source=mirror", "budget=standard"]
VARIANTS = {
    "suspects": [],
    "reading all of the map": ["model.net.reads=[place,distances,surprise]"],
    "flag alone, without the map": ["model.net.injected=0", "model.net.reads=[]"],
}
COURSE = "flag alone, without the map"
# The same rows are mapped, flagged, learnt and answered.
CIRCULAR = "the course's circular way"
COLUMNS = ("outlier_auroc", "average_precision", "flag_auroc", "val_auroc")
PAGE = Path(__file__).with_suffix(".md")

Scores = dict[str, dict[str, float]]  # the metrics of one split, by method


def flag_auroc(model: saved_model.SavedModel, rows: pd.DataFrame) -> float:
    """How well the probability finds the rows that the map flags among `rows`."""
    outputs = saved_model.outputs(model.net, model.encoder.encode(rows))
    surprise = outputs["surprise"].double().numpy()
    flagged = surprise > np.quantile(surprise, 1 - injection.SHARE)
    return intervals.auroc(outputs["outlier"].double().numpy(), flagged).observed


def scores_of_split(data: config.DatasetConf, rows: pd.DataFrame, salt: int) -> Scores:
    """The metrics on the held-out rows of one split, by method."""
    split = data.split.model_copy(update={"salt": salt, "shares": SHARES})
    parts = plugins.kind(data.kind).rows.split(rows, data.columns, split)
    inputs = injection.with_injections(parts["test"], data.columns.features)
    scores: Scores = {}
    for name, overrides in VARIANTS.items():
        conf = config.model("suspects", [*OVERRIDES, *overrides, f"seed={salt}"], shelf=True)
        model = trained(conf, data, parts)
        scores[name] = model.score(model.answer(inputs), parts["test"])
        scores[name]["flag_auroc"] = flag_auroc(model, parts["test"])
        scores[name]["val_auroc"] = model.card["val"]["outlier_auroc"]
        if name == COURSE:
            scores[CIRCULAR] = {"flag_auroc": flag_auroc(model, parts["train"])}
    for name, fit in model.task.baselines(data.kind).items():
        answer = model.fit_baseline(fit, parts)
        scores[name] = model.score(answer(inputs), parts["test"])
    return scores


def page(splits: Sequence[Scores]) -> str:
    """The table, as Markdown."""
    table = [f"| method | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name in splits[0]:
        row = cells([scores[name] for scores in splits], COLUMNS)
        table.append(f"| {name} | {' | '.join(row)} |")
    ratio = SHARES.test / SHARES.train
    comparisons = []
    for other in ("som", "isolation_forest", "knn_distance", "reading all of the map"):
        gains = []
        for scores in splits:
            gains.append(scores["suspects"]["outlier_auroc"] - scores[other]["outlier_auroc"])
        low, high = paired(gains, ratio)
        comparisons.append(f"{other} {np.mean(gains):+.4f} ({low:+.4f} to {high:+.4f})")
    comparison = (
        "outlier_auroc, suspects minus another on the same rows, with its 95 % interval (Student's"
        " t over the splits, with the variance corrected for the rows that they share: Nadeau and"
        f" Bengio 2003): {', '.join(comparisons)}."
    )
    definitions = (
        "outlier_auroc: held-out rows against as many synthetic outliers, mean over 20 sets."
        " average_precision: the same where 5 % of the rows are synthetic. flag_auroc: the"
        " probability against the map's own flag, the 5 % of the rows with the highest surprise."
        " val_auroc: outlier_auroc of the val rows, at the epoch that it selected."
        f" {CIRCULAR}: the net of `{COURSE}`, scored against the flag on the rows that map and net"
        " learnt from."
    )
    sentences = [comparison, definitions]
    return as_page("Suspicious credit applications", __doc__, table, sentences)


def main(argv: list[str]) -> None:
    """Train on every split, and write the page."""
    refuse_arguments(argv, "results/suspects.py")
    data = config.dataset("credit_applications", OVERRIDES)
    rows = read_rows(data)
    splits = []
    for salt in progress(SALTS, "results/suspects.py", "splits"):
        splits.append(scores_of_split(data, rows, salt))
    text = page(splits)
    publish(text, PAGE)


if __name__ == "__main__":
    run(main)
