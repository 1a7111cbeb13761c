"""MLflow runs of a search: a parent, and below it a child for each trial.

They have an experiment of their own, `sextant-ann-tune` (of a twin `sextant-ann-twin-tune`), since
a trial is no candidate for the registry.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config
from .provenance import changes, git
from .registry import registered_name
from .runs import experiment_of, log_data
from .store import NOTE, address, client, relocate
from .training import is_active, send_metrics

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

PARENT = "mlflow.parentRunId"
LEGEND = """\
Searches for better settings of `{model}` on `{dataset}` ({data}), by val alone. \
Each search is a run, and each of its trials a child of it.

- `train/`, `val/`: of a trial, at each look at val; the step is the epoch
- `best/`: of a trial, the epoch that was kept, on val; of a search, that of the best trial
- `gain/`: of a search, the best settings over today's on val, a mean over seeds; \
`_low` and `_high` are its 95 % interval

The figures of a search are its history and which settings mattered. \
A trial is never registered: `make tune … WRITE=1` writes the best settings into the conf.
"""


def tuning_name(model: str, source: str) -> str:
    """The experiment of the searches of a model: `sextant-ann-tune`."""
    return f"{registered_name(model, source)}-tune"


class TuningRun:
    """The run of a search, which is reopened when the search goes on."""

    def __init__(self, mlflow: "MlflowClient", run_id: str) -> None:
        self.mlflow = mlflow
        self.run_id = run_id

    @property
    def experiment(self) -> str:
        """The id of its experiment."""
        return str(self.mlflow.get_run(self.run_id).info.experiment_id)

    def trial(
        self,
        number: int,
        settings: Mapping[str, object],
        history: Sequence[Mapping[str, float]],
        scores: Mapping[str, float],
        epoch: int | None,
        reason: str,
    ) -> str:
        """Log a finished trial; return the id of its run.

        scores: the metrics of the kept epoch, empty if it did not end; then `reason` says why.
        """
        from mlflow.entities import Param

        tags = {PARENT: self.run_id, "trial": str(number), "mlflow.source.name": "sextant.tune"}
        if reason:
            tags |= {"ended": reason, NOTE: reason}
        run = self.mlflow.create_run(self.experiment, tags=tags, run_name=f"trial {number}")
        run_id = str(run.info.run_id)
        params = [Param(name, str(value)) for name, value in settings.items()]
        self.mlflow.log_batch(run_id, params=params)
        metrics = _metrics(history)
        if epoch is not None:
            metrics += _points({"best/epoch": epoch})
            metrics += _points({f"best/{name}": value for name, value in scores.items()})
        send_metrics(self.mlflow, run_id, metrics)
        self.mlflow.set_terminated(run_id, "FINISHED")
        return run_id

    def discard(self, run_ids: Sequence[str]) -> None:
        """Delete the runs of trials that were interrupted while they were logged."""
        for run_id in run_ids:
            if is_active(self.mlflow, run_id):
                self.mlflow.delete_run(run_id)

    def log(
        self, metrics: Mapping[str, float], texts: Mapping[str, dict[str, Any]], figures: Path
    ) -> None:
        """Log what the search showed so far: metrics, texts by file name (YAML), figures."""
        self.mlflow.log_batch(self.run_id, metrics=_points(metrics))
        for name, content in texts.items():
            self.mlflow.log_dict(self.run_id, content, name)
        if figures.is_dir():
            self.mlflow.log_artifacts(self.run_id, str(figures), "figures")

    def end(self, status: str) -> None:
        """Close the run: FINISHED, or KILLED if it is to go on."""
        self.mlflow.set_terminated(self.run_id, status)


def _metrics(history: Sequence[Mapping[str, float]]) -> "list[Metric]":
    metrics = []
    for row in history:
        scores = {name: value for name, value in row.items() if name != "epoch"}
        metrics += _points(scores, int(row["epoch"]))
    return metrics


def _points(scores: Mapping[str, float], step: int = 0) -> "list[Metric]":
    from mlflow.entities import Metric

    timestamp = int(time.time() * 1000)
    return [Metric(name, float(value), timestamp, step) for name, value in scores.items()]


def open_run(
    conf: config.ModelConf, profile: Mapping[str, Any], earlier: Mapping[str, str] | None
) -> TuningRun:
    """The run of a search: the `earlier` one if it still exists in this store, else a new one."""
    relocate()  # in a moved or copied checkout, artifacts would be written to the old place
    mlflow = client()
    if earlier and earlier["uri"] == address() and is_active(mlflow, earlier["run"]):
        mlflow.update_run(earlier["run"], status="RUNNING")
        return TuningRun(mlflow, earlier["run"])
    source = profile["source"]
    data = "its generated twin, no real data" if source == "embedded" else "real data"
    legend = LEGEND.format(model=conf.name, dataset=conf.dataset, data=data)
    experiment = experiment_of(mlflow, tuning_name(conf.name, source), legend)
    commit = git("rev-parse", "HEAD").strip() or "0" * 40
    tags = {
        "model": conf.name,
        "source": source,
        "budget": conf.budget,
        "seed": str(conf.seed),
        "mlflow.source.name": "sextant.tune",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "dirty": str(bool(changes())).lower(),
    }
    run = mlflow.create_run(experiment, tags=tags, run_name=f"tune {conf.name} {commit[:7]}")
    run_id = str(run.info.run_id)
    log_data(mlflow, run_id, profile)
    mlflow.log_dict(run_id, conf.model_dump(), "today.yaml")
    return TuningRun(mlflow, run_id)


def join_run(run_id: str) -> TuningRun:
    """The run of a search, for a job that another process has started."""
    return TuningRun(client(), run_id)


def record(run: TuningRun) -> dict[str, str]:
    """What `open_run` needs to find a run again."""
    return {"uri": address(), "run": run.run_id}
