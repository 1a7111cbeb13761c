"""Voting records in Congress, by the model of conf/model/scenarios.yaml.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/scenarios.py

435 members of the US House of Representatives in 1984: their party and sixteen votes. The split is
that of conf/dataset/house_votes.yaml, by a hash of the row; the test part is scored once by each of
five seeds. The penalty on the couplings was chosen by cross-validation of train and val. Writes
results/scenarios.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sextant import config, intervals, plugins
from sextant.errors import run
from sextant.published import cells, publish, read_rows, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.terminal import progress

SEEDS = (42, 1, 2, 3, 4)
METRICS = ("log_likelihood", "unseen_auroc", "pair_error")
MODEL = "scenarios"
PAGE = Path(__file__).with_suffix(".md")
OVERRIDES = ["source=mirror", "budget=standard"]


def page(
    runs: Mapping[str, Sequence[Mapping[str, float]]], rows: int, gains: Mapping[str, np.ndarray]
) -> str:
    """The table, as Markdown; `gains` are those of each test row over a baseline, in nats."""
    table = [f"| method | {' | '.join(METRICS)} |", "|---|" + "---|" * len(METRICS)]
    for name, scores in runs.items():
        table.append(f"| {name} | {' | '.join(cells(scores, METRICS))} |")
    texts = []
    for name, of_rows in gains.items():
        sample = intervals.mean(of_rows)
        low, high = intervals.interval(sample)
        texts.append(f"{name} {sample.observed:+.4f} nats, 95 % from {low:+.4f} to {high:+.4f}")
    comparison = (
        f"log_likelihood, {MODEL} minus another on the same rows: {'; '.join(texts)} (bootstrap"
        " over the test rows, mean over the seeds)."
    )
    definitions = (
        f"{rows} test rows; of the model the mean and standard deviation over the seeds"
        f" {', '.join(map(str, SEEDS))}. log_likelihood: per row, in nats, counted over all states."
        " unseen_auroc: how well it tells test rows of states that no training row showed from rows"
        " with permuted columns whose states never occur. pair_error: how far the probabilities of"
        " pairs of states are from their frequencies in test."
    )
    return as_page("Voting records in Congress", __doc__, table, [comparison, definitions])


def main(argv: list[str]) -> None:
    """Train with every seed, fit the baselines, and write the page."""
    refuse_arguments(argv, "results/scenarios.py")
    conf = config.model(MODEL, OVERRIDES, shelf=True)
    data = config.dataset(conf.dataset, OVERRIDES, shelf=True)
    parts = plugins.kind(data.kind).rows.split(read_rows(data), data.columns, data.split)
    test = parts["test"]
    runs: dict[str, list[dict[str, float]]] = {MODEL: []}
    log_probabilities = []
    for seed in progress(SEEDS, "results/scenarios.py", "seeds"):
        model = trained(conf.model_copy(update={"seed": seed}), data, parts)
        answers = model.answer(model.inputs(test))
        runs[MODEL].append(model.score(answers, test))
        log_probabilities.append(answers["log_probability"].to_numpy()[: len(test)])
    gains = {}
    for name, fit in model.task.baselines(data.kind).items():
        answers = model.fit_baseline(fit, parts)(model.inputs(test))
        runs[name] = [model.score(answers, test)]
        other = answers["log_probability"].to_numpy()[: len(test)]
        gains[name] = np.mean(log_probabilities, axis=0) - other
    publish(page(runs, len(test), gains), PAGE)


if __name__ == "__main__":
    run(main)
