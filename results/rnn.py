"""The rnn on Google's prices: walk-forward over 2015 and 2016, and January 2017. Writes results/rnn.md.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/rnn.py

Walk-forward: for each quarter of the two years, the model and every baseline are fitted anew on the days before it. Of
these the last half year is val (the epoch to keep, the calibration), what lies before is train. The quarter itself is
answered day by day, each day from the window before it, and scored once. January 2017 is the pipeline's own test part,
with the pipeline's split. Conf, training, answers and scores are the pipeline's, at budget standard.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sextant import config, files, plugins, pull, train
from sextant.errors import UsageError, run
from sextant.intervals import middle, wilson
from sextant.kinds.splits import DateSplit
from sextant.tasks.forecasting import metrics as forecasting
from sextant.terminal import progress

MODEL = "rnn"
SEEDS = (42, 43, 44, 45, 46)
QUARTERS = pd.date_range("2015-01-01", "2016-10-01", freq="QS")
VAL = pd.DateOffset(months=6)
PAGE = Path(__file__).with_suffix(".md")
DRAWS, BLOCK = (
    2000,
    5,
)  # of the bootstrap: how often, and days in a row, since a wild day is seldom alone


def main(argv: list[str]) -> None:
    """Train for every quarter and seed, and write the tables."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; results/rnn.py takes no arguments")
    train.quieten()
    conf = config.dataset(config.model(MODEL).dataset, ["source=mirror"])
    kind = plugins.kind(conf.kind).rows
    with tempfile.TemporaryDirectory() as place:
        pull.pull(conf, Path(place) / "raw")
        rows = kind.repair(kind.read(Path(place) / "raw", conf.columns), conf.columns)
    walk = _collected(
        [kind.split(before, conf.columns, split) for before, split in _quarters(rows, conf)], conf
    )
    january = _collected([kind.split(rows, conf.columns, conf.split)], conf)
    with files.written_whole(PAGE) as beside:
        beside.write_text(_page(walk, january), encoding="utf-8")


def _quarters(
    rows: pd.DataFrame, conf: config.DatasetConf
) -> Iterator[tuple[pd.DataFrame, DateSplit]]:
    """The days up to the end of each quarter, and a split whose test part is the quarter."""
    for start in QUARTERS:
        val, first, end = (
            f"{day:%Y-%m-%d}" for day in (start - VAL, start, start + pd.DateOffset(months=3))
        )
        split = DateSplit(by="dates", val_from=val, gate_from=first, test_from=first)
        yield rows[rows[conf.columns.date] < end], split


def _collected(runs: list[dict[str, Any]], conf: config.DatasetConf) -> pd.DataFrame:
    """A row for each who answers (the model, the baselines), seed and day: truth, known price, value and bounds."""
    found = []

    def note(who: str, seed: int, answers: pd.DataFrame, part: pd.DataFrame, encoder: Any) -> None:
        table = dict(zip(SHOWN, forecasting.aligned(answers, part, encoder), strict=True))
        found.append(
            pd.DataFrame({"who": who, "seed": seed, "day": encoder.forecast_days(part)["date"], **table})
        )

    trainings = [(parts, seed) for parts in runs for seed in SEEDS]
    for parts, seed in progress(trainings, "results/rnn.py", "trainings"):
        model = _learnt(parts, conf, seed)
        note("model", seed, model.answer(parts["test"]), parts["test"], model.encoder)
        for name, fit in plugins.task("forecasting").baselines(conf.kind).items() if seed == SEEDS[0] else ():
            note(
                name,
                seed,
                fit(parts["train"], conf.columns)(parts["test"]),
                parts["test"],
                model.encoder,
            )
    return pd.concat(found, ignore_index=True)


SHOWN = ("truth", "base", "value", "lower", "upper")


def _learnt(parts: dict[str, Any], conf: config.DatasetConf, seed: int) -> Any:
    """The model as the pipeline trains it, on these parts."""
    model = config.model(MODEL, [f"seed={seed}", "budget=standard"])
    profile = {
        "kind": conf.kind,
        "source": conf.chosen_source,
        "digest": "",
        "layout": conf.columns.model_dump(),
    }
    with tempfile.TemporaryDirectory() as folder:
        learnt, _ = train.learn(model, parts, profile, Path(folder), lambda row: None)
    return learnt


# --- the page ---------------------------------------------------------------------------------------------------------


def _scores(days: pd.DataFrame) -> dict[str, float]:
    return forecasting.scores(*(days[name].to_numpy() for name in SHOWN))


def _held(days: pd.DataFrame) -> pd.Series:
    return (days["truth"] >= days["lower"]) & (days["truth"] <= days["upper"])


def _bootstrapped(found: pd.DataFrame) -> dict[str, np.ndarray]:
    """Everyone's RMSE (mean over seeds) on DRAWS resamplings of the days, the same ones for all: (DRAWS,) each.

    Blocks of days in a row that go round the end. Politis and Romano, "A circular block-resampling procedure", 1992.
    """
    n = found["day"].nunique()
    starts = np.random.default_rng(0).integers(n, size=(DRAWS, -(-n // BLOCK)))
    days = ((starts[..., None] + np.arange(BLOCK)) % n).reshape(DRAWS, -1)[:, :n]
    squares = found.assign(square=(found["truth"] - found["value"]) ** 2)
    return {
        str(who): np.mean(
            [np.sqrt(one["square"].to_numpy()[days].mean(1)) for _, one in own.groupby("seed")],
            axis=0,
        )
        for who, own in squares.groupby("who", sort=False)
    }


def _table(found: pd.DataFrame) -> list[str]:
    """Everyone's metrics on all days; the model's as mean and deviation over seeds, and what the days leave open."""
    headings = [*forecasting.METRICS, "rmse, 95 %", "coverage_90, 95 %"]
    lines = [f"| | {' | '.join(headings)} |", "|---" * (1 + len(headings)) + "|"]
    drawn = _bootstrapped(found)
    for who, days in found.groupby("who", sort=False):
        scores = pd.DataFrame([_scores(one) for _, one in days.groupby("seed")])
        mean = scores.mean()
        cells = [f"{one:.3f}" for one in mean]
        if len(scores) > 1:
            cells = [
                f"{cell} ± {deviation:.3f}"
                for cell, deviation in zip(cells, scores.std(), strict=True)
            ]
        for low, high in (
            middle(drawn[str(who)]),
            wilson(mean["coverage_90"], days["day"].nunique()),
        ):
            cells.append(f"{low:.3f} to {high:.3f}")
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return lines


def _by_quarter(found: pd.DataFrame) -> list[str]:
    """The model beside the known price, quarter by quarter, as means over seeds."""
    headings = (
        "quarter",
        "days",
        "rmse",
        "rmse of previous_close",
        "coverage_90",
        "width of the interval",
    )
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, days in found.groupby(pd.to_datetime(found["day"]).dt.to_period("Q").astype(str)):
        model, floor = days[days["who"] == "model"], days[days["who"] == "previous_close"]
        rmse = np.mean([_scores(one)["rmse"] for _, one in model.groupby("seed")])
        width = (model["upper"] - model["lower"]).mean()
        cells = (
            f"{rmse:.3f}",
            f"{_scores(floor)['rmse']:.3f}",
            f"{_held(model).mean():.3f}",
            f"{width:.2f}",
        )
        lines.append(f"| {name} | {len(floor)} | {' | '.join(cells)} |")
    return lines


def _in_words(found: pd.DataFrame) -> str:
    said = []
    for seed, one in found[found["who"] == "model"].groupby("seed"):
        errors, floor = (
            (one["truth"] - one["value"]).to_numpy(),
            (one["truth"] - one["base"]).to_numpy(),
        )
        p = forecasting.diebold_mariano(errors, floor)
        said.append(f"seed {seed}: p = {p:.2f}, {int(_held(one).sum())} of {len(one)} values held")
    drawn = _bootstrapped(found)
    less = drawn["model"] - drawn["previous_close"]
    low, high = middle(less)
    return (
        f"RMSE of the model less that of previous_close on the same days: 95 % from {low:+.3f} to {high:+.3f}."
        f" Diebold-Mariano against previous_close, and what the interval held: {'; '.join(said)}."
    )


def _page(walk: pd.DataFrame, january: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, SEEDS))
    return "\n".join(
        [
            "# The rnn on Google's prices",
            "",
            "Written by `SEXTANT_MIRROR=<folder of the data> PYTHONPATH=src python results/rnn.py`. Prices in USD.",
            f"The model: mean ± deviation over seeds {seeds}. Baselines fitted on the same rows.",
            f"Intervals: of rmse by {DRAWS:,} bootstrap draws of {BLOCK} days in a row, of coverage_90 by Wilson.",
            "",
            "Information used: Open, High, Low, Close and Volume of one window of days up to the last close, and the",
            "split of March 2014, by whose factor the earlier Close is divided; no dates, no news, no other series.",
            "",
            "## Walk-forward over 2015 and 2016",
            "",
            "One day ahead; model and baselines fitted anew before each quarter. The last half year before it picks",
            "the epoch and calibrates the interval, the years before that are trained on. These two years are the",
            "pipeline's own train (2015), val (first half of 2016) and gate (second half): whatever its conf owes to",
            "them flatters these rows. January 2017 decided nothing.",
            "",
            *_table(walk),
            "",
            _in_words(walk),
            "",
            *_by_quarter(walk),
            "",
            "## January 2017, the test part of the pipeline",
            "",
            *_table(january),
            "",
            _in_words(january),
            "",
        ]
    )


if __name__ == "__main__":
    run(main)
