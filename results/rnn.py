"""The rnn on Google's stock prices: walk-forward over 2015 and 2016, and January 2017.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/rnn.py

Writes results/rnn.md. Walk-forward: for each quarter of the two years, the model and every
baseline are refitted on the days before it. The half year before the quarter is val (selects the
epoch, calibrates the interval), all days before that are train. The quarter itself is forecast
day by day, each day from the window before it, and scored once. January 2017 is the test part of
the pipeline, with the split of the pipeline. Conf, training, answers and scores are those of the
pipeline at budget standard.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sextant import config, plugins
from sextant.errors import run
from sextant.intervals import middle, wilson
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

MODEL = "rnn"
BASELINE = "previous_close"  # a forecast without skill, which the model is compared with
SEEDS = (42, 43, 44, 45, 46)
QUARTERS = Walk(
    starts=pd.date_range("2015-01-01", "2016-10-01", freq="QS"),
    length=pd.DateOffset(months=3),
    val=pd.DateOffset(months=6),
)
SCRIPT = "results/rnn.py"
PAGE = Path(__file__).with_suffix(".md")
# The bootstrap draws blocks of days, because large errors come on consecutive days.
DRAWS = 2000
BLOCK = 5


def main(argv: list[str]) -> None:
    """Train for every quarter and seed, and write the page."""
    refuse_arguments(argv, SCRIPT)
    data = config.dataset(config.model(MODEL).dataset, ["source=mirror"])
    rows = read_rows(data)
    whole = plugins.kind(data.kind).rows.split(rows, data.columns, data.split)
    baselines = list(plugins.task("forecasting").baselines(data.kind))
    confs = [config.model(MODEL, [f"seed={seed}", "budget=standard"]) for seed in SEEDS]
    walk = forecasts(walked(rows, data, QUARTERS), data, confs, baselines, SCRIPT)
    january = forecasts([whole], data, confs, baselines, SCRIPT)
    publish(_page(walk, january), PAGE)


# --- the page -----------------------------------------------------------------------------------


def _covered(answers: pd.DataFrame) -> pd.Series:
    """Whether the true value is inside the interval."""
    return (answers["truth"] >= answers["lower"]) & (answers["truth"] <= answers["upper"])


def _by_seed(answers: pd.DataFrame) -> list[pd.DataFrame]:
    return [of_seed for _, of_seed in answers.groupby("seed")]


def _bootstrapped(answers: pd.DataFrame) -> dict[str, np.ndarray]:
    """The RMSE of each method (mean over seeds) on DRAWS resamples of the days: (DRAWS,) each.

    The resamples are the same for all methods. A resample consists of blocks of consecutive days,
    which wrap around at the end. Source: Politis and Romano, "A circular block-resampling
    procedure", 1992.
    """
    n = answers["day"].nunique()
    starts = np.random.default_rng(0).integers(n, size=(DRAWS, -(-n // BLOCK)))
    days = ((starts[..., None] + np.arange(BLOCK)) % n).reshape(DRAWS, -1)[:, :n]
    rmse = {}
    for method, of_method in answers.groupby("method", sort=False):
        of_seeds = []
        for of_seed in _by_seed(of_method):
            squares = ((of_seed["truth"] - of_seed["value"]) ** 2).to_numpy()
            of_seeds.append(np.sqrt(squares[days].mean(1)))
        rmse[str(method)] = np.mean(of_seeds, axis=0)
    return rmse


def _table(answers: pd.DataFrame) -> list[str]:
    """The metrics of each method over all days, with 95 % intervals.

    The model's are the mean and standard deviation over seeds.
    """
    headings = [*forecasting.METRICS, "rmse, 95 %", "coverage_90, 95 %"]
    lines = [f"| | {' | '.join(headings)} |", "|---" * (1 + len(headings)) + "|"]
    rmse = _bootstrapped(answers)
    days = answers["day"].nunique()
    for method, of_method in answers.groupby("method", sort=False):
        scores = pd.DataFrame([scores_of_forecasts(of_seed) for of_seed in _by_seed(of_method)])
        mean, deviation = scores.mean(), scores.std()
        cells = [f"{mean[metric]:.3f}" for metric in forecasting.METRICS]
        if len(scores) > 1:
            cells = [f"{mean[m]:.3f} ± {deviation[m]:.3f}" for m in forecasting.METRICS]
        cells.append(_interval(middle(rmse[str(method)])))
        cells.append(_interval(wilson(mean["coverage_90"], days)))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def _interval(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{low:.3f} to {high:.3f}"


def _by_quarter(answers: pd.DataFrame) -> list[str]:
    """The model beside the baseline, quarter by quarter, as means over seeds."""
    headings = ["quarter", "days", "rmse", f"rmse of {BASELINE}", "coverage_90", "interval width"]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    quarters = pd.to_datetime(answers["day"]).dt.to_period("Q").astype(str)
    for quarter, of_quarter in answers.groupby(quarters):
        model = of_quarter[of_quarter["method"] == "model"]
        baseline = of_quarter[of_quarter["method"] == BASELINE]
        rmse = np.mean([scores_of_forecasts(of_seed)["rmse"] for of_seed in _by_seed(model)])
        width = (model["upper"] - model["lower"]).mean()
        cells = [
            f"{len(baseline)}",
            f"{rmse:.3f}",
            f"{scores_of_forecasts(baseline)['rmse']:.3f}",
            f"{_covered(model).mean():.3f}",
            f"{width:.2f}",
        ]
        lines.append(f"| {quarter} | {' | '.join(cells)} |")
    return lines


def _comparison(answers: pd.DataFrame) -> str:
    """The model beside the baseline in two sentences."""
    of_seeds = []
    for seed, of_seed in answers[answers["method"] == "model"].groupby("seed"):
        errors = (of_seed["truth"] - of_seed["value"]).to_numpy()
        baseline_errors = (of_seed["truth"] - of_seed["base"]).to_numpy()
        p = forecasting.diebold_mariano(errors, baseline_errors)
        covered = int(_covered(of_seed).sum())
        of_seeds.append(f"seed {seed}: p = {p:.2f}, {covered} of {len(of_seed)} days")
    rmse = _bootstrapped(answers)
    low, high = middle(rmse["model"] - rmse[BASELINE])
    return (
        f"RMSE of the model minus that of {BASELINE} on the same days: 95 % from {low:+.3f} to"
        f" {high:+.3f}. Diebold-Mariano test against {BASELINE}, and days whose value is inside the"
        f" interval: {'; '.join(of_seeds)}."
    )


def _page(walk: pd.DataFrame, january: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, SEEDS))
    about = (
        "Written by `SEXTANT_MIRROR=<folder of the data> PYTHONPATH=src python results/rnn.py`."
        f" Prices in USD. The model: mean ± standard deviation over seeds {seeds}. Baselines are"
        f" fitted on the same rows. 95 % intervals: of rmse by a bootstrap ({DRAWS:,} draws of"
        f" blocks of {BLOCK} days), of coverage_90 by Wilson's formula."
    )
    information = (
        "Information used: Open, High, Low, Close and Volume of one window of days, up to the last"
        " close. Close before the stock split of March 2014 is divided by the factor of the split."
        " No dates, no news, no other series."
    )
    protocol = (
        "Forecasts one day ahead. Model and baselines are refitted before each quarter: the half"
        " year before it selects the epoch and calibrates the interval, and all earlier days are"
        " the training part. In the pipeline these two years are train (2015), val (first half of"
        " 2016) and gate (second half). Settings in its conf that were chosen on them make these"
        " figures optimistic. No decision is based on January 2017."
    )
    return walk_page(
        "The rnn on Google's stock prices",
        [about, information],
        protocol,
        [_table(walk), _comparison(walk), _by_quarter(walk)],
        [_table(january), _comparison(january)],
    )


if __name__ == "__main__":
    run(main)
