"""The one file that knows MLflow: runs, the registry, and how a model is packed.

A registered model is one lineage that can be compared: `sextant-<model>` on real data, `sextant-<model>-twin` on the
twin, each with the alias `champion`. A version is known by the digest of the model's folder, so that what DVC restores
from its cache is recognised, and what is new is not.
"""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import config, files
from .errors import SextantError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
REQUIREMENTS = ("torch", "pandas", "numpy", "safetensors", "pydantic", "scikit-learn")

os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


# --- the store --------------------------------------------------------------------------------------------------------


def root() -> Path:
    """Where this clone's database and artifacts lie."""
    return files.state_root().resolve()


def uri() -> str:
    """MLFLOW_TRACKING_URI, or this clone's own SQLite database under MLflow's default name."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def client() -> "MlflowClient":
    """A client of a store that is there, of this version, and not locked; raises SextantError otherwise."""
    from filelock import FileLock

    with FileLock(root() / "mlflow.db.lock"):  # a first touch by two at once leaves a database broken for good
        _check_unlocked()
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            found = MlflowClient(tracking_uri=uri(), registry_uri=uri())
            found.search_experiments(max_results=1)
        except MlflowException as error:
            if "db upgrade" not in str(error):
                raise SextantError(f"no answer from the MLflow store {uri()} ({error}); is it running?") from None
            subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri()], check=True, capture_output=True)
            found = MlflowClient(tracking_uri=uri(), registry_uri=uri())
    return found


def database() -> Path | None:
    """The file of a SQLite store, or None for a server."""
    return Path(uri().removeprefix("sqlite:///")) if uri().startswith("sqlite:///") else None


def _check_unlocked(patience: float = 10.0) -> None:
    path = database()
    if path is None or not path.is_file():
        return
    try:
        with sqlite3.connect(path, timeout=patience) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        raise SextantError(
            f"the MLflow database {path} cannot be written to ({error}); end the program that holds it"
            " (`make doctor` looks), then run the same command again"
        ) from None


def _experiment(mlflow: "MlflowClient", name: str) -> str:
    """The id of the experiment; a local one keeps its artifacts by an absolute path under MLflow's default name."""
    found = mlflow.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    place = (root() / "mlruns" / name).as_uri() if database() else None
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the page opens at the training runs
    return str(mlflow.create_experiment(name, artifact_location=place, tags=kind))


def relocate() -> bool:
    """Mend a local store whose checkout has moved: MLflow stores artifact paths absolute. True where it had."""
    path = database()
    old = moved_from()
    if path is None or old is None:
        return False
    new = root().as_uri()
    with sqlite3.connect(path) as connection:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
            ("model_versions", "source"),
        ):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old + "/mlruns", new + "/mlruns")
            )
    return True


def moved_from() -> str | None:
    """The address of the checkout that a local store was written in, where that is not this one any more."""
    path = database()
    if path is None or not path.is_file():
        return None
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT artifact_location FROM experiments WHERE name LIKE 'sextant-%'").fetchall()
    for (place,) in rows:
        old = str(place).rpartition("/mlruns/")[0]
        if old and old != root().as_uri():
            return old
    return None


# --- runs -------------------------------------------------------------------------------------------------------------


def registered_name(model: str, source: str) -> str:
    """`sextant-ann` on real data, `sextant-ann-twin` on the twin."""
    return f"sextant-{model}" + ("-twin" if source == "embedded" else "")


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
        self.waiting += [Metric(key, value, now, step) for key, value in row.items() if key != "epoch"]
        if time.monotonic() - self.sent > 3:
            self.flush()

    def flush(self) -> None:
        for start in range(0, len(self.waiting), 500):
            self.mlflow.log_batch(self.run_id, metrics=self.waiting[start : start + 500])
        self.waiting, self.sent = [], time.monotonic()

    def finish(self, card: Mapping[str, Any], model: Path, curves: Path) -> None:
        """The kept epoch's scores under `best/`, the digest by which the registry will know the model, the curves."""
        self.flush()
        best = {"best/epoch": card["epoch"], **{f"best/{name}": value for name, value in card["val"].items()}}
        for name, value in best.items():
            self.mlflow.log_metric(self.run_id, name, value)
        self.mlflow.set_tag(self.run_id, "digest", files.folder_digest(model))
        self.mlflow.log_artifact(self.run_id, str(curves))


@contextmanager
def training_run(conf: config.ModelConf, profile: Mapping[str, Any], folder: Path) -> Iterator[TrainingRun]:
    """Open the run of a training (or the one that an interrupted training had opened), and close it.

    `folder` remembers the run across a kill; a training by hand is tagged `scratch`.
    """
    mlflow = client()
    remembered = folder / "run.json"
    place = {"uri": uri(), "name": registered_name(conf.name, profile["source"])}
    earlier = json.loads(remembered.read_text()) if remembered.is_file() else {}
    if all(earlier.get(key) == value for key, value in place.items()):
        run_id = earlier["run"]
        mlflow.update_run(run_id, status="RUNNING")
    else:
        run_id = _create_run(mlflow, place["name"], conf, profile)
        files.write_json(remembered, {**place, "run": run_id})
    with _system_metrics(run_id):
        try:
            yield TrainingRun(mlflow, run_id)
        except BaseException:
            mlflow.set_terminated(run_id, "FAILED")
            raise
    mlflow.set_terminated(run_id, "FINISHED")


def _create_run(mlflow: "MlflowClient", name: str, conf: config.ModelConf, profile: Mapping[str, Any]) -> str:
    from mlflow.entities import Param

    by_hand = "DVC_STAGE" not in os.environ
    commit, dirty, pipeline = _git()
    again = f"make train MODEL={conf.name}" if not by_hand else f"python -m sextant.train {' '.join(sys.argv[1:])}"
    tags = {
        "model": conf.name,
        "family": conf.family,
        "task": conf.task,
        "source": profile["source"],
        "mlflow.source.name": "sextant.train",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "dirty": str(dirty).lower(),
        "pipeline": pipeline,
        "scratch": str(by_hand).lower(),
        "reproduce": f"git checkout {commit[:12]} && {again}" + (" (with changes not committed)" if dirty else ""),
        **({"experiment": os.environ["DVC_EXP_NAME"]} if os.environ.get("DVC_EXP_NAME") else {}),
    }
    flat = {"seed": conf.seed, "budget": conf.budget, "source": profile["source"], **_flat(conf)}
    run = mlflow.create_run(_experiment(mlflow, name), tags=tags, run_name=f"{conf.name} {commit[:7]}")
    mlflow.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in flat.items()])
    _log_data(mlflow, run.info.run_id, profile)
    mlflow.log_dict(run.info.run_id, conf.model_dump(), "config.yaml")
    return str(run.info.run_id)


def _flat(conf: config.ModelConf) -> dict[str, Any]:
    """The parameters that matter, flat: what the net, the optimizer and the schedule were called with."""
    blocks = {"net": conf.net, "optimizer": conf.optimizer, "schedule": conf.schedule}
    return {f"{block}.{key}": value for block, values in blocks.items() for key, value in values.items()}


def _log_data(mlflow: "MlflowClient", run_id: str, profile: Mapping[str, Any]) -> None:
    """The data set with name, source and digest, as the run's input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = Dataset(
        name=profile["dataset"],
        digest=profile["digest"][:36],
        source_type=profile["source"],
        source=json.dumps({"source": profile["source"], "digest": profile["digest"]}),
        profile=json.dumps({"rows": profile["rows"]}),
    )
    mlflow.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train, val")])])


@contextmanager
def _system_metrics(run_id: str) -> Iterator[None]:
    """CPU, memory and, where there is one, GPU by time, as MLflow's own monitor takes them."""
    import mlflow
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    mlflow.set_tracking_uri(uri())
    monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri())
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _git() -> tuple[str, bool, str]:
    """Commit, whether anything but DVC's own writing differs from it, and the tag that joins one execution's runs."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    changes = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports")
    commit = git("rev-parse", "HEAD").strip() or "0" * 40
    difference = git("diff", "HEAD", "--", ".", ":!dvc.lock", ":!reports")
    whole = " ".join([commit, difference, config.PARAMS.read_text(encoding="utf-8")])
    return commit, bool(changes.strip()), hashlib.sha256(whole.encode()).hexdigest()[:12]


def run_of(mlflow: "MlflowClient", name: str, digest: str) -> str | None:
    """The run that trained the model of this digest, where this store has it."""
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        return None
    found = mlflow.search_runs([experiment.experiment_id], f"tags.digest = '{digest}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def run_from_outputs(
    mlflow: "MlflowClient", name: str, conf: config.ModelConf, profile: Mapping[str, Any], model: Path, curves: Path
) -> str:
    """Log a training again from what it left: DVC restored it from its cache, or the store was lost."""
    import csv

    run_id = _create_run(mlflow, name, conf, profile)
    mlflow.set_tag(run_id, "restored", "true")
    run = TrainingRun(mlflow, run_id)
    with curves.open(newline="") as stream:
        for row in csv.DictReader(stream):
            run.log({key: float(value) for key, value in row.items()})
    run.finish(json.loads((model / "model.json").read_text(encoding="utf-8")), model, curves)
    mlflow.set_terminated(run_id, "FINISHED")
    return run_id


def log_evaluation(mlflow: "MlflowClient", run_id: str, metrics: Mapping[str, Any], figures: Path) -> None:
    """The metrics of val and test, of the baselines, and the figures, added to the run of the training."""
    for part in ("test", "val"):
        for name, value in metrics[part].items():
            mlflow.log_metric(run_id, f"{part}/{name}", value)
    for baseline, scores in metrics["baselines"].items():
        for name, value in scores.items():
            mlflow.log_metric(run_id, f"baseline/{baseline}/{name}", value)
    mlflow.log_artifacts(run_id, str(figures), "figures")
    mlflow.log_dict(run_id, dict(metrics), "metrics.json")


# --- the registry -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """One registered version, its tags and whether it is champion."""

    name: str
    version: str
    tags: Mapping[str, str]
    champion: bool
    model_uri: str

    @property
    def decision(self) -> dict[str, Any] | None:
        return json.loads(self.tags["decision"]) if "decision" in self.tags else None


def versions(mlflow: "MlflowClient", name: str) -> list[Version]:
    """All versions of a registered model, the newest first; none where it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        champion = mlflow.get_registered_model(name).aliases.get(CHAMPION)
    except MlflowException:
        return []
    found = mlflow.search_model_versions(f"name = '{name}'", max_results=1000)
    return sorted((_version(one, champion) for one in found), key=lambda one: -int(one.version))


def _version(found: "ModelVersion", champion: str | None) -> Version:
    number = str(found.version)
    return Version(found.name, number, dict(found.tags), number == str(champion), f"models:/{found.name}/{number}")


def champion(mlflow: "MlflowClient", name: str) -> Version | None:
    """The version with the alias, where there is one."""
    return next((version for version in versions(mlflow, name) if version.champion), None)


def champion_of(mlflow: "MlflowClient", model: str) -> Version:
    """The real champion of a model, or else its twin's; raises SextantError where there is neither."""
    for source in ("mirror", "embedded"):
        found = champion(mlflow, registered_name(model, source))
        if found:
            if source == "embedded":
                print(f"sextant: {model} has no champion on real data; its twin's answers", file=sys.stderr)
            return found
    raise SextantError(f"`{model}` has no champion in {uri()}; `make repro` trains and judges one")


def holds(name: str, digest: str) -> bool:
    """Whether a local store has judged this digest and stands where it was written: asked in SQL, since the client's
    import alone costs two seconds. False also where it cannot be known so."""
    path = database()
    if path is None or not path.is_file() or moved_from():
        return False
    question = (
        "SELECT 1 FROM model_version_tags AS digest JOIN model_version_tags AS decision USING (name, version)"
        " WHERE name = ? AND digest.key = 'digest' AND digest.value = ? AND decision.key = 'decision'"
    )
    try:
        with sqlite3.connect(path) as connection:
            return connection.execute(question, (name, digest)).fetchone() is not None
    except sqlite3.OperationalError:
        return False


def pack(place: Path | None, run_id: str | None, model: Path, example: Any, schema: Any) -> str:
    """Pack a model's folder with this commit's code behind MLflow's pyfunc, into `place` or into a run; its address.

    No pickle: the loader is a module of the packed code, the data are safetensors and JSON.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    inputs, outputs = (Schema([ColSpec(kind, name, required) for name, kind, required in s]) for s in schema)
    package = dict(
        loader_module="sextant.saved",
        data_path=str(model),
        code_paths=[str(Path(__file__).parent)],
        signature=ModelSignature(inputs, outputs),
        input_example=example,
        pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in REQUIREMENTS],
    )
    if place is not None:
        mlflow.pyfunc.save_model(str(place), **package)
        return str(place)
    with mlflow.start_run(run_id, log_system_metrics=False):
        return str(mlflow.pyfunc.log_model(name="model", **package).model_uri)


def create_version(
    mlflow: "MlflowClient", name: str, model_uri: str, run_id: str, tags: Mapping[str, str], card: str, about: str
) -> Version:
    """A new version of a registered model, made where it is not there; refuses another data set under its name."""
    from mlflow.exceptions import MlflowException

    try:
        known = mlflow.get_registered_model(name)
    except MlflowException:
        known = mlflow.create_registered_model(name, tags={"dataset": tags["dataset"]}, description=about)
    if known.tags.get("dataset") != tags["dataset"]:
        raise SextantError(
            f"{name} is registered for data set `{known.tags.get('dataset')}`, not for `{tags['dataset']}`;"
            " give this a name of its own: a further line in `models` of params.yaml with its conf"
        )
    made = mlflow.create_model_version(name, model_uri, run_id, tags=dict(tags), description=card)
    return _version(made, None)


def tag(mlflow: "MlflowClient", version: Version, **tags: str) -> None:
    for key, value in tags.items():
        mlflow.set_model_version_tag(version.name, version.version, key, value)


def untag(mlflow: "MlflowClient", version: Version, key: str) -> None:
    if key in mlflow.get_model_version(version.name, version.version).tags:
        mlflow.delete_model_version_tag(version.name, version.version, key)


def crown(mlflow: "MlflowClient", version: Version, keep_since: bool = False) -> None:
    """Move the alias to `version`, and write down since when, and until when the one before it was champion.

    `keep_since`: a rollback gives back an old reign, so that another one goes back further still.
    """
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    before = champion(mlflow, version.name)
    if before and before.version == version.version:
        return
    if before:
        tag(mlflow, before, champion_until=now)
    if not keep_since:
        tag(mlflow, version, champion_since=now)
    untag(mlflow, version, "champion_until")
    mlflow.set_registered_model_alias(version.name, CHAMPION, version.version)


def folder_of(version: Version) -> Path:
    """The packed model of a version on this disk; fetched from a server where it is not."""
    import mlflow

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    return Path(mlflow.artifacts.download_artifacts(version.model_uri))


ANSWER = """
import sys, warnings, mlflow.pyfunc, pandas
warnings.simplefilter("ignore")
model, rows = mlflow.pyfunc.load_model(sys.argv[1]), pandas.read_parquet(sys.argv[2])
numbers = [one.name for one in model.metadata.get_input_schema() if one.type.name == "double"]
rows[numbers] = rows[numbers].astype(float)  # MLflow takes no integer for a float
model.predict(rows).to_parquet(sys.argv[3])
"""


def answers_of(model_uri: str, rows: Path, out: Path) -> str | None:
    """Let a packed model answer rows through its registered interface, with its own code in a process of its own.

    The answers come to `out` as Parquet; what came in the way is returned.
    """
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri(), "MLFLOW_REGISTRY_URI": uri()}
    env.pop("PYTHONPATH", None)  # the packed code must answer, not this checkout's
    words = [sys.executable, "-P", "-c", ANSWER, model_uri, str(rows), str(out)]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]
