"""Trainings of one conf from several seeds: a run with their mean and deviation is the parent."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config
from .provenance import changes, git, user
from .registry import registered_name
from .runs import experiment_of, legend, log_data, log_evaluation

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PARENT_TAG = "mlflow.parentRunId"


def open_parent(
    mlflow: "MlflowClient",
    conf: config.ModelConf,
    profile: Mapping[str, Any],
    seeds: Sequence[int],
) -> str:
    """Create the parent run; return its id."""
    name = registered_name(conf.name, profile["source"])
    experiment = experiment_of(mlflow, name, legend(conf, profile["source"]))
    commit = git("rev-parse", "HEAD").strip() or "0" * 40
    tags = {
        "model": conf.name,
        "source": profile["source"],
        "scratch": "true",
        "seeds": " ".join(map(str, seeds)),
        "dirty": str(bool(changes())).lower(),
        "mlflow.source.name": "sextant.seeds",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "mlflow.user": user(),
    }
    title = f"{conf.name} seeds {seeds[0]}-{seeds[-1]} {commit[:7]}"
    run_id = str(mlflow.create_run(experiment, tags=tags, run_name=title).info.run_id)
    log_data(mlflow, run_id, profile)
    mlflow.log_param(run_id, "budget", conf.budget)
    return run_id


def log_child(
    mlflow: "MlflowClient", parent: str, seed: int, metrics: Mapping[str, Any], folder: Path
) -> None:
    """Add the evaluation of a seed to its run; `folder` has its figures and tables."""
    experiment = mlflow.get_run(parent).info.experiment_id
    condition = f"tags.`{PARENT_TAG}` = '{parent}' AND params.seed = '{seed}'"
    for run in mlflow.search_runs([experiment], condition, max_results=1):
        tables = folder / "tables.json"
        log_evaluation(mlflow, run.info.run_id, metrics, folder / "figures", tables)


def close_parent(
    mlflow: "MlflowClient", run_id: str, by_seed: Mapping[int, Mapping[str, float]]
) -> None:
    """Log mean and standard deviation of each test metric, and end the run."""
    for name, (mean, deviation) in spread(list(by_seed.values())).items():
        mlflow.log_metric(run_id, f"test/{name}", mean)
        mlflow.log_metric(run_id, f"test/{name}_deviation", deviation)
    mlflow.log_dict(run_id, {str(seed): dict(by_seed[seed]) for seed in by_seed}, "seeds.json")
    mlflow.set_terminated(run_id, "FINISHED")


def spread(scores: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """By metric, mean and standard deviation (of a sample, n - 1) over seeds."""
    result = {}
    for name in scores[0]:
        values = [score[name] for score in scores]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        result[name] = (statistics.fmean(values), deviation)
    return result
