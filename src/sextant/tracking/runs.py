"""Runs: one per training, with its evaluation added."""

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config, files, paths

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
from .provenance import changes, git, made_by, pipeline
from .registry import registered_name
from .store import NOTE, address, client, home, raise_unless_absent, relocate, uri

LEGEND = """\
{task} on `{dataset}` ({data}). Each run is one training; its metrics, by their first word:

- `train/`, `val/`: after each epoch, which is the step
- `best/`: the epoch that was kept, on val
- `test/`: the model as it was saved, on the test part; `test/interval_…` is the 95 % interval of what the gate reads
- `vs/`: each baseline on the same rows, and `vs/gain`: what the model gains over the best one that answers all that \
it does, above 0 is better
- `system/`: the machine while it trained

`Columns` puts metrics and parameters into the table; a run's name says what was set otherwise than in its commit. \
A training by hand (tag `scratch`) is not evaluated here: it has no `test/`, and is never registered.
"""


def _experiment(mlflow: "MlflowClient", name: str, legend: str) -> str:
    """The id of the experiment; a local one keeps its artifacts by an absolute path under MLflow's default name."""
    found = mlflow.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    folder = home()
    place = f"{folder}/mlruns/{name}" if folder else None
    kind = {
        "mlflow.experimentKind": "custom_model_development"
    }  # the page opens at the training runs
    return str(mlflow.create_experiment(name, artifact_location=place, tags={**kind, NOTE: legend}))


class TrainingRun:
    """One run: metrics by epoch, sent every few seconds, and once at the end the best of them."""

    def __init__(self, mlflow: "MlflowClient", run_id: str):
        self.mlflow, self.run_id = mlflow, run_id
        self.waiting: list[Any] = []
        self.sent = time.monotonic()

    def log(self, row: Mapping[str, float]) -> None:
        """One epoch; the step is the epoch, so that runs overlay."""
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), int(row["epoch"])
        self.waiting += [
            Metric(key, value, now, step) for key, value in row.items() if key != "epoch"
        ]
        if time.monotonic() - self.sent > 3:
            self.flush()

    def flush(self) -> None:
        for start in range(0, len(self.waiting), 500):
            self.mlflow.log_batch(self.run_id, metrics=self.waiting[start : start + 500])
        self.waiting, self.sent = [], time.monotonic()

    def finish(self, card: Mapping[str, Any], model: Path, curves: Path) -> None:
        """The kept epoch's scores under `best/`, the digest by which the registry will know the model, the curves.

        Epochs that the run lacks are taken from the curves: a kill loses those of the last seconds.
        """
        self.flush()
        with curves.open(newline="") as stream:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)
            ]
        there = {
            metric.step for metric in self.mlflow.get_metric_history(self.run_id, "train/loss")
        }
        for row in rows:
            if row["epoch"] not in there:
                self.log(row)
        self.flush()
        best = {
            "best/epoch": card["epoch"],
            **{f"best/{name}": value for name, value in card["val"].items()},
        }
        for name, value in best.items():
            self.mlflow.log_metric(self.run_id, name, value)
        self.mlflow.set_tag(self.run_id, "digest", files.folder_digest(model))
        self.mlflow.log_text(self.run_id, curves.read_text(encoding="utf-8"), "curves.csv")


@contextmanager
def training_run(
    conf: config.ModelConf, profile: Mapping[str, Any], folder: Path
) -> Iterator[TrainingRun]:
    """Open the run of a training (or the one that an interrupted training had opened), and close it.

    `folder` remembers the run across a kill; a training by hand is tagged `scratch`.
    """
    relocate()  # in a checkout that was moved or copied, the run's files would go where it was before
    mlflow = client()
    remembered = folder / "run.json"
    place = {"uri": address(), "name": registered_name(conf.name, profile["source"])}
    earlier = json.loads(remembered.read_text()) if remembered.is_file() else {}
    same = all(earlier.get(key) == value for key, value in place.items())
    if same and _there(mlflow, earlier["run"]):
        run_id = earlier["run"]
        mlflow.update_run(run_id, status="RUNNING")
    else:
        run_id = _create_run(mlflow, place["name"], conf, profile, by_hand=not paths.run_by_dvc())
        files.write_json(remembered, {**place, "run": run_id})
    with _system_metrics(run_id):
        try:
            yield TrainingRun(mlflow, run_id)
        except BaseException:
            mlflow.set_terminated(run_id, "FAILED")
            raise
    mlflow.set_terminated(run_id, "FINISHED")


def _there(mlflow: "MlflowClient", run_id: str) -> bool:
    """Whether the store has the run: since then the store may have been lost, or the run deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        raise_unless_absent(error)
        return False


def _create_run(
    mlflow: "MlflowClient",
    name: str,
    conf: config.ModelConf,
    profile: Mapping[str, Any],
    by_hand: bool,
) -> str:
    from mlflow.entities import Param

    commit = git("rev-parse", "HEAD").strip() or "0" * 40
    settings, reproduce = made_by(conf.name, commit, by_hand)
    folded = reproduce.replace(" && ", "\n").replace(
        " -S ", " \\\n  -S "
    )  # a long line would widen MLflow's page
    tags = {
        "model": conf.name,
        "family": conf.family,
        "task": conf.task,
        "source": profile["source"],
        "mlflow.source.name": "sextant.train",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "dirty": str(bool(changes())).lower(),
        "pipeline": pipeline(commit),
        "scratch": str(by_hand).lower(),
        "reproduce": reproduce,
        NOTE: f"{conf.task.capitalize()} on `{conf.dataset}`. The same again:\n\n```\n{folded}\n```\n",
        **({"experiment": os.environ["DVC_EXP_NAME"]} if os.environ.get("DVC_EXP_NAME") else {}),
    }
    flat = {"seed": conf.seed, "budget": conf.budget, "source": profile["source"], **_flat(conf)}
    title = " ".join(
        [conf.name, *(setting.partition(".")[2] or setting for setting in settings), commit[:7]]
    )
    data = "its generated twin, no real data" if profile["source"] == "embedded" else "real data"
    legend = LEGEND.format(task=conf.task.capitalize(), dataset=conf.dataset, data=data)
    run = mlflow.create_run(_experiment(mlflow, name, legend), tags=tags, run_name=title[:250])
    mlflow.log_batch(
        run.info.run_id, params=[Param(key, str(value)) for key, value in flat.items()]
    )
    _log_data(mlflow, run.info.run_id, profile)
    mlflow.log_dict(run.info.run_id, conf.model_dump(), "config.yaml")
    return str(run.info.run_id)


def _flat(conf: config.ModelConf) -> dict[str, Any]:
    """The parameters that matter, flat: what the net, the optimizer and the schedule were called with."""
    blocks = {"net": conf.net, "optimizer": conf.optimizer, "schedule": conf.schedule}
    return {
        f"{block}.{key}": value for block, values in blocks.items() for key, value in values.items()
    }


def _log_data(mlflow: "MlflowClient", run_id: str, profile: Mapping[str, Any]) -> None:
    """The data set with name, source and digest, as the run's input; MLflow's pages show a `url` or a `uri`."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name, source = profile["dataset"], profile["source"]
    first = next(iter(config.dataset(name).sources.get(source, [])), {})
    places: dict[str, tuple[str, dict[str, Any]]] = {
        "embedded": ("local", {"uri": f"twin, no real data: conf/dataset/{name}.yaml"}),
        "mirror": ("local", {"uri": f"$SEXTANT_MIRROR/{first.get('path')}"}),
        "canonical": ("http", {"url": first.get("url")}),
    }
    kind, place = places[source]
    data = Dataset(
        name=name,
        digest=profile["digest"][:36],
        source_type=kind,
        source=json.dumps({**place, "source": source, "digest": profile["digest"]}),
        profile=json.dumps({"rows": profile["rows"]}),
    )
    mlflow.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train, val")])])


@contextmanager
def _system_metrics(run_id: str) -> Iterator[None]:
    """CPU, memory and, where there is one, GPU by time, as MLflow's own monitor takes them."""
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


def run_of(mlflow: "MlflowClient", name: str, digest: str) -> str | None:
    """The run that trained the model of this digest, where this store has it."""
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        return None
    asked = f"tags.digest = '{digest}' AND tags.scratch = 'false'"
    found = mlflow.search_runs([experiment.experiment_id], asked, max_results=1)
    return str(found[0].info.run_id) if found else None


def run_from_outputs(
    mlflow: "MlflowClient",
    name: str,
    conf: config.ModelConf,
    profile: Mapping[str, Any],
    model: Path,
    curves: Path,
) -> str:
    """Log a training again from what it left: DVC restored it from its cache, or the store was lost."""
    run_id = _create_run(mlflow, name, conf, profile, by_hand=False)
    mlflow.set_tag(run_id, "restored", "true")
    TrainingRun(mlflow, run_id).finish(
        json.loads((model / "model.json").read_text(encoding="utf-8")), model, curves
    )
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def log_evaluation(
    mlflow: "MlflowClient", run_id: str, metrics: Mapping[str, Any], figures: Path, tables: Path
) -> None:
    """The metrics of test and of the baselines, figures and tables, added to the run of the training.

    The metrics of val stand under `best/`: `val/…` has an axis of epochs, where they would be a stray point.
    """
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    logged = [Metric(name, value, now, 0) for name, value in scores(metrics).items()]
    told = {
        f"tables/{name}.json": table
        for name, table in json.loads(tables.read_text(encoding="utf-8")).items()
    }
    shown = [{"path": path, "type": "table"} for path in told]
    mlflow.log_batch(run_id, logged, tags=[RunTag("mlflow.loggedArtifacts", json.dumps(shown))])
    mlflow.log_artifacts(run_id, str(figures), "figures")
    for path, table in told.items():
        mlflow.log_dict(run_id, table, path)
    mlflow.log_dict(run_id, dict(metrics), "metrics.json")


def scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What evaluate found, flat, under the words of LEGEND."""
    more = ("test/interval_low", "test/interval_high", "vs/gain", "vs/gain_low", "vs/gain_high")
    found = {f"test/{name}": value for name, value in metrics["test"].items()}
    found |= zip(more, [*metrics["interval"], *metrics["better"]], strict=True)
    for baseline, scored in metrics["baselines"].items():
        found |= {f"vs/{name}/{baseline}": value for name, value in scored.items()}
    return found
