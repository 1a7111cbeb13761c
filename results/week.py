"""The week on Google's stock prices: walk-forward over 2015 and 2016, and January 2017.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/week.py

Writes results/week.md. Walk-forward: for each half of 2015 and 2016, the model and the baselines
are refitted on the days before it. The half year before is val (selects the epoch, calibrates the
intervals of each day ahead), all days before that are train. A forecast is scored at the days ahead
that lie in the same half. January 2017 is the test part of the pipeline.
"""

import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from sextant import config, files, plugins, pull, train
from sextant.errors import UsageError, run
from sextant.kinds.series.encoder import Encoder
from sextant.kinds.splits import DateSplit
from sextant.saved_model import SavedModel
from sextant.tasks.forecasting import metrics as forecasting
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.contracts import Answer, Parts

MODEL = "week"
BASELINES = ("previous_close", "ar5")
SEEDS = (42, 43, 44)
STARTS = pd.date_range("2015-01-01", "2016-07-01", freq="6MS")
HALF = pd.DateOffset(months=6)
PAGE = Path(__file__).with_suffix(".md")
WIDTH = 100  # characters in a line of the page
FORECASTS = list(forecasting.Aligned._fields)


def main(argv: list[str]) -> None:
    """Train for every half year and seed, and write the page."""
    if argv:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; results/week.py takes no arguments"
        )
    train.quieten()
    conf = config.dataset(config.model(MODEL, shelf=True).dataset, ["source=mirror"])
    rows = _rows(conf)
    kind_rows = plugins.kind(conf.kind).rows
    halves = []
    for days, split in _halves(rows, conf):
        halves.append(kind_rows.split(days, conf.columns, split))
    walk = _forecasts(halves, conf)
    january = _forecasts([kind_rows.split(rows, conf.columns, conf.split)], conf)
    with files.written_whole(PAGE) as beside:
        beside.write_text(_page(walk, january), encoding="utf-8")


def _rows(conf: config.DatasetConf) -> pd.DataFrame:
    kind_rows = plugins.kind(conf.kind).rows
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        pull.pull(conf, raw)
        return kind_rows.repair(kind_rows.read(raw, conf.columns), conf.columns)


def _halves(
    rows: pd.DataFrame, conf: config.DatasetConf
) -> Iterator[tuple[pd.DataFrame, DateSplit]]:
    """For each half year, the days up to its end, and a split whose test part it is."""
    for start in STARTS:
        first = f"{start:%Y-%m-%d}"
        end = f"{start + HALF:%Y-%m-%d}"
        val_from = f"{start - HALF:%Y-%m-%d}"
        split = DateSplit(by="dates", val_from=val_from, gate_from=first, test_from=first)
        yield rows[rows[conf.columns.date] < end], split


def _forecasts(runs: "list[Parts]", conf: config.DatasetConf) -> pd.DataFrame:
    """The forecasts of the test part of each run: of the model by seed, of each baseline once.

    One row per `method`, `seed`, `ahead` and day, with the columns of `forecasting.Aligned`.
    """
    baselines = plugins.task("forecasting").baselines(conf.kind)
    trainings = [(parts, seed) for parts in runs for seed in SEEDS]
    tables = []
    for parts, seed in progress(trainings, "results/week.py", "trainings"):
        model = _trained(parts, conf, seed)
        methods: dict[str, Answer] = {"model": model.answer}
        if seed == SEEDS[0]:
            for name in BASELINES:
                methods[name] = model.fit_baseline(baselines[name], parts)
        for name, answer in methods.items():
            table = _aligned(answer(parts["test"]), parts["test"], model)
            tables.append(table.assign(method=name, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _aligned(answers: pd.DataFrame, rows: pd.DataFrame, model: SavedModel) -> pd.DataFrame:
    encoder = cast(Encoder, model.encoder)
    tables = []
    for ahead in forecasting.days_ahead(encoder.columns):
        forecasts = forecasting.aligned(answers, rows, encoder, ahead)
        tables.append(pd.DataFrame(forecasts._asdict()).assign(ahead=ahead))
    return pd.concat(tables)


def _trained(parts: "Parts", conf: config.DatasetConf, seed: int) -> SavedModel:
    """The model, trained on these parts as the pipeline trains it."""
    model = config.model(MODEL, [f"seed={seed}", "budget=standard"], shelf=True)
    profile = {
        "kind": conf.kind,
        "source": conf.chosen_source,
        "digest": "",
        "layout": conf.columns.model_dump(),
    }
    with tempfile.TemporaryDirectory() as folder:
        saved, _ = train.learn(model, parts, profile, Path(folder), lambda row: None)
    return saved


# --- the page -----------------------------------------------------------------------------------


def _scores(forecasts: pd.DataFrame) -> dict[str, float]:
    return forecasting.scores(*[forecasts[name].to_numpy() for name in FORECASTS])


def _by_seed(forecasts: pd.DataFrame) -> pd.DataFrame:
    """The metrics by days ahead, one row per `seed` and `ahead`."""
    rows = []
    for (seed, ahead), table in forecasts.groupby(["seed", "ahead"]):
        rows.append({"seed": seed, "ahead": ahead, **_scores(table)})
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
        " settings are those of `rnn`; none was chosen for the week."
    )
    lines = [
        "# The week on Google's stock prices",
        "",
        textwrap.fill(about, WIDTH),
        "",
        "## Walk-forward over 2015 and 2016",
        "",
        textwrap.fill(protocol, WIDTH),
        "",
        *_table(walk),
        "",
        textwrap.fill(_tests(walk), WIDTH),
        "",
        "## January 2017, the test part of the pipeline",
        "",
        *_table(january),
        "",
        textwrap.fill(_tests(january), WIDTH),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
