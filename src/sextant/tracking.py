"""The one file that knows MLflow: runs, the registry, and how a model is packed.

A registered model is one lineage that can be compared: `sextant-<model>` on real data, `sextant-<model>-twin` on the
twin, each with the alias `champion`. A version is known by the digest of the model's folder, so that what DVC restores
from its cache is recognised, and what is new is not.
"""

import atexit
import csv
import hashlib
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from . import config, files
from .errors import SextantError, reason, shown

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
REIGNS = "reigns"  # tag of a registered model: the versions that were champion, one after the other
PATIENCE = 10.0  # seconds to wait for a database that another program holds
# How long the first question waits for a server. Later ones keep MLflow's minutes, which outlast a server's restart.
PROBE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
REQUIREMENTS = ("torch", "pandas", "numpy", "safetensors", "pydantic", "scikit-learn", "pillow")
NOTE = "mlflow.note.content"  # the tag that MLflow's pages show as the description of an experiment or a run
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


os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


# --- the store --------------------------------------------------------------------------------------------------------


def root() -> Path:
    """Where this clone's database and artifacts lie."""
    return files.state_root().resolve()


def uri() -> str:
    """MLFLOW_TRACKING_URI, or this clone's own SQLite database under MLflow's default name."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def address() -> str:
    """The store as records and messages may show it: without user and password."""
    return shown(uri())


def client() -> "MlflowClient":
    """A client of a store that is there, of this version, and not locked; raises SextantError otherwise."""
    from filelock import FileLock

    path = database()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(f"{path}.lock") if path else nullcontext()
    ):  # two first touches at once break a database for good
        _check_unlocked()
        try:
            if path and not path.exists():
                with files.written_whole(path) as beside:  # so does one that is killed
                    _answering(f"sqlite:///{beside}")
            return _answering(uri())
        except Exception as error:  # MLflow's own, SQLAlchemy's, a driver that is not installed
            if path and "db upgrade" in str(error):
                return _upgraded()
            repair = (
                "move it away, then `make register` makes a new one from the outputs"
                if path
                else "start the server, or correct MLFLOW_TRACKING_URI"
            )
            raise SextantError(
                f"no answer from the MLflow store {address()} ({reason(error)[:200]}); {repair}"
            ) from error


def _answering(address: str) -> "MlflowClient":
    """A client whose store has answered one question."""
    from mlflow.tracking import MlflowClient

    brief = {key: value for key, value in PROBE.items() if key not in os.environ}
    os.environ.update(brief)
    try:
        found = MlflowClient(tracking_uri=address, registry_uri=address)
        found.search_experiments(max_results=1)
    finally:
        for key in brief:
            del os.environ[key]
    return found


def _upgraded() -> "MlflowClient":
    """A client of a local store that an older MLflow had written."""
    words = [sys.executable, "-m", "mlflow", "db", "upgrade", uri()]
    if subprocess.run(words, capture_output=True).returncode:
        raise SextantError(
            f"the MLflow store {address()} was written by another version than the installed {installed('mlflow')};"
            " `make setup` installs the one that constraints.txt names, which upgrades an older store"
        )
    return _answering(uri())


def database() -> Path | None:
    """The file of a SQLite store, or None for a server."""
    return (
        Path(uri().removeprefix("sqlite:///")).absolute()
        if uri().startswith("sqlite:///")
        else None
    )


def _check_unlocked(patience: float = PATIENCE) -> None:
    path = database()
    if path is None or not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=patience)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: sqlite3.DatabaseError) -> SextantError:
    if "not a database" in str(error):
        return SextantError(
            f"{path} is no database; move it away, then `make register` makes one from the outputs"
        )
    return SextantError(
        f"the MLflow database {path} cannot be written to ({error}); end the program that holds it"
        " (`make doctor` looks), then run the same command again"
    )


def _ask(question: str, *values: str) -> list[tuple[Any, ...]]:
    """The answer of a local store in SQL, since the client's import alone costs two seconds; none where it is not there
    or not filled yet. Raises SextantError where another program holds it."""
    path = database()
    if path is None or not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            return connection.execute(question, values).fetchall()
    except sqlite3.DatabaseError as error:
        if "no such" in str(error):  # table or column: of another MLflow, which `client` sees to
            return []
        raise _unusable(path, error) from None


def _experiment(mlflow: "MlflowClient", name: str, legend: str) -> str:
    """The id of the experiment; a local one keeps its artifacts by an absolute path under MLflow's default name."""
    found = mlflow.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    home = _home()
    place = f"{home}/mlruns/{name}" if home else None
    kind = {
        "mlflow.experimentKind": "custom_model_development"
    }  # the page opens at the training runs
    return str(mlflow.create_experiment(name, artifact_location=place, tags={**kind, NOTE: legend}))


def relocate() -> bool:
    """Mend a local store whose checkout has moved: MLflow stores artifact paths absolute. True where it had."""
    path, new, moved = database(), _home(), False
    while path and new and (old := moved_from()):
        _check_unlocked()
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection, connection:
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "storage_location"),
                ("model_versions", "source"),
            ):
                connection.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                    (f"{old}/mlruns/", f"{new}/mlruns/"),
                )
        moved = True
    return moved


def moved_from() -> str | None:
    """The address of the checkout that a local store was written in, where that is not this one any more."""
    for (place,) in _ask("SELECT artifact_location FROM experiments WHERE name LIKE 'sextant-%'"):
        old = str(place).rpartition("/mlruns/")[0]
        if old and old != _home():
            return old
    return None


def _home() -> str | None:
    """The address of the folder of a local store, where its artifacts lie too; None for a server."""
    path = database()
    return path.parent.as_uri() if path else None


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
        run_id = _create_run(
            mlflow, place["name"], conf, profile, by_hand="DVC_STAGE" not in os.environ
        )
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
        _must_be_absence(error)
        return False


def _must_be_absence(error: Any) -> None:
    """Raise `error` unless it says that a thing is not there: a server that stumbles must not pass for an empty one."""
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error


def _create_run(
    mlflow: "MlflowClient",
    name: str,
    conf: config.ModelConf,
    profile: Mapping[str, Any],
    by_hand: bool,
) -> str:
    from mlflow.entities import Param

    commit = _git("rev-parse", "HEAD").strip() or "0" * 40
    settings, reproduce = _made_by(conf.name, commit, by_hand)
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
        "dirty": str(bool(_changes())).lower(),
        "pipeline": _pipeline(commit),
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


def _made_by(model: str, commit: str, by_hand: bool) -> tuple[list[str], str]:
    """The settings that are not the commit's, as `net.sigma=3.0`, and the command that trains with them again."""
    if by_hand:
        words = [word for word in sys.argv[1:] if word != f"model={model}"]
        settings = [word.removeprefix("model.") for word in words]
        command, told = ["python", "-m", "sextant.train", f"model={model}", *words], not _changes()
    else:
        conf = config.CONF / "model" / f"{model}.yaml"
        (run, all_of_run), (own, all_of_own) = _altered(config.PARAMS), _altered(conf)
        settings = [*run, *own]
        options = [
            word for one in [*run, *(f"{conf}:{one}" for one in own)] for word in ("-S", one)
        ]
        command = (
            ["dvc", "exp", "run", *options, f"train@{model}"]
            if options
            else ["make", "train", f"MODEL={model}"]
        )
        told = all_of_run and all_of_own and not _changes(config.PARAMS, conf)
    again = f"git checkout {commit[:12]} && {shlex.join(command)}"
    return settings, again if told else f"{again}  # and changes that were not committed"


def _altered(path: Path) -> tuple[list[str], bool]:
    """The values of a YAML file that are not the commit's, and whether it differs in nothing else."""
    texts = _git("show", f"HEAD:./{path}"), path.read_text(encoding="utf-8")
    was, now = (config.flat(config.parsed(text, str(path)) or {}) for text in texts)
    altered = [key for key in now if key in was and was[key] != now[key]]
    return [f"{key}=" + now[key].strip('"') for key in altered], was.keys() == now.keys()


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


ASIDE = (".", ":!dvc.lock", ":!reports")  # what DVC itself writes is no change


def _git(*words: str) -> str:
    """What git says; nothing where there is no repository."""
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def _changes(*aside: Path) -> str:
    """The files that are not the commit's, but for those `aside`."""
    return _git("status", "--porcelain", "--", *ASIDE, *(f":!{path}" for path in aside)).strip()


def _pipeline(commit: str) -> str:
    """The tag that joins one execution's runs."""
    whole = [commit, _git("diff", "HEAD", "--", *ASIDE), config.PARAMS.read_text(encoding="utf-8")]
    return hashlib.sha256(" ".join(whole).encode()).hexdigest()[:12]


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
    known = _registered(mlflow, name)
    if known is None:
        return []
    page = mlflow.search_model_versions(f"name = '{name}'", max_results=1000)
    found = list(page)
    while page.token:
        page = mlflow.search_model_versions(
            f"name = '{name}'", max_results=1000, page_token=page.token
        )
        found += page
    return sorted(
        (_version(one, known.aliases.get(CHAMPION)) for one in found),
        key=lambda one: -int(one.version),
    )


def _registered(mlflow: "MlflowClient", name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return mlflow.get_registered_model(name)
    except MlflowException as error:
        _must_be_absence(error)
        return None


def _version(found: "ModelVersion", champion: str | None) -> Version:
    number = str(found.version)
    return Version(
        found.name,
        number,
        dict(found.tags),
        number == str(champion),
        f"models:/{found.name}/{number}",
    )


def champion(mlflow: "MlflowClient", name: str) -> Version | None:
    """The version with the alias, where there is one."""
    return next((version for version in versions(mlflow, name) if version.champion), None)


def champion_of(mlflow: "MlflowClient", model: str) -> Version:
    """The real champion of a model, or else its twin's; raises SextantError where there is neither."""
    found = next(filter(None, (champion(mlflow, name) for name in lineages(model))), None)
    if found is None:
        raise no_champion(mlflow, model)
    return found


def lineages(model: str) -> tuple[str, str]:
    """The names under which a model may be registered, the real one first."""
    return registered_name(model, "mirror"), registered_name(model, "embedded")


def say_twin(version: Version) -> None:
    """Say on stderr that who answers has never seen real data."""
    if version.tags["source"] == "embedded":
        print(
            f"sextant: {version.tags['model']} has no champion on real data; its twin's answers",
            file=sys.stderr,
        )


def no_champion(mlflow: "MlflowClient", model: str) -> SextantError:
    names = [
        one.name
        for one in mlflow.search_registered_models("name LIKE 'sextant-%'")
        if CHAMPION in one.aliases
    ]
    known = sorted({name.removeprefix("sextant-").removesuffix("-twin") for name in names})
    return SextantError(
        f"`{model}` has no champion in {address()}; champions there: {', '.join(known) or 'none'};"
        " `make repro` trains and judges what params.yaml lists"
    )


def holds(name: str, digest: str) -> bool:
    """Whether a local store has judged this digest and has its files; False also where it cannot be known so."""
    found = _ask(
        "SELECT version.storage_location FROM model_versions AS version"
        " JOIN model_version_tags AS digest USING (name, version)"
        " JOIN model_version_tags AS decision USING (name, version)"
        " WHERE name = ? AND digest.key = 'digest' AND digest.value = ? AND decision.key = 'decision'",
        name, digest,
    )  # fmt: skip
    return bool(found) and not moved_from() and all(_lies(place) for (place,) in found)


def reigns_here(name: str, version: str) -> bool:
    """Whether a version is champion in a local store."""
    question = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
    return [str(number) for (number,) in _ask(question, name, CHAMPION)] == [version]


def _lies(place: str | None) -> bool:
    """Whether there are files at an address; what lies on another machine is taken to be there."""
    parts = urlsplit(place or "")
    path = unquote(parts.path) if parts.scheme == "file" else place or ""
    return parts.scheme not in ("", "file") or Path(path, "MLmodel").is_file()


def pack(place: Path | None, run_id: str | None, model: Path, example: Any, schema: Any) -> str:
    """Pack a model's folder with this commit's code behind MLflow's pyfunc, into `place` or into a run; its address.

    No pickle: the loader is a module of the packed code, the data are safetensors and JSON.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    inputs, outputs = (
        Schema([ColSpec(kind, name, required) for name, kind, required in s]) for s in schema[:2]
    )
    params: Any = ParamSchema([ParamSpec(*each) for each in schema[2]]) if schema[2] else None
    package = dict(
        loader_module="sextant.saved",
        data_path=str(model),
        code_paths=[str(Path(__file__).parent)],
        signature=ModelSignature(inputs, outputs, params),
        input_example=example,
        pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in REQUIREMENTS],
    )
    if place is not None:
        mlflow.pyfunc.save_model(str(place), **package)
        return str(place)
    with mlflow.start_run(run_id, log_system_metrics=False):
        return str(mlflow.pyfunc.log_model(name=model.name, **package).model_uri)


def create_version(
    mlflow: "MlflowClient",
    name: str,
    model_uri: str,
    run_id: str,
    tags: Mapping[str, str],
    card: str,
    about: str,
) -> Version:
    """A new version of a registered model, made where it is not there; refuses another data set under its name."""
    check_data(mlflow, name, tags["dataset"])
    if _registered(mlflow, name) is None:
        mlflow.create_registered_model(name, tags={"dataset": tags["dataset"]}, description=about)
    logged = model_uri.removeprefix("models:/")  # a server wants it said twice
    made = mlflow.create_model_version(
        name, model_uri, run_id, tags=dict(tags), description=card, model_id=logged
    )
    # A server notes by itself which versions a logged model has; else its page would say that it is not registered.
    versions = json.dumps([{"name": name, "version": str(made.version)}])
    mlflow.set_logged_model_tags(logged, {"mlflow.modelVersions": versions, NOTE: card})
    return _version(made, None)


def check_data(mlflow: "MlflowClient", name: str, dataset: str) -> None:
    """Raise SextantError where a registered model is for another data set: scores on two cannot be compared."""
    known = _registered(mlflow, name)
    if known and known.tags.get("dataset", dataset) != dataset:
        raise SextantError(
            f"{name} is registered for data set `{known.tags['dataset']}`, not for `{dataset}`;"
            " give this a name of its own: a further line in `models` of params.yaml with its conf"
        )


def lost(mlflow: "MlflowClient", version: Version) -> str | None:
    """Where the files of a local version should lie and do not."""
    place = str(mlflow.get_model_version_download_uri(version.name, version.version))
    return None if database() is None or _lies(place) else place


def repack(place: str, model: Path, example: Any, schema: Any) -> None:
    """Write the lost files of a version again, from its model's folder."""
    with files.written_whole(Path(unquote(urlsplit(place).path))) as beside:
        pack(beside, None, model, example, schema)


def tag(mlflow: "MlflowClient", version: Version, **tags: str) -> None:
    for key, value in tags.items():
        mlflow.set_model_version_tag(version.name, version.version, key, value)


def untag(mlflow: "MlflowClient", version: Version, key: str) -> None:
    if key in mlflow.get_model_version(version.name, version.version).tags:
        mlflow.delete_model_version_tag(version.name, version.version, key)


def reigns(mlflow: "MlflowClient", name: str) -> list[str]:
    """The versions that were champion, one after the other, the present one last; a rollback takes the last one off."""
    known = _registered(mlflow, name)
    if known is None:
        return []
    line, now = json.loads(known.tags.get(REIGNS, "[]")), known.aliases.get(CHAMPION)
    if now is not None and line[-1:] != [
        str(now)
    ]:  # moved in MLflow's own pages, or a crash came between
        line.append(str(now))
    return list(line)


def crown(mlflow: "MlflowClient", version: Version) -> None:
    """Move the alias to `version`, and write down since when, and until when the one before it was champion.

    Called again after a crash between, it writes down what is missing.
    """
    before = champion(mlflow, version.name)
    line = reigns(mlflow, version.name)
    if before is None or before.version != version.version:
        mlflow.set_registered_model_alias(version.name, CHAMPION, version.version)
        line.append(version.version)
    _write_reigns(mlflow, version.name, line)
    _write_times(mlflow, version.name, before)


def roll_back(mlflow: "MlflowClient", name: str) -> str | None:
    """Move the alias to the champion before the present one; None where there was none."""
    before, there = champion(mlflow, name), {version.version for version in versions(mlflow, name)}
    line = [number for number in reigns(mlflow, name)[:-1] if number in there]
    while line and before and line[-1] == before.version:
        line.pop()
    if not line:
        return None
    _write_reigns(
        mlflow, name, line
    )  # first: after a crash here the present champion still counts as the last one
    mlflow.set_registered_model_alias(name, CHAMPION, line[-1])
    _write_times(mlflow, name, before)
    return str(line[-1])


def _write_reigns(mlflow: "MlflowClient", name: str, line: list[str]) -> None:
    mlflow.set_registered_model_tag(
        name, REIGNS, json.dumps(line[-200:])
    )  # a tag holds 5,000 characters


def _write_times(mlflow: "MlflowClient", name: str, before: Version | None) -> None:
    """`champion_since` and `champion_until` of every version, as the alias now says."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    for one in versions(mlflow, name):
        ended = "champion_until" in one.tags
        if one.champion and (ended or "champion_since" not in one.tags):
            tag(mlflow, one, champion_since=now)
            untag(mlflow, one, "champion_until")
        was = "champion_since" in one.tags or (before and before.version == one.version)
        if was and not one.champion and not ended:
            tag(mlflow, one, champion_until=now)


class Lost(SextantError):
    """The files of a registered version are not where the registry says."""


def folder_of(model_uri: str) -> Path:
    """A packed model on this disk; from a server it is fetched, and removed when this process ends. Raises Lost."""
    import mlflow

    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    place = None
    if database() is None:
        place = tempfile.mkdtemp(prefix="sextant-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=place))
    except Exception as error:
        client()  # raises where the store itself is gone
        raise Lost(
            f"the files of {model_uri} cannot be read ({reason(error)[:200]});"
            " `make register` mends what a moved or lost folder broke"
        ) from error


ANSWER = """
import sys, warnings, mlflow.pyfunc, pandas
warnings.simplefilter("ignore")
model, rows = mlflow.pyfunc.load_model(sys.argv[1]), pandas.read_parquet(sys.argv[2])
numbers = [one.name for one in model.metadata.get_input_schema() if one.type.name == "double"]
rows[numbers] = rows[numbers].astype(float)  # MLflow takes no integer for a float
params = model.metadata.get_params_schema() or []
details = {one.name: True for one in params if one.name == "details"}  # what scores need and people do not
model.predict(rows, params=details or None).to_parquet(sys.argv[3])
"""


def answers_of(model_uri: str, rows: Path, out: Path) -> str | None:
    """Let a packed model answer rows through its registered interface, with its own code in a process of its own.

    The answers come to `out` as Parquet; what came in the way is returned.
    """
    try:
        folder = folder_of(model_uri)
    except Lost as error:
        return str(error)
    env = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }  # the packed code must answer
    words = [sys.executable, "-P", "-c", ANSWER, str(folder), str(rows), str(out)]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]
