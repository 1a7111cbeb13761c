"""Redshifts of galaxies, on the test rows of the source.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/redshift.py

Of the 5,000 galaxies of the file for training 80 % are train and 20 % val, by hash; the 5,000 of
the file for testing are scored once. Val selects the epoch and calibrates the intervals; settings
were chosen inside the file for training. The net is trained with five seeds. Writes
results/redshift.md.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sextant import config, intervals, plugins, saved_model
from sextant.errors import run
from sextant.kinds.splits import Shares
from sextant.published import cell, cells, publish, read_rows, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.saved_model import SavedModel
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.contracts import Parts

SEEDS = (42, 1, 2, 3, 4)
SHARES = Shares(train=0.8, val=0.2, gate=0.0, test=0.0)  # no gate: nothing is registered
OUTLIER = 0.05  # of |dz|, from which a redshift counts as far off
PAGE = Path(__file__).with_suffix(".md")
COLUMNS = ("sigma_dz", "nmad_dz", "bias_dz", "far_off", "rmse", "crps", "coverage_90")

Scores = Mapping[str, float]


def scores_of(
    answers: pd.DataFrame, rows: pd.DataFrame, score: Callable[..., dict[str, float]]
) -> dict[str, float]:
    """The metrics of the task, and those of dz = (answered - true) / (1 + true)."""
    truth = rows["zs"].to_numpy(np.float64)
    dz = (answers["prediction"].to_numpy(np.float64) - truth) / (1 + truth)
    return {
        **score(answers, rows),
        "sigma_dz": float(dz.std()),
        "nmad_dz": float(1.4826 * np.median(np.abs(dz - np.median(dz)))),
        "bias_dz": float(dz.mean()),
        "far_off": float((np.abs(dz) > OUTLIER).mean()),
    }


def read_parts(data: config.DatasetConf) -> "Parts":
    """The parts of the real rows."""
    split = data.split.model_copy(update={"shares": SHARES})
    return plugins.kind(data.kind).rows.split(read_rows(data), data.columns, split)


def crps_of_mixture(model: SavedModel, rows: pd.DataFrame) -> float:
    """The continuous ranked probability score of the mixtures themselves, in closed form.

    E|y - Y| - E|Y - Y'| / 2 with Y and Y' from the mixture (Grimit et al., "The continuous ranked
    probability score for circular variables and its application to mesoscale forecast ensemble
    verification", QJRMS 132, 2006, for normal mixtures).
    """
    outputs = saved_model.outputs(model.net, model.encoder.encode(rows))
    locations = outputs["locations"].double()
    scales = model.card["calibration"]["factor"] * outputs["scales"].double()
    truth = torch.from_numpy(rows["zs"].to_numpy(np.float64))[:, None]
    spread = torch.zeros(len(truth), dtype=torch.float64)
    for location, scale in zip(locations.T, scales.T, strict=True):
        both = (scales.square() + scale[:, None].square()).sqrt()
        spread += mean_distance(locations - location[:, None], both).mean(1)
    spread /= locations.shape[1]
    return float((mean_distance(truth - locations, scales).mean(1) - spread / 2).mean())


def mean_distance(mean: Tensor, scale: Tensor) -> Tensor:
    """E|X| of a normal X, element by element."""
    z = mean / scale
    density = (-0.5 * z * z).exp() / (2 * torch.pi) ** 0.5
    return mean * (2 * torch.special.ndtr(z) - 1) + 2 * scale * density


def page(by_method: Mapping[str, list[Scores]], rows: int, sentences: list[str]) -> str:
    """The table, as Markdown."""
    table = [f"| method | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name, runs in by_method.items():
        table.append(f"| {name} | {' | '.join(cells(runs, COLUMNS, 5))} |")
    definitions = (
        f"{rows:,} test rows. dz = (answered - true) / (1 + true): its standard deviation, 1.4826"
        " times its median absolute deviation, its mean, and the share of rows with more than"
        f" {OUTLIER} of it. rmse is of the redshift itself. crps: the continuous ranked probability"
        " score, from 19 quantiles. coverage_90: the share of rows within the interval that was"
        " calibrated on val. redshift: mean and standard deviation over the seeds"
        f" {', '.join(map(str, SEEDS))}. ann: the family of that name with the settings of the"
        " model power, which were chosen on another table, seed 42; it answers an interval alone."
        " The others draw nothing."
    )
    return as_page("Redshifts of galaxies", __doc__, table, [*sentences, definitions])


def compared(model: SavedModel, own: pd.DataFrame, others: pd.DataFrame, rows: pd.DataFrame) -> str:
    """How much better the CRPS and the RMSE are than those of the boosted quantiles."""
    texts = []
    for metric in ("crps", "rmse"):
        sample = plugins.call(
            model.task.metrics.contributions, own, rows, model.encoder, metric=metric
        )
        other = plugins.call(
            model.task.metrics.contributions, others, rows, model.encoder, metric=metric
        )
        value, low, high = intervals.gain(sample, other, "down")
        texts.append(f"{metric} {value:.5f} (95 % from {low:.5f} to {high:.5f})")
    return (
        f"Gain of seed {SEEDS[-1]} over boosted_quantiles on the same rows: {', '.join(texts)}, by"
        " a bootstrap over the rows."
    )


def main(argv: list[str]) -> None:
    """Train with every seed, fit the baselines, and write the page."""
    refuse_arguments(argv, "results/redshift.py")
    overrides = ["source=mirror", "budget=standard"]
    data = config.dataset("galaxies", overrides, shelf=True)
    parts = read_parts(data)
    test = parts["test"]

    def of_seed(name: str, seed: int) -> SavedModel:
        conf = config.model(name, [*overrides, f"seed={seed}"], shelf=True)
        return trained(conf.model_copy(update={"dataset": "galaxies"}), data, parts)

    by_method: dict[str, list[Scores]] = {"redshift": []}
    exact = []
    for seed in progress(SEEDS, "results/redshift.py", "seeds"):
        model = of_seed("redshift", seed)
        by_method["redshift"].append(scores_of(model.answer(test), test, model.score))
        exact.append(crps_of_mixture(model, test))
    further = config.model("redshift", overrides, shelf=True).baselines
    sentences = [f"The CRPS of the mixtures themselves, in closed form: {cell(exact, 5)}."]
    own = model.answer(test)
    for name, fit in model.task.baselines(data.kind, further).items():
        answers = model.fit_baseline(fit, parts)(test)
        by_method[name] = [scores_of(answers, test, model.score)]
        if name == "boosted_quantiles":
            sentences.append(compared(model, own, answers, test))
    neural = of_seed("power", SEEDS[0])
    by_method["ann"] = [scores_of(neural.answer(test), test, neural.score)]
    text = page(by_method, len(test), sentences)
    publish(text, PAGE)


if __name__ == "__main__":
    run(main)
