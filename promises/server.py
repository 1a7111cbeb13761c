"""The tracking server may come and go: away, restarted, failing or slow, no training is lost

    python promises/server.py [n=7] [seed=1] [case=during]

Each trial trains one model by hand against an MLflow server, disturbs the server at a random
moment, lets it answer again and runs `sextant register --write`: the training must end well, and
its run must have every epoch once, its end and its artifacts. `before`: there is no answer when the
training begins, which is one clear line; then it is started again. `after`: none when `register`
begins. `during`: none for the rest of the training. `restarted`: the server is killed and started.
`500`: that is every answer for the rest. `slow`: one answer comes 30 seconds late. `postgres`: the
database of a second server, a PostgreSQL, is restarted.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import _trials
from _servers import TrackingServer, Way, free_port, way_to

from sextant.errors import SextantError, run

if TYPE_CHECKING:
    from mlflow.entities import Run

MODEL = "som"
NAME = f"sextant-{MODEL}-twin"
CASES = ("during", "500", "slow", "restarted", "before", "after", "postgres")
EPOCHS = 300
SLOW = 30.0  # seconds
MOMENT = 4.0  # seconds at most from the first request of a training to the fault
FIRST_REQUESTS = 12  # of a training: by then its run is open
REGISTER = ("python", "-m", "sextant", "register", "--write")
WARNING = "no answer from the MLflow store"
POSTGRES = Path("/usr/lib/postgresql")


class Bench:
    """A clone that has run, and servers, started when a case first needs them."""

    def __init__(self, home: Path, resources: ExitStack) -> None:
        self.home = home
        self.resources = resources
        self.made: Path | None = None
        self.servers: dict[str, tuple[TrackingServer, Way]] = {}
        self.postgres: Postgres | None = None

    def clone(self) -> Path:
        if self.made is None:
            self.made = _trials.clone(self.home / "clone", MODEL)
            _trials.run(self.made, "make", "repro")
        return self.made

    def server(self, database: str) -> tuple[TrackingServer, Way]:
        """A server on a database, SQLite or PostgreSQL, and the way to it."""
        if database not in self.servers:
            store = python_path = ""
            if database == "postgres":
                self.postgres = self.resources.enter_context(postgres(self.home / "postgres"))
                store = self.postgres.address
                python_path = driver(self.home / "driver")
            server = TrackingServer(self.home / f"server-{database}", store, python_path)
            self.resources.callback(server.stop)
            server.start()
            way = self.resources.enter_context(way_to(server.address))
            self.servers[database] = server, way
        return self.servers[database]


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, len(CASES), "case", CASES)
    cases = list(CASES)
    refusal = postgres_refusal()
    if refusal:
        print(f"server: the case postgres is skipped: {refusal}", file=sys.stderr)
        cases.remove("postgres")
        if chosen.only == "postgres":
            return 0
    with tempfile.TemporaryDirectory() as home, ExitStack() as resources:
        bench = Bench(Path(home), resources)

        def trial(case: str, draws: random.Random, number: int) -> list[str]:
            server, way = bench.server("postgres" if case == "postgres" else "sqlite")
            return disturbed(bench, server, way, case, draws)

        return _trials.trials("server", chosen, trial, cases)


def disturbed(
    bench: Bench, server: TrackingServer, way: Way, case: str, draws: random.Random
) -> list[str]:
    """What is wrong after a training whose server was disturbed."""
    clone = bench.clone()
    seed = draws.randrange(10**6)
    store = {"MLFLOW_TRACKING_URI": way.address}
    train = ["python", "-m", "sextant", "train", f"model={MODEL}", f"seed={seed}"]
    train += [f"model.schedule.max_epochs={EPOCHS}", f"model.schedule.patience={EPOCHS}"]
    faults = []
    if case == "before":
        way.status = 0
        faults += _refused(clone, train, store)
        way.status = None
    way.requests = 0
    process = _trials.start(clone, train, subprocess.PIPE, store)
    began = time.monotonic()
    while way.requests < FIRST_REQUESTS and process.poll() is None:
        time.sleep(0.02)
    moment = draws.uniform(0, MOMENT)
    try:
        process.wait(timeout=moment)
        moment = time.monotonic() - began
    except subprocess.TimeoutExpired:
        pass
    if case in ("during", "500"):
        way.status = 500 if case == "500" else 0
    if case == "slow":
        way.seconds = SLOW
    if case == "restarted":
        server.stop()
        server.start()
    if case == "postgres" and bench.postgres:
        bench.postgres.restart()
    output, _ = process.communicate()
    if process.returncode:
        faults.append(f"the training ended with code {process.returncode}: {output[-400:]}")
    if output.count(WARNING) > 1:
        faults.append(f"{output.count(WARNING)} warnings, expected one at most")
    if case == "after":
        way.status = 0
        faults += _refused(clone, REGISTER, store)
    way.status = None
    way.seconds = 0.0
    try:
        _trials.run(clone, *REGISTER, **store)
    except SextantError as error:
        faults.append(str(error))
    faults += _run_faults(server, seed, _trials.epochs(clone, MODEL))
    return [f"{case} after {moment:.1f} s: {fault}" for fault in faults]


def _refused(
    clone: Path, command: "list[str] | tuple[str, ...]", store: dict[str, str]
) -> list[str]:
    """What is wrong with the end of a command that the server does not answer."""
    process = _trials.start(clone, command, subprocess.PIPE, store)
    output, _ = process.communicate()
    if process.returncode and output.count(WARNING) == 1 and "Traceback" not in output:
        return []
    return [f"without a server, it ended with code {process.returncode}: {output[-400:]}"]


def _run_faults(server: TrackingServer, seed: int, epochs: list[int]) -> list[str]:
    """What the run of a training lacks on the server, which has to have these epochs."""
    from mlflow.tracking import MlflowClient

    client: MlflowClient = MlflowClient(server.address, server.address)
    experiment = client.get_experiment_by_name(NAME)
    if experiment is None:
        return ["the server has no experiment"]
    condition = f"params.seed = '{seed}' AND attributes.status = 'FINISHED'"
    runs: list[Run] = list(client.search_runs([experiment.experiment_id], condition))
    if len(runs) != 1:
        return [f"{len(runs)} finished runs of the training, expected 1"]
    run_id = runs[0].info.run_id
    history = client.get_metric_history(run_id, "train/loss")
    steps = sorted({metric.step for metric in history})
    faults = []
    if steps != epochs:
        faults.append(f"{len(steps)} epochs in MLflow, expected {len(epochs)}")
    if "best/epoch" not in runs[0].data.metrics or "digest" not in runs[0].data.tags:
        faults.append("the run lacks its end")
    artifacts = {artifact.path for artifact in client.list_artifacts(run_id)}
    if not {"config.yaml", "curves.csv"} <= artifacts:
        faults.append(f"the run has the artifacts {', '.join(sorted(artifacts))}")
    return faults


# --- PostgreSQL ---------------------------------------------------------------------------------


def postgres_refusal() -> str:
    """Why there is no PostgreSQL here; empty if there is one."""
    if not list(POSTGRES.glob("*/bin/pg_ctl")):
        return f"no PostgreSQL in {POSTGRES} (Debian: apt-get install postgresql)"
    return ""


class Postgres:
    """A PostgreSQL in a folder, which an ordinary user owns: it refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def control(self, *arguments: str) -> None:
        """Run pg_ctl as the user `postgres`, who is made by Debian's package."""
        program = sorted(POSTGRES.glob("*/bin/pg_ctl"))[-1]
        command = [str(program), "-D", str(self.folder), "-w", *arguments]
        if Path("/proc/self").owner() == "root":
            command = [
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                *command,
            ]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode:
            raise SextantError(f"`{' '.join(command)}` ended with code {done.returncode}")

    def restart(self) -> None:
        self.control("restart", "-m", "immediate", "-l", f"{self.folder}/log")


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A running PostgreSQL with an empty database."""
    database = Postgres(folder)
    folder.mkdir(mode=0o700)
    for parent in list(folder.parents)[:2]:  # temporary folders are closed to other users
        parent.chmod(0o711)
    if Path("/proc/self").owner() == "root":
        shutil.chown(folder, "postgres")
    database.control("init", "-o", "--auth=trust --username=postgres")
    options = f"-p {database.port} -k {folder} -c listen_addresses=127.0.0.1"
    database.control("start", "-o", options, "-l", f"{folder}/log")
    try:
        yield database
    finally:
        database.control("stop", "-m", "immediate")


def driver(folder: Path) -> str:
    """A folder with the driver of PostgreSQL, which the environment does not need otherwise."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "psycopg2-binary"]
    subprocess.run(pip, check=True)
    return str(folder)


if __name__ == "__main__":
    run(main)
