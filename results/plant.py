"""The states of the real power plant, by the model of conf/model/plant.yaml.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/plant.py

9,568 hours, five columns in eight quantile bins of the training rows: 2,825 of 32,768 states occur.
Settings were chosen on val of the split of conf/dataset/plant.yaml. Five seeds, two protocols:

- rows: the split of the conf, by a hash of the row; the test part is scored once by each seed.
- states: a fifth of the states that occur is held out with all of its rows, another fifth by each
  seed, and a tenth of the other rows is val. Scored is how well the log probability separates the
  states held out from those of rows with permuted columns that never occur: the area under the ROC
  curve, each state once.

`pairs` is the same machine without hidden units: all pairs of columns coupled, exact maximum
likelihood. Writes results/plant.md: mean and standard deviation over the seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from sextant import config, intervals, plugins
from sextant.errors import run
from sextant.published import cell, publish, read_rows, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.tasks.scenarios.metrics import STATE
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.contracts import Answer, Parts

SEEDS = range(5)
HELD_OUT = 0.2  # of the states that occur
VAL = 0.1  # of the others
PERMUTATIONS = 20  # of all rows, whose states that never occur are compared
PAGE = Path(__file__).with_suffix(".md")
OVERRIDES = ["source=mirror", "budget=standard"]
# A convex problem, which larger and fewer steps solve.
PAIRS = [
    *("model.net.hidden=0", "model.net.couplings=[visible]", "model.net.l2=0"),
    *("model.optimizer.lr=0.5", "model.schedule.max_epochs=400"),
]
METHODS = ("independent", "chow_liu", "pairs", "plant")


class Scores(NamedTuple):
    """Of one seed and method: the log probability of each test row, the AUC of held-out states."""

    log_probability: np.ndarray
    auroc: float


def methods_of(
    confs: Mapping[str, config.ModelConf], data: config.DatasetConf, parts: "Parts"
) -> dict[str, "Answer"]:
    """The answers of each method, fitted on train, by name."""
    models = {name: trained(conf, data, parts) for name, conf in confs.items()}
    answers: dict[str, Answer] = {}
    first = next(iter(models.values()))
    for name, fit in plugins.task("scenarios").baselines(data.kind).items():
        answers[name] = first.fit_baseline(fit, parts)
    for name, model in models.items():
        answers[name] = model.answer
    return answers


def by_states(rows: pd.DataFrame, states: np.ndarray, seed: int) -> dict[str, pd.DataFrame]:
    """The rows without a fifth of the states, as train and val, and the rows of these as test."""
    occurring = np.unique(states)
    rng = np.random.default_rng(seed)
    held_out = rng.permutation(occurring)[: round(HELD_OUT * len(occurring))]
    is_test = np.isin(states, held_out)
    is_val = ~is_test & (rng.random(len(rows)) < VAL)
    parts = {"train": rows[~is_test & ~is_val], "val": rows[is_val], "test": rows[is_test]}
    return {part: table.reset_index(drop=True) for part, table in parts.items()}


def keys_of(answers: pd.DataFrame) -> np.ndarray:
    """A number for the state of each row, (rows)."""
    names = [name for name in answers if str(name).startswith(STATE)]
    return pd.util.hash_pandas_object(answers[names], index=False).to_numpy()


def held_out_auroc(answer: "Answer", rows: pd.DataFrame, test: pd.DataFrame) -> float:
    """The AUC of the states of `test` against those of permuted rows that no row has."""
    permuted = []
    for seed in range(PERMUTATIONS):
        rng = np.random.default_rng(seed)
        shuffled = {name: rows[name].to_numpy()[rng.permutation(len(rows))] for name in rows}
        permuted.append(pd.DataFrame(shuffled))
    never = answer(pd.concat(permuted, ignore_index=True))
    never = never[~np.isin(keys_of(never), keys_of(answer(rows)))]
    compared = []
    for table in (answer(test), never):
        compared.append(table.assign(key=keys_of(table)).drop_duplicates("key"))
    is_held_out = np.repeat([1, 0], [len(table) for table in compared])
    log_probability = pd.concat(compared)["log_probability"].to_numpy()
    return intervals.auroc(log_probability, is_held_out).observed


def scores_of_seed(
    confs: Mapping[str, config.ModelConf], data: config.DatasetConf, rows: pd.DataFrame, seed: int
) -> dict[str, Scores]:
    """The scores of each method with one seed."""
    seeded = {name: conf.model_copy(update={"seed": seed}) for name, conf in confs.items()}
    parts = plugins.kind(data.kind).rows.split(rows, data.columns, data.split)
    answers = methods_of(seeded, data, parts)
    log_probability = {}
    for name, answer in answers.items():
        log_probability[name] = answer(parts["test"])["log_probability"].to_numpy()
    # All rows in the bins of all rows: which states occur.
    states = keys_of(next(iter(answers.values()))(rows))
    parts = by_states(rows, states, seed)
    scores = {}
    for name, answer in methods_of(seeded, data, parts).items():
        auroc = held_out_auroc(answer, rows, parts["test"])
        scores[name] = Scores(log_probability[name], auroc)
    return scores


def page(seeds: Sequence[Mapping[str, Scores]]) -> str:
    """The table, as Markdown."""
    table = ["| method | log-likelihood, test rows | AUC, states held out |", "|---|---|---|"]
    for name in METHODS:
        means = [scores[name].log_probability.mean() for scores in seeds]
        areas = [scores[name].auroc for scores in seeds]
        table.append(f"| {name} | {cell(means)} | {cell(areas)} |")
    comparisons = [_gain(seeds, name) for name in ("chow_liu", "pairs")]
    return as_page("The states of a power plant", __doc__, table, comparisons)


def _gain(seeds: Sequence[Mapping[str, Scores]], other: str) -> str:
    """How much more probable a test row is than by another method, with a bootstrap over rows."""
    gains = []
    for scores in seeds:
        gains.append(scores["plant"].log_probability - scores[other].log_probability)
    sample = intervals.mean(np.mean(gains, axis=0))
    low, high = intervals.interval(sample)
    areas = [scores["plant"].auroc - scores[other].auroc for scores in seeds]
    return (
        f"plant minus {other} on the same rows: {sample.observed:+.4f} nats, 95 % from {low:+.4f}"
        f" to {high:+.4f} (bootstrap over the test rows, mean over the seeds); AUC"
        f" {np.mean(areas):+.4f} ± {np.std(areas, ddof=1):.4f}."
    )


def main(argv: list[str]) -> None:
    """Train with every seed by both protocols, and write the page."""
    refuse_arguments(argv, "results/plant.py")
    confs = {
        "plant": config.model("plant", OVERRIDES, shelf=True),
        "pairs": config.model("plant", [*OVERRIDES, *PAIRS], shelf=True),
    }
    data = config.dataset(confs["plant"].dataset, OVERRIDES, shelf=True)
    rows = read_rows(data)
    seeds = []
    for seed in progress(SEEDS, "results/plant.py", "seeds"):
        seeds.append(scores_of_seed(confs, data, rows, seed))
    text = page(seeds)
    publish(text, PAGE)


if __name__ == "__main__":
    run(main)
