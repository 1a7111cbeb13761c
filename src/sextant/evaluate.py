"""Stage evaluate: score a saved model in a fresh process.

The scores on val must equal those that training recorded. Those on test are reported, beside the
baselines'.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from . import config, drawing, intervals, paths, plugins, saved_model
from .errors import SextantError, UsageError
from .files import needed, read_json, write_json, written_whole
from .kinds.parts import UNLABELLED, scored
from .terminal import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from . import contracts
    from .saved_model import SavedModel

TOLERANCE = 1e-6  # another CPU or a GPU rounds differently; the same one reproduces every digit
STEPS = 5  # of the progress display, plus one for each baseline
ANSWERS = "answers.csv"  # beside the figures, where the source has test rows without labels


def check_reproduced(recorded: dict[str, float], scores: dict[str, float]) -> None:
    """Raise SextantError if a score on val differs from the recorded one by over TOLERANCE."""
    for name, value in recorded.items():
        if not abs(scores[name] - value) <= TOLERANCE:  # written so that NaN does not pass either
            raise SextantError(
                f"val {name} is {scores[name]:.9f} after reloading, training recorded {value:.9f};"
                " the saved model is not the trained one: look for state outside the state_dict,"
                " then `make train`"
            )


def evaluate(
    model: "SavedModel",
    parts: "contracts.Parts",
    baselines: "dict[str, contracts.Fit]",
    step: Callable[[], None] = lambda: None,
    gate_metric: str | None = None,
) -> tuple[dict[str, Any], "dict[str, pd.DataFrame]"]:
    """The content of reports/metrics/<model>.json, and all answers on test by name.

    Every baseline is fitted on the train rows of the model. The metric that the gate reads, the
    primary one by default, also gets its 95 % `interval`, the name of the `best` baseline, and the
    gain over it, `better`: value, low, high. `step` is called after each part of the work, for a
    progress display. Raises SextantError if the scores on val differ from the recorded ones.
    """
    task = model.task
    val = model.score(model.answer(model.inputs(parts["val"])), parts["val"])
    check_reproduced(model.card["val"], val)
    step()
    answers = _answers(model, parts, baselines, step)
    scores = {}
    for name, table in answers.items():
        # A baseline may have a metric that this model has not: the model answers no quantiles.
        of_table = model.score(table, parts["test"])
        scores[name] = {metric: of_table[metric] for metric in of_table if metric in val}
    metric, direction = task.compared(gate_metric)
    best = _best_baseline(scores, metric, direction, val)

    def sample_of(name: str) -> intervals.Sample:
        contributions = task.metrics.contributions
        return plugins.call(
            contributions, answers[name], parts["test"], model.encoder, metric=metric
        )

    sample = sample_of("model")
    baseline_sample = sample_of(best)
    card_keys = ("model", "family", "dataset", "task", "source", "seed", "budget")
    metrics = {
        **{key: model.card[key] for key in card_keys},
        "metric": metric,
        "direction": direction,
        "epochs": model.card["epoch"],
        "val": val,
        "test": scores.pop("model"),
        "interval": _rounded(intervals.interval(sample)),
        "trivial": next(iter(scores)),
        "best": best,
        "better": _rounded(intervals.gain(sample, baseline_sample, direction)),
        "baselines": scores,
        "rows": {part: len(scored(rows)) for part, rows in parts.items()},
    }
    step()
    sentence = _verdict(model, answers["model"], parts["test"])
    if sentence:
        # In a list, because DVC leaves lists out of its tables of metrics, which show numbers.
        metrics["verdict"] = [sentence]
    return metrics, answers


def _verdict(model: "SavedModel", answers: pd.DataFrame, rows: pd.DataFrame) -> str:
    """What the task says of the answers in a sentence; empty if it says nothing."""
    verdict = plugins.optional(model.task.metrics, "verdict", None)
    if verdict is None:
        return ""
    calibration = model.card["calibration"]
    return plugins.call(
        verdict, answers, rows, model.encoder, calibration=calibration, net=model.net
    )


def _answers(
    model: "SavedModel",
    parts: "contracts.Parts",
    baselines: "dict[str, contracts.Fit]",
    step: Callable[[], None],
) -> "dict[str, pd.DataFrame]":
    """The answers of the model and of each baseline to the inputs of test, by name."""
    inputs = model.inputs(parts["test"])
    answers = {"model": model.answer(inputs)}
    step()
    for name, fit in baselines.items():
        answers[name] = model.fit_baseline(fit, parts)(inputs)
        step()
    return answers


def _best_baseline(
    scores: dict[str, dict[str, float]], metric: str, direction: str, metrics: Iterable[str]
) -> str:
    """The baseline with the best score.

    A baseline that lacks a metric is reported, but cannot be the best: k-means, for example, has no
    topology to preserve.
    """
    comparable = []
    for name, values in scores.items():
        if name != "model" and values.keys() >= set(metrics):
            comparable.append(name)
    choose = max if direction == "up" else min
    return choose(comparable, key=lambda name: scores[name][metric])


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 9) for value in values]


def draw(
    model: "SavedModel",
    parts: "contracts.Parts",
    answers: "dict[str, pd.DataFrame]",
    curves: pd.DataFrame,
) -> tuple[dict[str, "Figure"], dict[str, drawing.Table]]:
    """The figures of a model, the learning curve first, and its tables, each in reading order.

    `parts` has the gate part if the figures of the task name it.
    """
    own_answers = answers["model"]
    other_parts = {part: rows for part, rows in parts.items() if part != "test"}
    baselines = {name: table for name, table in answers.items() if name != "model"}
    drawn = plugins.call(
        model.task.figures.figures,
        own_answers,
        parts["test"],
        model.encoder.columns,
        baselines,
        model=model,
        **other_parts,
    )
    figures = {"curve": drawing.learning_curve(curves)}
    tables = {}
    for title, item in drawn.items():
        if isinstance(item, drawing.Table):
            tables[title] = item
        else:
            figures[title] = item
    return figures, tables


def answers_without_labels(model: "SavedModel", prepared: Path) -> "pd.DataFrame | None":
    """The answers to test rows that the source gives without labels; None if there are none.

    The first column is the key, if rows have one. Such rows are answered and not scored.
    """
    profile = read_json(prepared / "profile.json")
    if UNLABELLED not in profile["rows"]:
        return None
    rows = plugins.kind(model.card["kind"]).rows.load(prepared / UNLABELLED)
    return saved_model.with_names(model.answer(rows), rows, model.named_by)


def main(argv: list[str]) -> None:
    """`sextant evaluate model=<name>`; run by hand, it prefers the scratch model if one exists."""
    name, overrides = config.named(argv, "model")
    if overrides:
        raise UsageError(
            f"`{overrides[0]}` is not understood: a trained model brings its own configuration"
        )
    outputs = paths.outputs(name)
    trained = paths.tracked(name)
    if not paths.run_by_dvc() and outputs.model.is_dir():
        trained = outputs
    model = saved_model.load(needed(trained.model))
    kind = plugins.kind(model.card["kind"])
    prepared = needed(paths.prepared(model.card["dataset"]))
    parts = {part: kind.rows.load(prepared / part) for part in ("train", "val", "test")}
    curves = pd.read_csv(needed(trained.curves))
    baselines = model.task.baselines(model.card["kind"], config.further_baselines(name))
    saved_model.limit_threads(model.card["threads"])  # of the libraries of the baselines, too
    with Progress(f"evaluate {name}", STEPS + len(baselines), "steps") as progress:
        progress.at(0)
        metric = config.gate_metric(name)
        metrics, answers = evaluate(model, parts, baselines, progress.step, metric)
        drawn_parts = dict(parts)
        # Its rows are shown, as places on a map, and never scored here.
        if plugins.takes(model.task.figures.figures, "gate"):
            drawn_parts["gate"] = kind.rows.load(prepared / "gate")
        figures, tables = draw(model, drawn_parts, answers, curves)
        unlabelled = answers_without_labels(model, prepared)
        progress.step()
        with written_whole(outputs.figures) as folder:
            folder.mkdir()
            # Numbered, because the report page shows the files in alphabetical order.
            for number, (title, figure) in enumerate(figures.items()):
                drawing.save(figure, folder / f"{number:02}-{title}.svg")
            if unlabelled is not None:
                unlabelled.to_csv(folder / ANSWERS, index=False)
        progress.step()
    write_json(outputs.tables, {title: table.record() for title, table in tables.items()})
    write_json(outputs.metrics, metrics)
    if unlabelled is not None:
        path = outputs.figures / ANSWERS
        print(f"{name}: {len(unlabelled):,} test rows without labels are answered in {path}")
    scores = [f"{metric} {value:.4f}" for metric, value in metrics["test"].items()]
    print(f"{name}: test {', '.join(scores)}")
