"""What the tests share: a workspace of plain files, and two smoke chains made once and copied."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from hypothesis import settings

ROOT = Path(__file__).parent.parent
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
# Two workers on two cores: a second thread in each would spin. The commands that tests start
# inherit it.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left with one at the end: `slow(minutes=3)` says how
    long on two cores.

    Before them those that ask for the whole chain, so that no other worker, who steals from the
    end, comes to wait while it is made.
    """

    def place(item: pytest.Item) -> tuple[bool, bool, float]:
        slow = item.get_closest_marker("slow")
        longest = -slow.kwargs.get("minutes", 0) if slow else 0
        return slow is None, "whole_chain" not in getattr(item, "fixturenames", ()), longest

    items.sort(key=place)


@pytest.fixture(autouse=True)
def nobody_elses_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test must not meet the tracking server, the mirror or the make of whoever runs it."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """conf/ and params.yaml in an empty folder, which is the working directory."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_model(workspace: Path) -> Path:
    """The workspace with one model listed, for what is held to all that is: a sixth of the time."""
    list_one_model(workspace)
    return workspace


def list_one_model(path: Path) -> None:
    params = path / "params.yaml"
    params.write_text(params.read_text().partition("\ndatasets:")[0] + ONE_MODEL)


class Clone:
    """A git clone of this checkout, as a user has it, with the environment that runs the tests as
    its .venv.
    """

    def __init__(self, path: Path):
        self.path = path
        self.env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.env |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": "src",
            "DVC_NO_ANALYTICS": "1",
            "HOME": str(path.parent),
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
        }  # fmt: skip

    def run(
        self, *words: str, code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone; its exit code must be `code` (None: any)."""
        done = subprocess.run(
            words, cwd=self.path, env=self.env | env, capture_output=True, text=True, timeout=1500
        )
        if code is not None:
            assert done.returncode == code, (
                f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done

    def stage(
        self, name: str, *words: str, code: int | None = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a stage by hand: `python -m sextant <name>`."""
        return self.run(sys.executable, "-m", "sextant", name, *words, code=code, **env)

    def repro(self, *words: str, code: int | None = 0, **env: str) -> list[str]:
        """`dvc repro`; the names of the stages that ran."""
        done = self.run("dvc", "repro", *words, code=code, **env)
        return [
            line.split("'")[1]
            for line in done.stdout.splitlines()
            if line.startswith("Running stage '")
        ]

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace the one `old` in a file by `new`."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        (self.path / file).write_text(text.replace(old, new))

    def set(self, file: str, **values: Any) -> None:
        """Set keys of a YAML file, each given by its path with `__` for the dots (the comments are
        lost).
        """
        content = yaml.safe_load((self.path / file).read_text())
        for key, value in values.items():
            *path, last = key.split("__")
            place = content
            for part in path:
                place = place[part]
            place[last] = value
        (self.path / file).write_text(yaml.safe_dump(content, sort_keys=False))

    def read_json(self, file: str) -> Any:
        return json.loads((self.path / file).read_text())

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the clone's MLflow database in SQL, which costs none of MLflow's import."""
        with closing(sqlite3.connect(self.path / "mlflow.db")) as connection:
            return connection.execute(question, values).fetchall()

    def runs(self, experiment: str) -> list[Mapping[str, str]]:
        """Parameters, tags, `status` and `id` of each run of an MLflow experiment, the oldest
        first.
        """
        found = self.ask(
            "SELECT run_uuid, status FROM runs JOIN experiments USING (experiment_id)"
            " WHERE experiments.name = ? AND runs.lifecycle_stage = 'active' ORDER BY start_time",
            experiment,
        )  # fmt: skip
        pairs = "SELECT key, value FROM {} WHERE run_uuid = ?"
        words = ("params", "tags")
        return [
            {"id": run, "status": status}
            | {k: v for word in words for k, v in self.ask(pairs.format(word), run)}
            for run, status in found
        ]

    def copy_registry(self, to: Path) -> Path:
        """A copy of the clone's database at `to`; what it says of the clone's files stays true."""
        with (
            closing(sqlite3.connect(self.path / "mlflow.db")) as there,
            closing(sqlite3.connect(to)) as here,
        ):
            there.backup(here)
        return to

    def champions(self) -> dict[str, str]:
        """The champion's version by registered model."""
        return {
            name: str(version)
            for name, version in self.ask(
                "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion'"
            )
        }

    def versions(self) -> list[tuple[str, str, bool]]:
        """Every registered version: name, number, whether it has its decision."""
        found = self.ask(
            "SELECT version.name, version.version, decision.value IS NOT NULL"
            " FROM model_versions AS version"
            " LEFT JOIN model_version_tags AS decision ON decision.name = version.name"
            " AND decision.version = version.version AND decision.key = 'decision' ORDER BY 1, 2"
        )
        return [(name, str(version), bool(decided)) for name, version, decided in found]

    def commit(self, why: str = "as it stands") -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", why)

    def changed(self) -> list[str]:
        """What `git status` shows, file by file."""
        done = self.run("git", "status", "--porcelain", "-uall")
        return sorted(line[3:] for line in done.stdout.splitlines())


def fresh_clone(path: Path) -> Clone:
    """The files that git tracks or would track, at `budget: smoke`, committed."""
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
    ready_environment(path)
    clone.edit("params.yaml", "budget: standard", "budget: smoke")
    (path / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(path / "reports", ignore_errors=True)  # the metrics of `budget: standard`
    clone.run("git", "init", "-q")
    record_imports(path)
    clone.commit()
    return clone


def record_imports(path: Path) -> None:
    """Let every stage that DVC runs write which modules of the package it loaded.

    Python imports `sitecustomize` at its start from PYTHONPATH, which is src for a stage. The file
    is excluded from git, and the records lie in .git, so that a copy of the clone has them too.
    """
    (path / "src/sitecustomize.py").write_text(SITECUSTOMIZE)
    with (path / ".git/info/exclude").open("a") as stream:
        stream.write("/src/sitecustomize.py\n")


def ready_environment(path: Path) -> None:
    """.venv made of the environment that runs the tests, with the stamp by which make takes it as
    it is.
    """
    (path / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".ready":
            (path / ".venv" / part.name).symlink_to(part)
    stamp = subprocess.run(
        "cat pyproject.toml constraints.txt | cksum",
        shell=True,
        cwd=path,
        capture_output=True,
        text=True,
        check=True,
    )
    (path / ".venv/.ready").write_text(f"{stamp.stdout.strip()} dev\n")


def made_once(
    name: str, tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path], None]
) -> Clone:
    """A clone that `make` makes at a path, once for all workers of pytest-xdist: the first makes
    it, others wait.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{place}.lock"):
        if not (place / "made").is_file():
            shutil.rmtree(place, ignore_errors=True)  # half made by a worker whose attempt failed
            place.mkdir()
            make(place / "clone")
            (place / "made").touch()
    return Clone(place / "clone")


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """One model's pipeline at `budget: smoke`, run once, registered and committed. Not to be
    changed: see `road`.
    """

    def make(path: Path) -> None:
        clone = fresh_clone(path)
        list_one_model(path)
        clone.commit("one model")
        clone.repro()
        clone.commit("the chain of one model")

    return made_once("chain", tmp_path_factory, make)


@pytest.fixture(scope="session")
def whole_chain(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The same of every model that params.yaml lists. Not to be changed."""

    def make(path: Path) -> None:
        clone = copied(chain, path)
        clone.run("git", "checkout", "-q", "HEAD~2", "--", "params.yaml")
        clone.commit("every model")
        clone.repro()
        clone.commit("the chain of every model")

    return made_once("whole_chain", tmp_path_factory, make)


@pytest.fixture
def road(chain: Clone, tmp_path: Path) -> Clone:
    """A copy of the chain of one's own, its registry moved along."""
    return copied(chain, tmp_path / "clone")


def copied(chain: Clone, path: Path) -> Clone:
    """A copy at `path` as if all had been run there: what `make register` does after a move, in
    half a second.
    """
    shutil.copytree(chain.path, path, symlinks=True)
    clone = Clone(path)
    clone.run(sys.executable, "-c", "from sextant.tracking import store; assert store.relocate()")
    for file in [path / "reports/decisions.js", *(path / "reports/decisions").iterdir()]:
        file.write_text(file.read_text().replace(str(chain.path), str(path)))
    return clone


def cloned(origin: Clone, path: Path) -> Clone:
    """The clone of another member of the team: nothing in DVC's cache, no registry."""
    subprocess.run(["git", "clone", "-q", origin.path, path], check=True)
    ready_environment(path)
    return Clone(path)


@pytest.fixture(scope="session")
def experimented(chain: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The chain after an experiment in its workspace. Not to be changed."""

    def make(path: Path) -> None:
        clone = copied(chain, path)
        clone.run("dvc", "exp", "run", "--name", "wet", "-S", "conf/model/ann.yaml:net.dropout=0.4")

    return made_once("experimented", tmp_path_factory, make)


@pytest.fixture(scope="session")
def twice(experimented: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The same after `make repro`: `ann` has a second, judged version. Not to be changed."""

    def make(path: Path) -> None:
        copied(experimented, path).run("make", "repro")

    return made_once("twice", tmp_path_factory, make)


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **how: object) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(words, text=True, start_new_session=True, **how))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, 9)
        one.wait()
