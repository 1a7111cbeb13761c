"""Trials of a promise: clones with one model, kills, and totals that add up over calls."""

import csv
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml
from _clones import ROOT, link_environment, variables

from sextant import files, fork_server
from sextant.errors import SextantError, UsageError

TOTALS = ROOT / ".scratch/promises.json"
LOGIN = {
    "GIT_AUTHOR_NAME": "trial", "GIT_AUTHOR_EMAIL": "trial@example.org",
    "GIT_COMMITTER_NAME": "trial", "GIT_COMMITTER_EMAIL": "trial@example.org",
}  # fmt: skip
LAST_LINES = 12  # of the output of a command that failed
# What a run writes of itself, which differs between two runs: times, versions, the folder.
OWN = ("reports/decisions", "reports/index.html")
# What the Makefile exports and the fork server must have as its clients have it.
EXPORTED = {"DO_NOT_TRACK": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
PATIENCE = 20.0  # seconds for processes to end that nobody has killed
# The server of `imported_once`, for the commands of all clones, and what makes `make repro` start
# one of its own.
SERVER: dict[str, str] = {}
OWN_SERVER = {fork_server.VARIABLE: ""}


class Options(NamedTuple):
    """The arguments of a row."""

    n: int
    seed: int
    only: str  # a case, or empty for all in turn


def options(
    argv: Sequence[str], trials: int, name_of_case: str = "model", cases: Sequence[str] = ()
) -> Options:
    """The arguments `n=`, `seed=` and that of one case; `trials` are made without `n`.

    The cases are the models, unless the row has others. Raises UsageError for other arguments.
    """
    expected = cases or models()
    values = {"n": str(trials), "seed": str(random.SystemRandom().randrange(10**6))}
    values[name_of_case] = ""
    for argument in argv:
        name, equals, value = argument.partition("=")
        if not equals or name not in values:
            raise UsageError(
                f"`{argument}` is not understood; expected n=, seed= or {name_of_case}="
            )
        values[name] = value
    for name in ("n", "seed"):
        if not values[name].isdecimal():
            raise UsageError(f"{name}={values[name]}: expected a whole number")
    only = values[name_of_case]
    if only and only not in expected:
        raise UsageError(f"{name_of_case}={only}: expected one of {', '.join(expected)}")
    return Options(int(values["n"]), int(values["seed"]), only)


def models() -> list[str]:
    """The models of params.yaml."""
    return list(_params()["models"])


def _params() -> dict[str, dict[str, dict[str, str]]]:
    params: dict[str, dict[str, dict[str, str]]]
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return params


def clone(folder: Path, model: str) -> Path:
    """A clone in `folder` whose params.yaml lists one model, at `smoke` on its twin."""
    path = folder / "sextant"
    subprocess.run(["git", "clone", "-q", ROOT, path], check=True)
    link_environment(path)
    params = _params()
    line = params["models"][model]
    dataset = line["dataset"]
    short = {"seed": 42, "source": "embedded", "budget": "smoke"}
    blocks = {"datasets": {dataset: params["datasets"][dataset]}, "models": {model: line}}
    (path / "params.yaml").write_text(yaml.safe_dump(short | blocks), encoding="utf-8")
    # The commit's dvc.lock and reports are those of all models at `standard`.
    (path / "dvc.lock").unlink()
    shutil.rmtree(path / "reports")
    git = ["git", "-C", str(path)]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one model"], check=True, env=os.environ | LOGIN)
    return path


@contextmanager
def imported_once() -> Iterator[None]:
    """Let the commands of all clones be forked from one server, whose imports take seconds."""
    with fork_server.running(variables(ROOT) | EXPORTED) as server:
        SERVER.update(server)
        try:
            yield
        finally:
            SERVER.clear()


def start(
    folder: Path,
    command: Sequence[str],
    output: int = subprocess.DEVNULL,
    further: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command in a clone, in a session of its own, with the clone's environment."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=variables(folder) | EXPORTED | SERVER | dict(further or {}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, *command: str, **further: str) -> str:
    """Run a command in a clone to its end; return its output. Raises SextantError if it fails."""
    process = start(folder, command, subprocess.PIPE, further)
    try:
        output, _ = process.communicate()
    except BaseException:  # Ctrl-C, which does not reach another session
        kill_all(folder)
        raise
    if process.returncode:
        end = "\n".join(output.splitlines()[-LAST_LINES:])
        raise SextantError(f"`{' '.join(command)}` ended with code {process.returncode}:\n{end}")
    return output


def run_and_kill(
    folder: Path, seconds: float, group: bool, *command: str, **further: str
) -> list[str]:
    """Start a command and `kill -9` it after some time; return what goes on by itself.

    With `group`, the process group of the command is killed, as by a shell, otherwise every process
    of the clone at once, as by a loss of power.
    """
    process = start(folder, command, further=further)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        pass
    faults = []
    if group and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while working_in(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        faults = [f"process {pid} went on after the kill" for pid in working_in(folder)]
    kill_all(folder)
    process.wait()
    return faults


def kill_all(folder: Path) -> None:
    """`kill -9` of every process that works in a clone, until there is none."""
    while pids := working_in(folder):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def working_in(folder: Path) -> list[int]:
    """The processes whose working directory is in a clone."""
    pids = []
    for process in psutil.process_iter(["pid", "cwd", "status"]):
        place = process.info["cwd"]
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if place and alive and Path(place).is_relative_to(folder):
            pids.append(process.info["pid"])
    return pids


# --- what must be as if nothing had happened ----------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    """sha256 by path of everything that a run writes and that does not describe the run itself."""
    result = {}
    for top in ("dvc.lock", "models", "reports", "data/prepared", "data/raw"):
        place = folder / top
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.startswith(OWN):
                result[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return result


def differences(folder: Path, expected: dict[str, str], runs: int | None = 1) -> list[str]:
    """What a finished clone has otherwise than `expected`, or has too much."""
    actual = digests(folder)
    faults = []
    for name in sorted(expected.keys() | actual.keys()):
        if actual.get(name) != expected.get(name):
            faults.append(f"{name} differs")
    leftovers = [path for path in folder.rglob(".*.part") if ".venv" not in path.parts]
    faults += [f"{path.relative_to(folder)} was left behind" for path in leftovers]
    rwlock = folder / ".dvc/tmp/rwlock"
    if rwlock.is_file() and re.search(r"\"pid\"", rwlock.read_text()):
        faults.append("DVC's rwlock has an entry")
    return faults + registry_faults(folder, runs)


def registry_faults(folder: Path, runs: int | None) -> list[str]:
    """What a clone's MLflow database has otherwise than one version and `runs` finished runs.

    Writers at once may each restore the run of a training: None allows any number.
    """
    queries = {
        "runs left RUNNING": ("FROM runs WHERE status = 'RUNNING'", 0),
        "FINISHED runs": (
            "FROM runs WHERE status = 'FINISHED' AND lifecycle_stage = 'active'",
            runs,
        ),
        "versions": ("FROM model_versions WHERE current_stage != 'Deleted_Internal'", 1),
        "champions": ("FROM registered_model_aliases WHERE alias = 'champion'", 1),
    }
    faults = []
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        for name, (query, expected) in queries.items():
            count = database.execute(f"SELECT count(*) {query}").fetchone()[0]
            if expected is not None and count != expected:
                faults.append(f"{count} {name}, expected {expected}")
    return faults


def epochs(folder: Path, model: str) -> list[int]:
    """The epochs in the curves of a training by hand: those at which it looked at val."""
    text = (folder / ".scratch" / model / "curves.csv").read_text(encoding="utf-8")
    return [int(float(row["epoch"])) for row in csv.DictReader(io.StringIO(text))]


def tags_of_runs(folder: Path) -> list[dict[str, str]]:
    """The tags of every run in a clone's MLflow database, in the order of their starts."""
    query = "SELECT run_uuid, key, value FROM tags NATURAL JOIN runs ORDER BY start_time"
    tags: dict[str, dict[str, str]] = {}
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        for run_id, key, value in database.execute(query):
            tags.setdefault(run_id, {})[key] = value
    return list(tags.values())


# --- totals -------------------------------------------------------------------------------------


def count(row: str, case: str, passed: int, tried: int = 1) -> tuple[int, int]:
    """Add trials to the totals, by row, commit and case; return passed and tried of the row."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    TOTALS.parent.mkdir(exist_ok=True)
    totals = json.loads(TOTALS.read_text()) if TOTALS.is_file() else {}
    cases = totals.setdefault(row, {}).setdefault(commit, {})
    entry = cases.setdefault(case, {"passed": 0, "tried": 0})
    entry["tried"] += tried
    entry["passed"] += passed
    files.write_json(TOTALS, totals)
    sums = {"passed": 0, "tried": 0}
    for of_commit in totals[row].values():
        for of_case in of_commit.values():
            for name in sums:
                sums[name] += of_case[name]
    return sums["passed"], sums["tried"]


def trials(
    row: str,
    chosen: Options,
    trial: Callable[[str, random.Random, int], list[str]],
    cases: Sequence[str] = (),
) -> int:
    """Make the trials of a row, cases in turn; print each; return 1 if one failed.

    The cases are the models, unless the row has others. `trial(case, draws, number)` returns what
    is wrong, and an empty list if nothing is.
    """
    failed = 0
    names = [chosen.only] if chosen.only else cases or models()
    with imported_once():
        for number in range(chosen.n):
            case = names[number % len(names)]
            draws = random.Random(f"{chosen.seed} {number}")
            began = time.monotonic()
            faults = trial(case, draws, number)
            passed, tried = count(row, case, not faults)
            failed += bool(faults)
            label = f"{row} {number + 1} of {chosen.n}, seed {chosen.seed}, {case}"
            seconds = time.monotonic() - began
            print(f"{label}: {'; '.join(faults) or 'passed'} ({seconds:.0f} s)", flush=True)
    total = f"{passed} of {tried} since the totals began" if chosen.n else ""
    print(f"{row}: {chosen.n - failed} of {chosen.n} passed; {total}", file=sys.stderr)
    return int(failed > 0)
