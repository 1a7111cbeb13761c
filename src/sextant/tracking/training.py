"""The run of a training while it is written: its metrics, its end, and what was left open.

A training does not depend on the store: what a server that is down does not take is kept, in memory
and at the end in a file, and sent when it answers again.
"""

import csv
import io
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config, files, paths, processor
from ..errors import reason
from ..processes import is_alive
from .registry import registered_name
from .runs import create_run, this_process
from .store import (
    address,
    brief_requests,
    client,
    database,
    query,
    raise_unless_absent,
    relocate,
    uri,
)

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

SECONDS_BETWEEN_BATCHES = 3
SECONDS_BETWEEN_ATTEMPTS = 60  # after one that failed, which may have taken half of that
BATCH_SIZE = 500  # MLflow's limit for one request is 1,000 metrics
UNSENT = "unsent-{run}.json"  # in .checkpoints/<model>/


class TrainingRun:
    """The run of a training: `log` its metrics, then `finish` it.

    `folder` gets the file of what could not be sent at the end.
    """

    def __init__(self, mlflow: "MlflowClient", run_id: str, folder: Path) -> None:
        self.mlflow = mlflow
        self.run_id = run_id
        self.folder = folder
        self.waiting: list[Metric] = []
        self.sent = time.monotonic()
        self.next_attempt = 0.0
        self.warned = False

    def log(self, row: Mapping[str, float]) -> None:
        """Log the metrics of one epoch; the step is the epoch, so that runs share an axis."""
        self.waiting += _metrics(row)
        time_now = time.monotonic()
        # One request per epoch would slow down a training with short epochs.
        if time_now - self.sent > SECONDS_BETWEEN_BATCHES and time_now >= self.next_attempt:
            self._flush()

    def _flush(self) -> None:
        """Send the metrics that have not been sent, or keep them if the store does not answer."""
        try:
            send_metrics(self.mlflow, self.run_id, self.waiting)
        except _errors() as error:
            self.next_attempt = time.monotonic() + SECONDS_BETWEEN_ATTEMPTS
            self._warn(error)
            return
        self.waiting = []
        self.sent = time.monotonic()

    def _warn(self, error: Exception) -> None:
        if not self.warned:
            print(
                f"sextant: no answer from the MLflow store {address()} ({reason(error)[:200]}); the"
                " training goes on, and what could not be sent is kept: it is sent when the store"
                " answers again, at the end or by `make register`",
                file=sys.stderr,
                flush=True,
            )
        self.warned = True

    def finish(self, card: Mapping[str, Any], model: Path, curves: Path) -> None:
        """End the run as `send_end` does; if the store does not answer, the end is kept in a file.

        A kill or a server that was down may have lost metrics of epochs, so all are in the end.
        """
        end = {
            "uri": address(),
            "run": self.run_id,
            "digest": files.folder_digest(model),
            "epoch": card["epoch"],
            "val": card["val"],
            "curves": curves.read_text(encoding="utf-8"),
        }
        try:
            send_end(self.mlflow, end)
        except _errors() as error:
            self._warn(error)
            files.write_json(self.folder / UNSENT.format(run=self.run_id), end)


def _errors() -> tuple[type[Exception], ...]:
    """What MLflow raises if a store does not answer, or refuses."""
    from mlflow.exceptions import MlflowException

    return MlflowException, OSError


def _metrics(row: Mapping[str, float]) -> "list[Metric]":
    """The metrics of one epoch, with the epoch as their step."""
    from mlflow.entities import Metric

    timestamp = int(time.time() * 1000)
    step = int(row["epoch"])
    return [Metric(name, value, timestamp, step) for name, value in row.items() if name != "epoch"]


def send_metrics(mlflow: "MlflowClient", run_id: str, metrics: "list[Metric]") -> None:
    """Log any number of metrics."""
    for start in range(0, len(metrics), BATCH_SIZE):
        mlflow.log_batch(run_id, metrics=metrics[start : start + BATCH_SIZE])


def send_end(mlflow: "MlflowClient", end: Mapping[str, Any]) -> None:
    """Log the scores of the kept epoch as `best/…`, the curves, and the model's digest.

    Epochs that the run lacks are logged from the curves. A run that repeats another one exactly is
    deleted: a kill between the end of a training and DVC's note of it makes DVC train again.
    """
    run_id = end["run"]
    history = mlflow.get_metric_history(run_id, "train/loss")
    logged = {metric.step for metric in history}
    missing: list[Metric] = []
    for line in csv.DictReader(io.StringIO(end["curves"])):
        row = {name: float(value) for name, value in line.items()}
        if row["epoch"] not in logged:
            missing += _metrics(row)
    send_metrics(mlflow, run_id, missing)
    mlflow.log_metric(run_id, "best/epoch", end["epoch"])
    for name, value in end["val"].items():
        mlflow.log_metric(run_id, f"best/{name}", value)
    mlflow.log_text(run_id, end["curves"], "curves.csv")
    mlflow.set_tag(run_id, "digest", end["digest"])
    mlflow.set_terminated(run_id, "FINISHED")
    if _is_repeated(mlflow, mlflow.get_run(run_id)):
        mlflow.delete_run(run_id)


def _is_repeated(mlflow: "MlflowClient", run: "Run") -> bool:
    """Whether an earlier run of the pipeline, of the same commit and params, gave this model."""
    tags = run.data.tags
    if tags["scratch"] == "true" or "experiment" in tags or "restored" in tags:
        return False
    condition = f"tags.digest = '{tags['digest']}' AND tags.pipeline = '{tags['pipeline']}'"
    condition += " AND tags.scratch = 'false' AND attributes.status = 'FINISHED'"
    runs = mlflow.search_runs([run.info.experiment_id], condition)
    return any(other.info.start_time < run.info.start_time for other in runs)


def has_unsent(model: str) -> bool:
    """Whether the end of a training of the model was kept in a file."""
    return bool(_unsent(model))


def _unsent(model: str) -> list[Path]:
    return sorted(paths.checkpoints(model).glob(UNSENT.format(run="*")))


def send_unsent(mlflow: "MlflowClient", model: str) -> None:
    """Send the ends of a model's trainings that this store did not take when they came."""
    for path in _unsent(model):
        end = files.read_json(path)
        if end["uri"] == address() and is_active(mlflow, end["run"]):
            send_end(mlflow, end)
            path.unlink()


# --- begin, continue and close ------------------------------------------------------------------


@contextmanager
def training_run(
    conf: config.ModelConf, profile: Mapping[str, Any], folder: Path
) -> Iterator[TrainingRun]:
    """Open the run of a training, or reopen the run of an interrupted one.

    `folder`, .checkpoints/<model>/<digest>/, keeps the id of the run across a kill. A training by
    hand is tagged `scratch`. If the training fails, so does its run.
    """
    relocate()  # in a moved or copied checkout, artifacts would be written to the old place
    mlflow = client()
    run_file = folder / "run.json"
    target = {"uri": address(), "name": registered_name(conf.name, profile["source"])}
    run_id = _interrupted_run(mlflow, run_file, target)
    if run_id is not None:
        mlflow.update_run(run_id, status="RUNNING")
        for key, value in this_process().items():
            mlflow.set_tag(run_id, key, value)
    else:
        by_hand = not paths.run_by_dvc()
        run_id = create_run(
            mlflow,
            target["name"],
            conf,
            profile,
            by_hand,
            processor.here(conf.trainer.accelerator),
        )
        files.write_json(run_file, {**target, "run": run_id})
    close_abandoned(mlflow, target["name"])
    with brief_requests(), _system_metrics(run_id):
        try:
            yield TrainingRun(mlflow, run_id, folder.parent)
        except BaseException:
            _end_as_failed(mlflow, run_id)
            raise


def _end_as_failed(mlflow: "MlflowClient", run_id: str) -> None:
    try:
        mlflow.set_terminated(run_id, "FAILED")
    except _errors():  # the error of the training is the one to report
        pass


def _interrupted_run(
    mlflow: "MlflowClient", run_file: Path, target: Mapping[str, str]
) -> str | None:
    """The run in `run_file`, if it belongs to this store and experiment and still exists."""
    if not run_file.is_file():
        return None
    earlier: dict[str, str] = files.read_json(run_file)
    for key, value in target.items():
        if earlier.get(key) != value:
            return None
    # The store may have been lost since, or the run deleted.
    return earlier["run"] if is_active(mlflow, earlier["run"]) else None


def is_active(mlflow: "MlflowClient", run_id: str) -> bool:
    """Whether a run exists and was not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        raise_unless_absent(error)
        return False


def has_running(name: str) -> bool:
    """Whether an experiment has runs that have not ended; assumed for a server."""
    if database() is None:
        return True
    return bool(
        query(
            "SELECT run_uuid FROM runs JOIN experiments USING (experiment_id)"
            " WHERE status = 'RUNNING' AND experiments.name = ? LIMIT 1",
            name,
        )
    )


def close_abandoned(mlflow: "MlflowClient", name: str) -> None:
    """Mark the runs of an experiment as killed whose process on this machine has ended.

    A training that resumes one of them opens it again. One with a digest is that of a finished
    training: MLflow opens it while the model is packed, maybe at this moment.
    """
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        return
    condition = f"attributes.status = 'RUNNING' AND tags.host = '{this_process()['host']}'"
    for run in mlflow.search_runs([experiment.experiment_id], condition):
        if not is_alive(int(run.data.tags["pid"]), run.info.start_time / 1000):
            status = "FINISHED" if "digest" in run.data.tags else "KILLED"
            mlflow.set_terminated(run.info.run_id, status)


@contextmanager
def _system_metrics(run_id: str) -> Iterator[None]:
    """Log CPU, memory and, where there is one, GPU over time, with MLflow's monitor."""
    import mlflow
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    mlflow.set_tracking_uri(uri())
    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri()
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def run_from_outputs(
    mlflow: "MlflowClient",
    name: str,
    conf: config.ModelConf,
    profile: Mapping[str, Any],
    model: Path,
    curves: Path,
) -> str:
    """Log a training again from its outputs; return the id of the new run.

    This is needed if DVC restored the outputs from its cache, or the store was lost.
    """
    computed_on = processor.recorded(conf.name, files.folder_digest(model))
    run_id = create_run(mlflow, name, conf, profile, False, computed_on)
    mlflow.set_tag(run_id, "restored", "true")
    run = TrainingRun(mlflow, run_id, paths.checkpoints(conf.name))
    run.finish(files.read_json(model / "model.json"), model, curves)
    return run_id
