"""Score a saved model in a fresh process: val must come out as training recorded it, then test, beside baselines."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from . import baselines, config, data, figures, intervals, rooms, saved
from .errors import SextantError, UsageError, run
from .files import needed, write_json, written_whole
from .terminal import Progress

TOLERANCE = 1e-6  # another CPU or a GPU rounds otherwise; the same one does not
STEPS = 5  # to tell progress by, beside one for each baseline


def check_reproduced(recorded: dict[str, float], found: dict[str, float]) -> None:
    """Raise SextantError where the reloaded model does not score on val what training recorded."""
    for name, value in recorded.items():
        if not abs(found[name] - value) <= TOLERANCE:  # nor is NaN
            raise SextantError(
                f"val {name} is {found[name]:.9f} after reloading, training recorded {value:.9f};"
                " the saved model is not the trained one: look for state outside the state_dict, then `make train`"
            )


def evaluate(
    model: saved.Saved, parts: dict[str, Any], step: Callable[[], None] = lambda: None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of val and test with every baseline fitted on the same train rows, and the answers on test.

    Of the metric that the gate reads also the 95 % `interval`, the `best` baseline, and by how much the model is
    `better` than that: value, low, high. `step` hears of each piece of the work that is done.
    """
    task = model.task
    val = model.score(model.answer(model.questions(parts["val"])), parts["val"])
    check_reproduced(model.card["val"], val)
    step()
    questions = model.questions(parts["test"])
    answers = {"model": model.answer(questions)}
    step()
    for name, fit in baselines.of(model.card["task"]).items():
        answer = rooms.call(
            fit, parts["train"], model.encoder.columns, encoder=model.encoder, net=model.card["net"]
        )
        answers[name] = answer(questions)
        step()
    scores = {name: model.score(found, parts["test"]) for name, found in answers.items()}
    metric, direction = next(iter(task.METRICS.items()))
    # One that answers less is a floor to show and no rival: k-means has no map to keep.
    rivals = [
        name
        for name, found in scores.items()
        if name != "model" and found.keys() >= task.METRICS.keys()
    ]
    best = (max if direction == "up" else min)(rivals, key=lambda name: scores[name][metric])
    own, other = (
        task.redrawn(answers[name], parts["test"], model.encoder) for name in ("model", best)
    )
    found = {
        **{
            key: model.card[key]
            for key in ("model", "family", "dataset", "task", "source", "seed", "budget")
        },
        "metric": metric,
        "direction": direction,
        "epochs": model.card["epoch"],
        "val": val,
        "test": scores.pop("model"),
        "interval": _rounded(intervals.interval(own)),
        "trivial": next(iter(scores)),
        "best": best,
        "better": _rounded(intervals.gain(own, other, direction)),
        "baselines": scores,
        "rows": {part: len(data.scored(rows)) for part, rows in parts.items()},
    }
    step()
    if hasattr(task, "verdict"):
        # In a list, so that DVC's tables of metrics, which pass over lists, stay as narrow as their numbers.
        found["verdict"] = [task.verdict(answers["model"], parts["test"], model.encoder)]
    return found, answers


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 9) for value in values]


def main(argv: list[str]) -> None:
    """`python -m sextant.evaluate model=<name>`: by hand the scratch model, where there is one, into .scratch/."""
    name, overrides = config.one(argv, "model")
    if overrides:
        raise UsageError(f"`{overrides[0]}` is not understood: a trained model brings its own conf")
    by_dvc = "DVC_STAGE" in os.environ
    scratch = Path(".scratch") / name
    trained = (
        scratch / "model" if not by_dvc and (scratch / "model").is_dir() else Path("models") / name
    )
    model = saved.load(needed(trained))
    torch.set_num_threads(model.card["threads"])
    kind = rooms.module("data", model.card["kind"])
    prepared = needed(Path("data/prepared") / model.card["dataset"])
    parts = {part: kind.load(prepared / part) for part in ("train", "val", "test")}
    curves = (
        Path("reports/curves") / f"{name}.csv"
        if trained == Path("models") / name
        else scratch / "curves.csv"
    )
    with Progress(
        f"evaluate {name}", STEPS + len(baselines.of(model.card["task"])), "steps"
    ) as progress:
        progress.at(0)
        found, answers = evaluate(model, parts, progress.step)
        shown = (answers.pop("model"), parts["test"], model.encoder.columns, answers)
        besides = {"model": model, "train": parts["train"], "val": parts["val"]}
        looked_at = rooms.call(figures.of(model.card["task"]), *shown, **besides)
        told = {
            title: table for title, table in looked_at.items() if isinstance(table, figures.Table)
        }
        drawn = {"curve": figures.learning_curve(pd.read_csv(needed(curves)))}
        drawn |= {
            title: figure
            for title, figure in looked_at.items()
            if not isinstance(figure, figures.Table)
        }
        progress.step()
        with written_whole(
            Path("reports/figures") / name if by_dvc else scratch / "figures"
        ) as folder:
            folder.mkdir()
            for place, (title, figure) in enumerate(
                drawn.items()
            ):  # in the order in which they are read
                figures.save(figure, folder / f"{place:02}-{title}.svg")
        progress.step()
    tables = Path("reports/tables") / f"{name}.json" if by_dvc else scratch / "tables.json"
    write_json(tables, {title: table.record() for title, table in told.items()})
    write_json(
        Path("reports/metrics") / f"{name}.json" if by_dvc else scratch / "metrics.json", found
    )
    print(
        f"{name}: test "
        + ", ".join(f"{metric} {value:.4f}" for metric, value in found["test"].items())
    )


if __name__ == "__main__":
    run(main)
