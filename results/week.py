"""The week on Google's stock prices: walk-forward over 2015 and 2016, and January 2017.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/week.py

Writes results/week.md. Walk-forward: for each half of 2015 and 2016, the model and the baselines
are refitted on the days before it. The half year before is val (selects the epoch, calibrates the
intervals of each day ahead), all days before that are train. A forecast is scored at the days ahead
that lie in the same half. January 2017 is the test part of the pipeline.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sextant import config, plugins
from sextant.errors import run
from sextant.published import (
    Walk,
    forecasts,
    publish,
    read_rows,
    refuse_arguments,
    scores_of_forecasts,
    walk_page,
    walked,
)
from sextant.tasks.forecasting import metrics as forecasting

MODEL = "week"
BASELINES = ("previous_close", "ar5")
SEEDS = (42, 43, 44)
HALVES = Walk(
    starts=pd.date_range("2015-01-01", "2016-07-01", freq="6MS"),
    length=pd.DateOffset(months=6),
    val=pd.DateOffset(months=6),
)
SCRIPT = "results/week.py"
PAGE = Path(__file__).with_suffix(".md")


def main(argv: list[str]) -> None:
    """Train for every half year and seed, and write the page."""
    refuse_arguments(argv, SCRIPT)
    data = config.dataset(config.model(MODEL, shelf=True).dataset, ["source=mirror"])
    rows = read_rows(data)
    whole = plugins.kind(data.kind).rows.split(rows, data.columns, data.split)
    confs = []
    for seed in SEEDS:
        confs.append(config.model(MODEL, [f"seed={seed}", "budget=standard"], shelf=True))
    walk = forecasts(walked(rows, data, HALVES), data, confs, BASELINES, SCRIPT)
    january = forecasts([whole], data, confs, BASELINES, SCRIPT)
    publish(_page(walk, january), PAGE)


# --- the page -----------------------------------------------------------------------------------


def _by_seed(forecasts: pd.DataFrame) -> pd.DataFrame:
    """The metrics by days ahead, one row per `seed` and `ahead`."""
    rows = []
    for (seed, ahead), table in forecasts.groupby(["seed", "ahead"]):
        rows.append({"seed": seed, "ahead": ahead, **scores_of_forecasts(table)})
    return pd.DataFrame(rows)


def _table(forecasts: pd.DataFrame) -> list[str]:
    """One line for each day ahead, and the mean over them; the model's with their deviation."""
    scores = {}
    for method, table in forecasts.groupby("method"):
        scores[method] = _by_seed(table)
    model = scores["model"]
    width = forecasts["upper"] - forecasts["lower"]
    is_model = forecasts["method"] == "model"
    widths = width[is_model].groupby(forecasts["ahead"]).mean()
    headings = ["days ahead", "forecasts", "rmse", "skill", "coverage_90", "interval width"]
    for name in BASELINES:
        headings += [f"rmse of {name}", "its coverage_90"]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    counts = forecasts[forecasts["method"] == BASELINES[0]].groupby("ahead").size()
    for ahead in [*widths.index, "mean"]:
        is_mean = ahead == "mean"
        of_seeds = model.groupby("seed").mean() if is_mean else model[model["ahead"] == ahead]
        cells = [str(ahead), "" if is_mean else f"{counts[ahead]}"]
        for metric in ("rmse", "skill", "coverage_90"):
            cells.append(f"{of_seeds[metric].mean():.3f} ± {of_seeds[metric].std():.3f}")
        cells.append("" if is_mean else f"{widths[ahead]:.2f}")
        for name in BASELINES:
            table = scores[name]
            of_day = table if is_mean else table[table["ahead"] == ahead]
            cells.append(f"{of_day['rmse'].mean():.3f}")
            cells.append(f"{of_day['coverage_90'].mean():.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _tests(forecasts: pd.DataFrame) -> str:
    """The p-values of the Diebold-Mariano test by days ahead: the median over seeds."""
    model = forecasts[forecasts["method"] == "model"]
    texts = []
    for ahead, table in model.groupby("ahead"):
        p_values = []
        for _, of_seed in table.groupby("seed"):
            errors = (of_seed["truth"] - of_seed["value"]).to_numpy()
            base_errors = (of_seed["truth"] - of_seed["base"]).to_numpy()
            p_values.append(forecasting.diebold_mariano(errors, base_errors, int(str(ahead))))
        texts.append(f"{np.median(p_values):.2f}")
    return (
        f"Diebold-Mariano test against {BASELINES[0]}, median p over seeds, 1 to {len(texts)} days"
        f" ahead: {', '.join(texts)}."
    )


def _page(walk: pd.DataFrame, january: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, SEEDS))
    about = (
        "Written by `SEXTANT_MIRROR=<folder of the data> PYTHONPATH=src python results/week.py`."
        f" Prices in USD. The model: mean ± standard deviation over seeds {seeds}. Baselines are"
        " fitted on the same rows; `skill` is 1 - rmse / rmse of the previous Close."
    )
    protocol = (
        "Model and baselines are refitted before each half year: the one before it selects the"
        " epoch and calibrates the interval of each day ahead, and all earlier days are the"
        " training part. Forecasts are scored at the days ahead that lie in the same half year. The"
        " settings are those of `rnn`; how the loss weighs the days ahead was chosen on the twin."
    )
    return walk_page(
        "The week on Google's stock prices",
        [about],
        protocol,
        [_table(walk), _tests(walk)],
        [_table(january), _tests(january)],
    )


if __name__ == "__main__":
    run(main)
