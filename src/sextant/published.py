"""What the scripts of results/ have in common: rows, trainings, intervals, walks, and pages."""

import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import pandas as pd

from . import config, files, plugins, pull
from .errors import UsageError
from .kinds.series.encoder import Encoder
from .kinds.splits import DateSplit
from .tasks.forecasting import metrics as forecasting
from .terminal import progress

if TYPE_CHECKING:
    from .contracts import Answer, Parts
    from .saved_model import SavedModel

WIDTH = 100  # characters in a line of a page
NO_VALUE = "–"  # in a table


def read_rows(data: config.DatasetConf) -> pd.DataFrame:
    """The real rows, pulled and repaired as in the pipeline."""
    kind_rows = plugins.kind(data.kind).rows
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        pull.pull(data, raw)
        return kind_rows.repair(kind_rows.read(raw, data.columns), data.columns)


def trained(conf: config.ModelConf, data: config.DatasetConf, parts: "Parts") -> "SavedModel":
    """The model, trained on the parts train and val as the pipeline trains it."""
    from . import train  # Lightning takes seconds to import, and most tests of a page need none

    train.quieten()
    profile = {
        "kind": data.kind,
        "source": data.chosen_source,
        "digest": "",
        "layout": data.columns.model_dump(),
    }
    with tempfile.TemporaryDirectory() as folder:
        model, _ = train.learn(conf, parts, profile, Path(folder), lambda row: None)
    return model


def paired(differences: Sequence[float], ratio: float) -> tuple[float, float]:
    """The 95 % interval of a mean difference over repeated splits; `ratio` is test rows by
    training rows.

    The splits share rows, so the variance of the mean is larger than variance / n. Source: Nadeau
    and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
    """
    from scipy.stats import t

    n = len(differences)
    deviation = np.std(differences, ddof=1)
    half = t.ppf(0.975, n - 1) * deviation * (1 / n + ratio) ** 0.5
    mean = np.mean(differences)
    return float(mean - half), float(mean + half)


# --- a walk forward through a series ------------------------------------------------------------


class Walk(NamedTuple):
    """Periods of a series, each forecast by models that are refitted on the days before it."""

    starts: pd.DatetimeIndex
    length: pd.DateOffset
    val: pd.DateOffset  # the days before a period that are val; all days before them are train


def periods(
    rows: pd.DataFrame, data: config.DatasetConf, walk: Walk
) -> Iterator[tuple[pd.DataFrame, DateSplit]]:
    """For each period, the days up to its end, and a split whose test part is the period."""
    for start in walk.starts:
        first = f"{start:%Y-%m-%d}"
        val_from = f"{start - walk.val:%Y-%m-%d}"
        end = f"{start + walk.length:%Y-%m-%d}"
        split = DateSplit(by="dates", val_from=val_from, gate_from=first, test_from=first)
        yield rows[rows[data.columns.date] < end], split


def walked(rows: pd.DataFrame, data: config.DatasetConf, walk: Walk) -> "list[Parts]":
    """The parts of each period."""
    kind_rows = plugins.kind(data.kind).rows
    parts = []
    for days, split in periods(rows, data, walk):
        parts.append(kind_rows.split(days, data.columns, split))
    return parts


def forecasts(
    runs: "Sequence[Parts]",
    data: config.DatasetConf,
    confs: Sequence[config.ModelConf],
    baselines: Sequence[str],
    script: str,
) -> pd.DataFrame:
    """The forecasts of the test part of each run: of the model by conf, of each baseline once.

    The confs differ in their seed. One row per `method`, `seed`, `ahead` and `day`, with the
    columns of `forecasting.Aligned`; the method of the model is "model".
    """
    fits = plugins.task("forecasting").baselines(data.kind)
    trainings = [(parts, conf) for parts in runs for conf in confs]
    tables = []
    for parts, conf in progress(trainings, script, "trainings"):
        model = trained(conf, data, parts)
        methods: dict[str, Answer] = {"model": model.answer}
        if conf is confs[0]:
            for name in baselines:
                methods[name] = model.fit_baseline(fits[name], parts)
        for name, answer in methods.items():
            table = _aligned(answer(parts["test"]), parts["test"], model)
            tables.append(table.assign(method=name, seed=conf.seed))
    return pd.concat(tables, ignore_index=True)


def _aligned(answers: pd.DataFrame, rows: pd.DataFrame, model: "SavedModel") -> pd.DataFrame:
    encoder = cast(Encoder, model.encoder)
    tables = []
    for ahead in forecasting.days_ahead(encoder.columns):
        arrays = forecasting.aligned(answers, rows, encoder, ahead)._asdict()
        days = encoder.forecast_days(rows, ahead).dropna(subset="next")["date"].to_numpy()
        tables.append(pd.DataFrame({"day": days, **arrays}).assign(ahead=ahead))
    return pd.concat(tables)


def scores_of_forecasts(table: pd.DataFrame) -> dict[str, float]:
    """The metrics of forecasts that `forecasts` returned."""
    return forecasting.scores(*[table[name].to_numpy() for name in forecasting.Aligned._fields])


# --- the page -----------------------------------------------------------------------------------


def refuse_arguments(argv: Sequence[str], script: str) -> None:
    """Raise UsageError if a script that takes no arguments has some."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; {script} takes no arguments")


def cell(values: Sequence[float], digits: int = 4) -> str:
    """A mean with its standard deviation, for a table; of one value that value, of none a dash."""
    if not values:
        return NO_VALUE
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def cells(
    runs: Sequence[Mapping[str, float]], metrics: Sequence[str], digits: int = 4
) -> list[str]:
    """A cell for each metric, over the runs that have it."""
    row = []
    for metric in metrics:
        row.append(cell([scores[metric] for scores in runs if metric in scores], digits))
    return row


def page(heading: str, doc: str | None, table: Sequence[str], sentences: Sequence[str]) -> str:
    """A page as Markdown: what the docstring of its script says, a table and paragraphs."""
    about = (doc or "").split("\n\n", 1)[1].strip("\n")
    return markdown(f"# {heading}", about.split("\n"), table, *sentences)


def walk_page(
    heading: str,
    introduction: Sequence[str],
    protocol: str,
    walk: Sequence[str | Sequence[str]],
    january: Sequence[str | Sequence[str]],
) -> str:
    """A page of forecasts of Google's prices: what `walk` and `january` show, see `markdown`."""
    return markdown(
        f"# {heading}",
        *introduction,
        "## Walk-forward over 2015 and 2016",
        protocol,
        *walk,
        "## January 2017, the test part of the pipeline",
        *january,
    )


def markdown(*blocks: str | Sequence[str]) -> str:
    """Blocks with a blank line between them: a text is wrapped, the lines of a table stay."""
    lines: list[str] = []
    for block in blocks:
        lines += [textwrap.fill(block, WIDTH)] if isinstance(block, str) else block
        lines.append("")
    return "\n".join(lines)


def publish(text: str, path: Path) -> None:
    """Write a page whole, and print it."""
    with files.written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)
