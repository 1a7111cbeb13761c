"""Shared fixtures: a workspace of plain files, and clones in which the pipeline has run.

A run of a pipeline costs minutes even at `budget: smoke`, so `pipeline` (one model) and
`whole_pipeline` (every model) are made once per run of pytest. Tests that change something work in
a copy, which costs half a second.

The stages and commands that tests start in clones, and DVC, are forked from one server, see
src/sextant/fork_server.py, unless SEXTANT_FORK_SERVER is `off`.
"""

import gc
import hashlib
import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from filelock import FileLock
from hypothesis import settings
from servers import TrackingServer

from sextant import fork_server

if TYPE_CHECKING:
    from versions import Versions

ROOT = Path(__file__).parent.parent
# Variables of the person who runs the tests that would change what a test does.
FOREIGN = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "SEXTANT_MIRROR"),
    *("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MAKEFLAGS", "MAKELEVEL"),
)
ONE_MODEL = """
datasets:
  churn: tabular
models:
  ann: {family: ann, task: classification, dataset: churn, kind: tabular}
"""
# Test files that import the same libraries, which takes seconds: MLflow, Great Expectations,
# Lightning and scikit-learn. The first three share `built_versions`, which each worker makes for
# itself.
TOGETHER = (
    *("test_register", "test_promote", "test_rollback", "test_packing", "test_registry"),
    *("test_runs", "test_store", "test_predict", "test_serve", "test_errors"),
    *("test_validate", "test_fuzz", "test_new", "test_bad_input", "test_images", "test_ratings"),
    *("test_dvc_yaml", "test_learner", "test_models", "test_regression", "test_results"),
    *("test_sae", "test_train", "test_baselines", "test_evaluate", "test_mapping"),
    *("test_importance", "test_classification", "test_tune"),
    *("test_outliers", "test_scenarios", "test_forecasting", "test_writing", "test_protocol"),
)
# The modules of the package that a stage had loaded when it ended; see `record_imports`.
SITECUSTOMIZE = """
import atexit, os, sys


def write_imports():
    names = [name for name in sys.modules if name.startswith("sextant.")]
    folder = os.path.join(os.environ["DVC_ROOT"], ".git", "imports")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, os.environ["DVC_STAGE"]), "w") as stream:
        stream.write("\\n".join(sorted(names)))


if "DVC_STAGE" in os.environ:
    atexit.register(write_imports)
"""
# A module's command line in a child of the fork server, because importing DVC takes a second, and
# what tests import takes seconds. What finds `dvc` on PATH, or starts `python -m dvc`, starts it
# plainly.
CLIENT = """
import os, sys
from sextant import fork_server

fork_server.run_forked(sys.argv[1:], script="import sys, {module}; sys.exit({module}.{main}())")
os.execv(sys.executable, [sys.executable, "-m", {command!r}, *sys.argv[1:]])
"""
DVC = (sys.executable, "-c", CLIENT.format(module="dvc.cli", main="main", command="dvc"))
PYTEST = (sys.executable, "-c", CLIENT.format(module="pytest", main="main", command="pytest"))
DVC_MODULES = ("dvc.cli.parser", "dvc.repo.reproduce")  # what it imports
# `make test` starts two workers, and with two threads each, the threads wait for one another on two
# cores. The commands that tests start inherit the variables.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
# What the Makefile exports, so that what `make` starts is forked from the same server.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell starts what runs in the background with SIGINT ignored, and nohup does so with SIGHUP. The
# programs that tests interrupt would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Before a test imports torch or Lightning, which set variables of their own: what runs in a clone
# must not have them, and would be no client of the fork server.
AT_START = dict(os.environ)
PLAIN = {fork_server.VARIABLE: "off"}  # for a start without the fork server
# The home and the server of all clones, for the workers of pytest-xdist.
HOME = "SEXTANT_TEST_HOME"
SERVER = "SEXTANT_TEST_SERVER"
# Imports and the collection of tests make objects that live to the end. The garbage collector would
# look at them again and again, for two fifths of that time.
gc.disable()
settings.register_profile("shared machine", deadline=None, max_examples=40)
settings.load_profile("shared machine")


def pytest_configure(config: pytest.Config) -> None:
    """Start the fork server, once for all workers of pytest-xdist."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        resources = ExitStack()
        config.add_cleanup(resources.close)
        os.environ[HOME] = resources.enter_context(tempfile.TemporaryDirectory())
        # Not in the environment of pytest: a command line that a test calls would end pytest.
        os.environ[SERVER] = os.environ.pop(fork_server.VARIABLE, "")
        server = PLAIN
        if needs_server(config):
            libraries = (*fork_server.LIBRARIES, *DVC_MODULES)
            running = fork_server.running(clone_environment(), libraries=libraries)
            server = resources.enter_context(running)
        os.environ[SERVER] = server.get(fork_server.VARIABLE, "off")


def needs_server(config: pytest.Config) -> bool:
    """Whether slow tests may run: the others start no process that imports the libraries."""
    return not config.option.collectonly and "not slow" not in config.option.markexpr


def pytest_collection_finish() -> None:
    """Collect garbage again, but never what was imported and collected before."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # by the default, it would take a fiftieth of the time
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no worker ends with a long one while the other is idle.

    `slow(minutes=3)` says how long a test takes on two cores. The tests that use `whole_pipeline`
    come before all others: the second worker steals tests from the end of the list, so it does not
    wait while the first one makes that fixture. Each worker gets one half of the list at first, so
    the tests of TOGETHER stand together: only one worker imports their libraries.
    """

    def place(item: pytest.Item) -> tuple[bool, bool, float, int]:
        slow = item.get_closest_marker("slow")
        minutes = slow.kwargs.get("minutes", 0) if slow else 0
        whole = "whole_pipeline" in getattr(item, "fixturenames", ())
        file = len(TOGETHER)
        if item.path.stem in TOGETHER:
            file = TOGETHER.index(item.path.stem)
        return slow is None, not whole, -minutes, file

    items.sort(key=place)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the tracking server, the mirror and the make of the person who runs the tests."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def composed_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let Hydra compose the same overrides of files with the same contents once for all workers.

    It takes 50 ms, and half of the compositions of a run of the tests are repetitions.
    """
    from sextant import config, paths

    compose = config._compose
    folder = shared_base(tmp_path_factory) / "composed"
    folder.mkdir(exist_ok=True)
    composed: dict[str, bytes] = {}

    def compose_once(overrides: Sequence[str]) -> dict[str, Any]:
        group, _, name = overrides[0].partition("=")
        key: list[object] = list(overrides)
        for file in ("config.yaml", "trainer.yaml", f"{group}/{name}.yaml"):
            path = paths.CONF / file
            key.append(path.read_bytes() if path.is_file() else None)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        if digest not in composed:
            kept = folder / digest
            if not kept.is_file():
                unfinished = kept.with_suffix(f".{os.getpid()}")
                unfinished.write_bytes(pickle.dumps(compose(overrides)))
                unfinished.replace(kept)
            composed[digest] = kept.read_bytes()
        values: dict[str, Any] = pickle.loads(composed[digest])
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "_compose", compose_once)
        yield


def load_yaml(text: str) -> Any:
    """`yaml.safe_load` by libyaml, which takes a tenth of the time."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def dump_yaml(content: object) -> str:
    """`yaml.safe_dump` by libyaml; keys stay in their order."""
    return yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with conf/ and params.yaml and nothing else; it is the working directory."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", copy_function=shutil.copyfile)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_model(workspace: Path) -> Path:
    """The workspace with only `ann` listed and an empty shelf, so that `check` takes a second."""
    list_one_model(workspace)
    (workspace / "conf/shelf.yaml").unlink()
    return workspace


def list_one_model(path: Path) -> None:
    """Reduce the lists of params.yaml in the folder `path` to `ann` and its data set."""
    params = path / "params.yaml"
    params.write_text(params.read_text().partition("\ndatasets:")[0] + ONE_MODEL)


def clone_environment() -> dict[str, str]:
    """The environment of what runs in clones: nothing of the person who runs the tests."""
    environment = {}
    for name, value in AT_START.items():
        # A pytest in a clone is no worker: it would share a folder with other runs of the tests.
        if name not in FOREIGN and not name.startswith("PYTEST_XDIST_"):
            environment[name] = value
    return environment | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "src",
        "DVC_NO_ANALYTICS": "1",
        "HOME": os.environ[HOME],
        fork_server.VARIABLE: os.environ[SERVER],
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
    }  # fmt: skip


def fork_processes(patch: pytest.MonkeyPatch) -> None:
    """Fork the processes that the package starts in the process of pytest, as those of a clone.

    They are those in which packed models answer. The server refuses an environment other than its
    own.
    """
    from sextant.tracking import VARIABLES

    environment = VARIABLES | clone_environment()
    for name in set(os.environ) - set(environment):
        if not name.startswith(fork_server.FREE_PREFIXES):
            patch.delenv(name)
    for name, value in environment.items():
        patch.setenv(name, value)


def forked_script(script: str) -> tuple[str, ...]:
    """A command that runs a Python script in a child of the fork server, or plainly without one.

    It needs the environment of `clone_environment`, with an absolute PYTHONPATH outside of a clone.
    """
    client = f"from sextant import fork_server\nfork_server.run_forked([], script={script!r})\n"
    return sys.executable, "-c", client + script


class Clone:
    """A git clone of this checkout, as a user has it.

    Its .venv links to the environment that runs the tests.
    """

    def __init__(self, path: Path):
        self.path = path
        self.env = clone_environment()

    def run(
        self, *command: str, code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone; its exit code must be `code` (None: any)."""
        program = (*DVC, *command[1:]) if command[0] == "dvc" else command
        done = subprocess.run(
            program, cwd=self.path, env=self.env | env, capture_output=True, text=True, timeout=1500
        )
        if code is not None:
            assert done.returncode == code, (
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    def stage(
        self, name: str, *arguments: str, code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a stage or command by hand: `python -m sextant <name>`."""
        return self.run(sys.executable, "-m", "sextant", name, *arguments, code=code, **env)

    def repro(self, *arguments: str, code: int | None = 0, **env: str) -> list[str]:
        """Run `dvc repro`; return the names of the stages that ran, in order."""
        done = self.run("dvc", "repro", *arguments, code=code, **env)
        return [
            line.split("'")[1]
            for line in done.stdout.splitlines()
            if line.startswith("Running stage '")
        ]

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace the only occurrence of `old` in a file by `new`."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{file} contains {old!r} {text.count(old)} times"
        (self.path / file).write_text(text.replace(old, new))

    def set(self, file: str, **values: Any) -> None:
        """Set keys of a YAML file, each given by its path with `__` for the dots.

        The file loses its comments.
        """
        content = load_yaml((self.path / file).read_text())
        for key, value in values.items():
            *path, last = key.split("__")
            block = content
            for part in path:
                block = block[part]
            block[last] = value
        (self.path / file).write_text(dump_yaml(content))

    def read_json(self, file: str) -> Any:
        return json.loads((self.path / file).read_text())

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Query the clone's MLflow database directly: importing MLflow would take seconds."""
        with closing(sqlite3.connect(self.path / "mlflow.db")) as connection:
            return connection.execute(sql, values).fetchall()

    def runs(self, experiment: str) -> list[Mapping[str, str]]:
        """Parameters, tags, `status` and `id` of each run of an MLflow experiment, oldest first."""
        rows = self.query(
            "SELECT run_uuid, status FROM runs JOIN experiments USING (experiment_id)"
            " WHERE experiments.name = ? AND runs.lifecycle_stage = 'active' ORDER BY start_time",
            experiment,
        )
        runs = []
        for run, status in rows:
            values = {"id": run, "status": status}
            for table in ("params", "tags"):
                pairs = self.query(f"SELECT key, value FROM {table} WHERE run_uuid = ?", run)
                values.update(pairs)
            runs.append(values)
        return runs

    def copy_registry(self, to: Path) -> Path:
        """Copy the clone's database to `to`; the paths in it still lead to the clone's files."""
        with (
            closing(sqlite3.connect(self.path / "mlflow.db")) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)
        return to

    def champions(self) -> dict[str, str]:
        """The champion's version by registered model."""
        rows = self.query(
            "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion'"
        )
        return {name: str(version) for name, version in rows}

    def versions(self) -> list[tuple[str, str, bool]]:
        """Every registered version: name, number, whether a decision was recorded."""
        rows = self.query(
            "SELECT version.name, version.version, decision.value IS NOT NULL"
            " FROM model_versions AS version"
            " LEFT JOIN model_version_tags AS decision ON decision.name = version.name"
            " AND decision.version = version.version AND decision.key = 'decision' ORDER BY 1, 2"
        )
        return [(name, str(version), bool(decided)) for name, version, decided in rows]

    def commit(self, message: str = "commit") -> None:
        """Commit all changes and new files."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def stale_stages(self) -> dict[str, dict[str, Any]]:
        """The stages that `dvc status` lists, each with its changed dependencies.

        A file is `modified`; of a YAML file, the keys are that a stage reads.
        """
        from dvc.repo import Repo

        with chdir(self.path), Repo() as repo:
            status = repo.status()
        stale: dict[str, dict[str, Any]] = {}
        for stage, reasons in status.items():
            stale[stage] = {}
            for reason in reasons:
                stale[stage] |= reason["changed deps"]
        return stale

    def changed(self) -> list[str]:
        """The changed and new files that `git status` shows, sorted."""
        done = self.run("git", "status", "--porcelain", "-uall")
        return sorted(line[3:] for line in done.stdout.splitlines())


def fresh_clone(path: Path) -> Clone:
    """Copy the files of this checkout that git does not ignore, set `budget: smoke`, and commit.

    Uncommitted changes are copied as well, since a developer tests them before committing. Fewer
    boosted trees are grown for the baseline, which takes half of an evaluation otherwise.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    clone = Clone(path)
    link_environment(path)
    clone.edit("params.yaml", "budget: standard", "budget: smoke")
    clone.edit("src/sextant/trees.py", "MAX_TREES = 600", "MAX_TREES = 40")
    (path / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(path / "reports", ignore_errors=True)  # the metrics of `budget: standard`
    clone.run("git", "init", "-q")
    record_imports(path)
    clone.commit()
    return clone


def record_imports(path: Path) -> None:
    """Make every stage that DVC runs record which modules of the package it loaded.

    Python imports `sitecustomize` at its start from PYTHONPATH, which is `src` for a stage. Git
    ignores the file; the records are in .git/imports/, so a copy of the clone contains them.
    """
    (path / "src/sitecustomize.py").write_text(SITECUSTOMIZE)
    with (path / ".git/info/exclude").open("a") as stream:
        stream.write("/src/sitecustomize.py\n")


def link_environment(path: Path) -> None:
    """Make .venv of links to the environment that runs the tests.

    The stamp .venv/.ready tells make that nothing has to be installed.
    """
    (path / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (path / ".venv" / part.name).symlink_to(part)
    stamp = subprocess.run(
        "cat pyproject.toml requirements.lock | cksum",
        shell=True,
        cwd=path,
        capture_output=True,
        text=True,
        check=True,
    )
    (path / ".venv/.ready").write_text(f"{stamp.stdout.strip()} dev\n")


def shared_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run of the tests, which the workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in AT_START else base


def made_once(
    name: str, tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path], None]
) -> Clone:
    """A clone that `make` creates at a path, once for all workers of pytest-xdist.

    The first worker creates it; the others wait for the lock.
    """
    folder = shared_base(tmp_path_factory) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").is_file():
            shutil.rmtree(folder, ignore_errors=True)  # incomplete, if another worker failed here
            folder.mkdir()
            make(folder / "clone")
            (folder / "made").touch()
    return Clone(folder / "clone")


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which one model's pipeline has run at `budget: smoke`; its outputs are committed.

    Its stages start plainly, except for pull and validate, which tests/test_bad_input.py and
    tests/test_validate.py start so. Tests must not change it; `clone` is a copy for those that do.
    """

    def make(path: Path) -> None:
        clone = fresh_clone(path)
        list_one_model(path)
        clone.commit("one model")
        clone.repro("validate")
        clone.repro(**PLAIN)
        clone.commit("the pipeline of one model")

    return made_once("pipeline", tmp_path_factory, make)


@pytest.fixture(scope="session")
def whole_pipeline(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline of every listed model has run. Tests must not change it.

    Its stages are forked, except for those of `pipeline`, and run side by side.
    """

    def make(path: Path) -> None:
        clone = copy_clone(pipeline, path)
        clone.run("git", "checkout", "-q", "HEAD~2", "--", "params.yaml")
        clone.commit("every model")
        # Not by `dvc repro`, which writes the whole of dvc.lock for each stage, in half a minute.
        clone.stage("repro")
        clone.commit("the pipeline of every model")

    return made_once("whole_pipeline", tmp_path_factory, make)


@pytest.fixture(scope="session")
def whole_copy(whole_pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of `whole_pipeline` for edits and for DVC; each test leaves it unchanged.

    DVC must not work in `whole_pipeline` itself, which other workers may be copying.
    """
    return copy_clone(whole_pipeline, tmp_path_factory.mktemp("whole") / "clone")


@pytest.fixture
def clone(pipeline: Clone, tmp_path: Path) -> Clone:
    """A copy of `pipeline` that the test may change."""
    return copy_clone(pipeline, tmp_path / "clone")


def copy_clone(pipeline: Clone, path: Path) -> Clone:
    """A copy of a clone at `path`, as if the pipeline had run there.

    The paths in its registry and decisions are rewritten, which is what `make register` does after
    a checkout was moved, but in half a second.
    """
    from sextant.tracking import store

    shutil.copytree(pipeline.path, path, symlinks=True)
    clone = Clone(path)
    with chdir(path), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        assert store.relocate()
    for file in [path / "reports/decisions.js", *(path / "reports/decisions").iterdir()]:
        file.write_text(file.read_text().replace(str(pipeline.path), str(path)))
    return clone


def git_clone(origin: Clone, path: Path) -> Clone:
    """A git clone, as another member of the team makes it: no DVC cache and no registry."""
    subprocess.run(["git", "clone", "-q", origin.path, path], check=True)
    link_environment(path)
    return Clone(path)


@pytest.fixture(scope="session")
def with_experiment(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """`pipeline` after `dvc exp run` in its workspace. Tests must not change it."""

    def make(path: Path) -> None:
        clone = copy_clone(pipeline, path)
        clone.run("dvc", "exp", "run", "--name", "wet", "-S", "conf/model/ann.yaml:net.dropout=0.4")

    return made_once("with_experiment", tmp_path_factory, make)


@pytest.fixture(scope="session")
def two_versions(with_experiment: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """`with_experiment` after `make repro`: `ann` has a second version with a decision.

    Tests must not change it.
    """

    def make(path: Path) -> None:
        copy_clone(with_experiment, path).run("make", "repro")

    return made_once("two_versions", tmp_path_factory, make)


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes; those that still run when the test ends are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, **options: Any) -> subprocess.Popen[str]:
        popen = subprocess.Popen(command, text=True, start_new_session=True, **options)
        started.append(popen)
        return popen

    yield start
    for popen in started:
        if popen.poll() is None:
            os.killpg(popen.pid, 9)
        with popen:  # closes its pipes and waits for it
            pass


@pytest.fixture
def tracking_server(
    tmp_path: Path, process: Callable[..., subprocess.Popen[str]]
) -> TrackingServer:
    """A running MLflow server; its files are in the folder `server`."""
    server = TrackingServer(tmp_path / "server", process)
    server.start()
    return server


@pytest.fixture(scope="module")
def pipeline_registry(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pipeline's MLflow database, whose artifacts are those of the pipeline."""
    return pipeline.copy_registry(tmp_path_factory.mktemp("registry") / "mlflow.db")


@pytest.fixture
def in_pipeline(pipeline: Clone, pipeline_registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline as working directory, with a copy of its registry as MLflow store."""
    monkeypatch.chdir(pipeline.path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{pipeline_registry}")


@pytest.fixture(scope="session")
def built_versions(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> "Versions":
    from versions import build

    return build(pipeline, tmp_path_factory.mktemp("versions"))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes in which packed models answer."""
    fork_processes(monkeypatch)


@pytest.fixture
def versions(
    built_versions: "Versions", forked: None, monkeypatch: pytest.MonkeyPatch
) -> "Versions":
    """A registry with three versions; its clone is the working directory."""
    monkeypatch.chdir(built_versions.clone.path)
    return built_versions
