"""MLflow runs: how one is created for a training, is found again, and gets the evaluation."""

import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config, files, processor
from ..redaction import without_secrets
from . import views
from .provenance import changes, ci_job, git, made_by, pipeline, pull_request, user
from .store import NOTE, home, raise_unless_present

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PARENT = "SEXTANT_PARENT_RUN"  # the variable with the run that a training by hand is a child of
# The description of an experiment, for people who compare runs in MLflow's pages.
LEGEND = """\
{task} on `{dataset}` ({data}). Each run is one training. \
The prefix of a metric says where it comes from:

- `train/`, `val/`: at each look at val, every few epochs; the step is the epoch
- `best/`: the epoch that was kept, on val
- `test/`: the saved model on the test part; \
`test/interval_…` is the 95 % interval of the metric that the gate reads
- `vs/`: each baseline on the same rows; \
`vs/gain` is the gain over the best baseline that has all metrics, above 0 is better
- `system/`: the machine during the training

`Columns` adds metrics and parameters to the table. \
A run's name lists the settings that differ from its commit. \
A training by hand (tag `scratch`) is not evaluated: it has no `test/` and is never registered.
"""


# --- creating a run -----------------------------------------------------------------------------


def create_run(
    mlflow: "MlflowClient",
    name: str,
    conf: config.ModelConf,
    profile: Mapping[str, Any],
    by_hand: bool,
    computed_on: Mapping[str, str],
) -> str:
    """Create a run with its tags, parameters, data set and conf; return its id.

    `computed_on` describes the processor as processor.py does; empty if it is not known.
    """
    from mlflow.entities import Param

    commit = git("rev-parse", "HEAD").strip() or "0" * 40
    settings, reproduce = made_by(
        conf.name, conf.dataset, commit, by_hand, processor.describe(computed_on)
    )
    experiment = experiment_of(mlflow, name, legend(conf, profile["source"]))
    tags = _tags(conf, profile["source"], commit, by_hand, reproduce)
    parent = os.environ.get(PARENT)
    if parent and by_hand:
        tags["mlflow.parentRunId"] = parent
    if settings:
        tags["settings"] = " ".join(_short(setting) for setting in settings)
    tags |= computed_on
    tags = {key: without_secrets(value) for key, value in tags.items()} | this_process()
    run = mlflow.create_run(experiment, tags=tags, run_name=_run_name(conf.name, settings, commit))
    run_id = str(run.info.run_id)
    params = [Param(key, str(value)) for key, value in _params(conf, profile["source"]).items()]
    mlflow.log_batch(run_id, params=params)
    log_data(mlflow, run_id, profile)
    mlflow.log_dict(run_id, conf.model_dump(), "config.yaml")
    return run_id


def experiment_of(mlflow: "MlflowClient", name: str, legend: str) -> str:
    """The id of the experiment `name`, which is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    experiment = mlflow.get_experiment_by_name(name)
    if experiment:
        return str(experiment.experiment_id)
    folder = home()
    # MLflow's default is mlruns/ in the working directory, which may be a copy by `dvc exp run
    # --temp`.
    location = f"{folder}/mlruns/{name}" if folder else None
    tags = {
        "mlflow.experimentKind": "custom_model_development",  # the page opens at the training runs
        NOTE: legend,
    }
    try:
        return str(mlflow.create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException as error:  # another process has just created it
        raise_unless_present(error)
        experiment = mlflow.get_experiment_by_name(name)
        assert experiment
        return str(experiment.experiment_id)


def legend(conf: config.ModelConf, source: str) -> str:
    """The description of the experiment of a model's trainings."""
    data = "its generated twin, no real data" if source == "embedded" else "real data"
    return LEGEND.format(task=conf.task.capitalize(), dataset=conf.dataset, data=data)


def _run_name(model: str, settings: list[str], commit: str) -> str:
    """`som sigma=3.0 2026-11-29 1a2b3c4`: model, settings that differ, the day (UTC), commit."""
    parts = [model]
    parts += [_short(setting) for setting in settings]
    parts += [f"{datetime.now(UTC):%Y-%m-%d}", commit[:7]]
    return " ".join(parts)[:250]


def _short(setting: str) -> str:
    """A setting without the block that it is in: `dropout=0.3` for `net.dropout=0.3`."""
    _, _, short = setting.partition(".")
    return short or setting


def this_process() -> dict[str, str]:
    """Tags that say which process writes to a run."""
    return {"host": socket.gethostname(), "pid": str(os.getpid())}


def _tags(
    conf: config.ModelConf, source: str, commit: str, by_hand: bool, reproduce: str
) -> dict[str, str]:
    # A long line would make MLflow's page wider than the screen.
    folded = reproduce.replace(" && ", "\n").replace(" -S ", " \\\n  -S ")
    note = f"{conf.task.capitalize()} on `{conf.dataset}`. To repeat it:\n\n```\n{folded}\n```\n"
    tags = {
        "model": conf.name,
        "family": conf.family,
        "task": conf.task,
        "source": source,
        "mlflow.source.name": "sextant.train",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "dirty": str(bool(changes())).lower(),
        "pipeline": pipeline(commit),
        "scratch": str(by_hand).lower(),
        "reproduce": reproduce,
        "mlflow.user": user(),
        NOTE: note,
    }
    optional = {
        "experiment": os.environ.get("DVC_EXP_NAME", ""),
        "ci_job": ci_job(),
        "pull_request": pull_request(),
    }
    return tags | {key: value for key, value in optional.items() if value}


def _params(conf: config.ModelConf, source: str) -> dict[str, object]:
    """The arguments of net, optimizer and schedule by flat names, and the choices of the run."""
    params: dict[str, object] = {"seed": conf.seed, "budget": conf.budget, "source": source}
    blocks = {"net": conf.net, "optimizer": conf.optimizer, "schedule": conf.schedule}
    for block, arguments in blocks.items():
        for name, value in arguments.items():
            params[f"{block}.{name}"] = value
    return params


def log_data(mlflow: "MlflowClient", run_id: str, profile: Mapping[str, Any]) -> None:
    """Log the data set as input of the run, with name, source and digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = profile["dataset"]
    source = profile["source"]
    source_type, location = _location(name, source)
    data = Dataset(
        name=name,
        digest=profile["digest"][:36],  # MLflow's limit
        source_type=source_type,
        source=json.dumps({**location, "source": source, "digest": profile["digest"]}),
        profile=json.dumps({"rows": profile["rows"]}),
    )
    mlflow.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train, val")])])


def _location(dataset: str, source: config.Source) -> tuple[str, dict[str, str | None]]:
    """A source type and the `url` or `uri`, of which MLflow's pages show the value."""
    if source == "embedded":
        return "local", {"uri": f"twin, no real data: conf/dataset/{dataset}.yaml"}
    upstream = config.dataset(dataset).sources.get(source) or [{}]
    first_file = upstream[0]
    if source == "local":
        return "local", {"uri": str(first_file.get("path"))}
    if source == "mirror":
        return "local", {"uri": f"$SEXTANT_MIRROR/{first_file.get('path')}"}
    return "http", {"url": first_file.get("url")}


# --- runs of the registry -----------------------------------------------------------------------


def run_of(mlflow: "MlflowClient", name: str, digest: str) -> str | None:
    """The run that trained the model of this digest; None if this store lacks it."""
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        return None
    condition = f"tags.digest = '{digest}' AND tags.scratch = 'false'"
    runs = mlflow.search_runs([experiment.experiment_id], condition, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def log_evaluation(
    mlflow: "MlflowClient", run_id: str, metrics: Mapping[str, Any], figures: Path, tables: Path
) -> None:
    """Add scores, baselines, figures and tables to the run of the training.

    The scores on val are logged as `best/…` and not as `val/…`, whose axis is the epoch: there
    they would be a stray point.
    """
    from mlflow.entities import Metric, RunTag

    timestamp = int(time.time() * 1000)
    scores = [Metric(name, value, timestamp, 0) for name, value in flat_scores(metrics).items()]
    contents = {f"tables/{name}.json": table for name, table in files.read_json(tables).items()}
    listed = [{"path": path, "type": "table"} for path in contents]
    mlflow.log_batch(run_id, scores, tags=[RunTag("mlflow.loggedArtifacts", json.dumps(listed))])
    experiment = mlflow.get_experiment(mlflow.get_run(run_id).info.experiment_id)
    views.share(mlflow, experiment, metrics["metric"], metrics["direction"])
    mlflow.log_artifacts(run_id, str(figures), "figures")
    for path, table in contents.items():
        mlflow.log_dict(run_id, table, path)
    mlflow.log_dict(run_id, dict(metrics), "metrics.json")


def flat_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The scores of an evaluation by the names that LEGEND explains."""
    scores = {f"test/{name}": value for name, value in metrics["test"].items()}
    scores["test/interval_low"], scores["test/interval_high"] = metrics["interval"]
    scores["vs/gain"], scores["vs/gain_low"], scores["vs/gain_high"] = metrics["better"]
    for baseline, baseline_scores in metrics["baselines"].items():
        for name, value in baseline_scores.items():
            scores[f"vs/{name}/{baseline}"] = value
    return scores
