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

from sextant import baselines, config, pull, rooms, train
from sextant.errors import UsageError, run
from sextant.tasks import forecasting

MODEL = "rnn"
SEEDS = (42, 43, 44)
QUARTERS = pd.date_range("2015-01-01", "2016-10-01", freq="QS")
VAL = pd.DateOffset(months=6)


def main(argv: list[str]) -> None:
    """Train for every quarter and seed, and write the tables."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; results/rnn.py takes no arguments")
    train.quieten()
    conf = config.dataset(config.model(MODEL).dataset, ["source=mirror"])
    kind = rooms.module("data", conf.kind)
    with tempfile.TemporaryDirectory() as place:
        pull.pull(conf, Path(place) / "raw")
        rows = kind.repair(kind.read(Path(place) / "raw", conf.columns), conf.columns)
    walk = _collected([kind.split(before, conf.columns, split) for before, split in _quarters(rows, conf)], conf)
    january = _collected([kind.split(rows, conf.columns, conf.split)], conf)
    Path(__file__).with_suffix(".md").write_text(_page(walk, january), encoding="utf-8")


def _quarters(rows: pd.DataFrame, conf: config.DatasetConf) -> Iterator[tuple[pd.DataFrame, config.DateSplit]]:
    """The days up to the end of each quarter, and a split whose test part is the quarter."""
    for start in QUARTERS:
        val, first, end = (f"{day:%Y-%m-%d}" for day in (start - VAL, start, start + pd.DateOffset(months=3)))
        split = config.DateSplit(by="dates", val_from=val, gate_from=first, test_from=first)
        yield rows[rows[conf.columns.date] < end], split


def _collected(runs: list[dict[str, Any]], conf: config.DatasetConf) -> pd.DataFrame:
    """A row for each who answers (the model, the baselines), seed and day: truth, known price, value and bounds."""
    found = []

    def note(who: str, seed: int, answers: pd.DataFrame, part: pd.DataFrame, encoder: Any) -> None:
        table = dict(zip(SHOWN, forecasting.aligned(answers, part, encoder), strict=True))
        found.append(pd.DataFrame({"who": who, "seed": seed, "day": encoder.known(part)["date"], **table}))

    for parts in runs:
        test = parts["test"]
        for seed in SEEDS:
            model = _learnt(parts, conf, seed)
            note("model", seed, model.answer(test), test, model.encoder)
        for name, fit in baselines.of("forecasting").items():
            note(name, SEEDS[0], fit(parts["train"], conf.columns)(test), test, model.encoder)
    return pd.concat(found, ignore_index=True)


SHOWN = ("truth", "base", "value", "lower", "upper")


def _learnt(parts: dict[str, Any], conf: config.DatasetConf, seed: int) -> Any:
    """The model as the pipeline trains it, on these parts."""
    model = config.model(MODEL, [f"seed={seed}", "budget=standard"])
    profile = {"kind": conf.kind, "source": conf.chosen_source, "digest": "", "layout": conf.columns.model_dump()}
    with tempfile.TemporaryDirectory() as folder:
        learnt, _ = train.learn(model, parts, profile, Path(folder), lambda row: None)
    last, pinball = parts["test"][conf.columns.date].max(), learnt.card["val"]["pinball"]
    print(f"up to {last}, seed {seed}: epoch {learnt.card['epoch']} kept, val pinball {pinball:.4f}", flush=True)
    return learnt


# --- the page ---------------------------------------------------------------------------------------------------------


def _scores(days: pd.DataFrame) -> dict[str, float]:
    return forecasting.scores(*(days[name].to_numpy() for name in SHOWN))


def _held(days: pd.DataFrame) -> pd.Series:
    return (days["truth"] >= days["lower"]) & (days["truth"] <= days["upper"])


def _table(found: pd.DataFrame) -> list[str]:
    """Everyone's metrics on all days; the model's as mean and deviation over seeds."""
    lines = [f"| | {' | '.join(forecasting.METRICS)} |", "|---" * (1 + len(forecasting.METRICS)) + "|"]
    for who, days in found.groupby("who", sort=False):
        scores = pd.DataFrame([_scores(one) for _, one in days.groupby("seed")])
        cells = [f"{mean:.3f}" for mean in scores.mean()]
        if len(scores) > 1:
            cells = [f"{cell} ± {deviation:.3f}" for cell, deviation in zip(cells, scores.std(), strict=True)]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return lines


def _by_quarter(found: pd.DataFrame) -> list[str]:
    """The model beside the known price, quarter by quarter, as means over seeds."""
    headings = ("quarter", "days", "rmse", "rmse of previous_close", "coverage_90", "width of the interval")
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, days in found.groupby(pd.to_datetime(found["day"]).dt.to_period("Q").astype(str)):
        model, floor = days[days["who"] == "model"], days[days["who"] == "previous_close"]
        rmse = np.mean([_scores(one)["rmse"] for _, one in model.groupby("seed")])
        width = (model["upper"] - model["lower"]).mean()
        cells = (f"{rmse:.3f}", f"{_scores(floor)['rmse']:.3f}", f"{_held(model).mean():.3f}", f"{width:.2f}")
        lines.append(f"| {name} | {len(floor)} | {' | '.join(cells)} |")
    return lines


def _in_words(found: pd.DataFrame) -> str:
    said = []
    for seed, one in found[found["who"] == "model"].groupby("seed"):
        errors, floor = (one["truth"] - one["value"]).to_numpy(), (one["truth"] - one["base"]).to_numpy()
        p = forecasting.diebold_mariano(errors, floor)
        said.append(f"seed {seed}: p = {p:.2f}, {int(_held(one).sum())} of {len(one)} values held")
    return f"Diebold-Mariano against previous_close, and what the interval held: {'; '.join(said)}."


def _page(walk: pd.DataFrame, january: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, SEEDS))
    return "\n".join(
        [
            "# The rnn on Google's prices",
            "",
            "Written by `SEXTANT_MIRROR=<folder of the data> PYTHONPATH=src python results/rnn.py`. Prices in USD.",
            f"The model: mean ± deviation over seeds {seeds}. Baselines fitted on the same rows.",
            "",
            "## Walk-forward over 2015 and 2016",
            "",
            "One day ahead; model and baselines fitted anew before each quarter. The last half year before it picks",
            "the epoch and calibrates the interval, the years before that are trained on.",
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
