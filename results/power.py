"""Five times two folds on the sheets of the power plant, by the model of conf/model/power.yaml.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/power.py

The workbook was published with five sheets of the same 9,568 hours in five orders, so that its
comparison can be repeated: of each sheet, each half is fitted once, and the other half answered.
Of the fitted half every tenth row is val: it selects the epoch of the net and the size of the
trees, and calibrates the intervals. The settings of the net were chosen on part val of the data
set's own split. Writes results/power.md: mean and standard deviation over the ten halves.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sextant import config, plugins, pull
from sextant.errors import run
from sextant.published import cell, publish, refuse_arguments, trained
from sextant.published import page as as_page
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.contracts import Answer

SHEETS = ("Sheet1", "Sheet2", "Sheet3", "Sheet4", "Sheet5")
EVERY = 10  # of the fitted rows, one in so many is val
PAGE = Path(__file__).with_suffix(".md")
OVERRIDES = ["source=mirror", "budget=standard"]

Parts = dict[str, pd.DataFrame]
Scores = dict[str, dict[str, float]]  # by method, its metrics on the other half


def read_sheets(conf: config.DatasetConf) -> list[pd.DataFrame]:
    """The real rows of each sheet, pulled and repaired as in the pipeline."""
    kind_rows = plugins.kind(conf.kind).rows
    sheets = []
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        pull.pull(conf, raw)
        for name in SHEETS:
            columns = conf.columns.model_copy(update={"sheet": name})
            rows = kind_rows.repair(kind_rows.read(raw, columns), columns)
            sheets.append(rows.reset_index(drop=True))
    return sheets


def halves(rows: pd.DataFrame) -> Iterator[Parts]:
    """The parts of both ways to fit one half and answer the other."""
    middle = len(rows) // 2
    first = rows.iloc[:middle]
    second = rows.iloc[middle:]
    for fitted, test in ((first, second), (second, first)):
        is_val = np.arange(len(fitted)) % EVERY == 0
        yield {"train": fitted[~is_val], "val": fitted[is_val], "test": test}


def scores_of_half(conf: config.ModelConf, data: config.DatasetConf, parts: Parts) -> Scores:
    """The metrics of the net and of its baselines on the rows that were not fitted."""
    model = trained(conf, data, parts)
    methods: dict[str, Answer] = {conf.name: model.answer}
    for name, fit in plugins.task(conf.task).baselines(data.kind).items():
        methods[name] = model.fit_baseline(fit, parts)
    inputs = model.inputs(parts["test"])
    return {name: model.score(answer(inputs), parts["test"]) for name, answer in methods.items()}


def page(conf: config.ModelConf, folds: Sequence[Scores]) -> str:
    """The table, as Markdown."""
    metrics = list(folds[0][conf.name])  # without those that only a density has
    table = [f"| method | {' | '.join(metrics)} |", "|---|" + "---|" * len(metrics)]
    for name in folds[0]:
        cells = []
        for metric in metrics:
            values = [scores[name][metric] for scores in folds]
            cells.append(cell(values, 3))
        table.append(f"| {name} | {' | '.join(cells)} |")
    gains = []
    for scores in folds:
        gains.append(scores[conf.name]["rmse"] - scores["gradient_boosting"]["rmse"])
    comparison = (
        f"rmse in MW, {conf.name} minus gradient_boosting on the same rows: {np.mean(gains):+.3f},"
        f" between {min(gains):+.3f} and {max(gains):+.3f} over the ten halves."
    )
    return as_page("The output of the power plant", __doc__, table, [comparison])


def main(argv: list[str]) -> None:
    """Train on every half, and write the page."""
    refuse_arguments(argv, "results/power.py")
    conf = config.model("power", OVERRIDES, shelf=True)
    data = config.dataset(conf.dataset, OVERRIDES, shelf=True)
    folds = []
    for rows in progress(read_sheets(data), "results/power.py", "sheets"):
        for parts in halves(rows):
            folds.append(scores_of_half(conf, data, parts))
    text = page(conf, folds)
    publish(text, PAGE)


if __name__ == "__main__":
    run(main)
