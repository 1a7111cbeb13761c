"""Writers side by side: trainings, gates, clones and promotions at once spoil nothing

    python promises/writers.py [n=4] [seed=1] [case=gates]

Each trial is a round of one case, in turn; the commands start within a random fraction of a second,
and none may fail. `gates`: six gates judge one model on one SQLite database, and there is one
version. `trainings`: six trainings and two gates write to one SQLite database, and no epoch is
missing. `server`: the gates of two clones on one MLflow server make one version. `promotions`:
while the alias moves between two versions, every `predict` has the answers of one of them.
"""

import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import _trials
import yaml
from _servers import TrackingServer

from sextant.errors import SextantError, run

MODEL = "som"
NAME = f"sextant-{MODEL}-twin"
AT_ONCE = 6
PAUSE = 0.5  # seconds at most between two starts
ROWS = 20
MOVES = 3  # of the alias in one round
REGISTER = ("python", "-m", "sextant", "register", "--write")


class Round:
    """Clones in which the pipeline of one model has run, made when a case first needs them."""

    def __init__(self, home: Path, resources: ExitStack) -> None:
        self.home = home
        self.resources = resources
        self.made: dict[str, Path] = {}
        self.server: TrackingServer | None = None
        self.answers: set[str] = set()
        self.rounds = 0

    def clone(self, name: str) -> Path:
        """A clone that has run; copies have no registry until they make one."""
        if not self.made:
            first = _trials.clone(self.home / "first", MODEL)
            _trials.run(first, "make", "repro")
            self.made["first"] = first
        if name not in self.made:
            copy = self.home / name / "sextant"
            shutil.copytree(self.made["first"], copy, symlinks=True)
            forget_registry(copy)
            self.made[name] = copy
        return self.made[name]

    def tracking_server(self) -> TrackingServer:
        if self.server is None:
            self.server = TrackingServer(self.home / "server")
            self.resources.callback(self.server.stop)
            self.server.start()
        return self.server

    # --- cases ----------------------------------------------------------------------------------

    def gates(self, draws: random.Random) -> list[str]:
        """Six gates on an empty SQLite database."""
        clone = self.clone("gates")
        forget_registry(clone)
        faults = ended_alike(at_once(draws, [(clone, REGISTER, {})] * AT_ONCE))
        return faults + _trials.registry_faults(clone, runs=None)

    def trainings(self, draws: random.Random) -> list[str]:
        """Six trainings by hand, each in a folder of its own, and two gates on one database."""
        clone = self.clone("trainings")
        forget_registry(clone)
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone}/mlflow.db"}
        self.rounds += 1
        commands: list[Command] = [(clone, REGISTER, store)] * 2
        for number in range(AT_ONCE):
            train = ["python", "-m", "sextant", "train", f"model={MODEL}"]
            train.append(f"seed={AT_ONCE * self.rounds + number}")
            commands.append((self._member(clone, number), train, store))
        draws.shuffle(commands)
        faults = failed(at_once(draws, commands))
        faults += _trials.registry_faults(clone, runs=None)
        members = [self._member(clone, number) for number in range(AT_ONCE)]
        counts = [len(_trials.epochs(member, MODEL)) for member in members]
        return faults + missing_epochs(clone, counts)

    def _member(self, clone: Path, number: int) -> Path:
        """A folder with the code, conf and data of a clone, and outputs of its own."""
        folder = self.home / f"member-{number}"
        if not folder.is_dir():
            folder.mkdir()
            for name in ("src", "conf", "params.yaml", "data", ".venv"):
                (folder / name).symlink_to(clone / name)
        return folder

    def on_server(self, draws: random.Random) -> list[str]:
        """The gates of two clones on one server."""
        from mlflow.tracking import MlflowClient

        address = self.tracking_server().address
        client = MlflowClient(address, address)
        if client.search_registered_models(f"name = '{NAME}'"):
            client.delete_registered_model(NAME)
        commands: list[Command] = []
        for name in ("one", "two"):
            clone = self.clone(name)
            shutil.rmtree(clone / "reports/decisions", ignore_errors=True)
            commands.append((clone, REGISTER, {"MLFLOW_TRACKING_URI": address}))
        faults = ended_alike(at_once(draws, commands))
        versions = client.search_model_versions(f"name = '{NAME}'")
        if len(versions) != 1:
            faults.append(f"{len(versions)} versions, expected 1")
        if "champion" not in client.get_registered_model(NAME).aliases:
            faults.append("no champion")
        return faults

    def promotions(self, draws: random.Random) -> list[str]:
        """Predictions while the alias moves."""
        clone = self._two_versions()
        faults = []
        for move in range(MOVES):
            promote = ["promote", f"model={MODEL}", f"version={1 + move % 2}"]
            commands: list[Command] = [(clone, ("python", "-m", "sextant", *promote), {})]
            commands += [(clone, self._predict(clone, str(number)), {}) for number in range(2)]
            draws.shuffle(commands)
            faults += failed(at_once(draws, commands))
            for number in range(2):
                if (clone / f"answers-{number}.csv").read_text() not in self.answers:
                    faults.append("the answers are those of neither version")
        return faults

    def _two_versions(self) -> Path:
        """A clone whose model has a second version, with fewer epochs."""
        clone = self.clone("first")
        if self.answers:
            return clone
        raw = next((clone / "data/raw/credit_applications").glob("*.csv"))
        lines = raw.read_text(encoding="utf-8").splitlines(keepends=True)
        (clone / "rows.csv").write_text("".join(lines[: 1 + ROWS]), encoding="utf-8")
        path = clone / f"conf/model/{MODEL}.yaml"
        conf = yaml.safe_load(path.read_text(encoding="utf-8"))
        conf["budgets"]["smoke"]["schedule"]["max_epochs"] //= 2
        path.write_text(yaml.safe_dump(conf), encoding="utf-8")
        _trials.run(clone, "make", "repro")
        for version in (1, 2):
            promote = ("promote", f"model={MODEL}", f"version={version}")
            _trials.run(clone, "python", "-m", "sextant", *promote)
            _trials.run(clone, *self._predict(clone, "0"))
            self.answers.add((clone / "answers-0.csv").read_text())
        if len(self.answers) != 2:
            raise SextantError("both versions give the same answers")
        return clone

    def _predict(self, clone: Path, name: str) -> tuple[str, ...]:
        files = ("input=rows.csv", f"output=answers-{name}.csv")
        return ("python", "-m", "sextant", "predict", f"model={MODEL}", *files)


CASES: dict[str, Callable[[Round, random.Random], list[str]]] = {
    "gates": Round.gates,
    "trainings": Round.trainings,
    "server": Round.on_server,
    "promotions": Round.promotions,
}


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, len(CASES), "case", list(CASES))
    with tempfile.TemporaryDirectory() as home, ExitStack() as resources:
        rounds = Round(Path(home), resources)

        def trial(case: str, draws: random.Random, number: int) -> list[str]:
            return CASES[case](rounds, draws)

        return _trials.trials("writers", chosen, trial, list(CASES))


# --- commands at once ---------------------------------------------------------------------------

Command = tuple[Path, Sequence[str], dict[str, str]]  # folder, words, further variables
End = tuple[int, str]  # exit code and output


def at_once(draws: random.Random, commands: Sequence[Command]) -> list[End]:
    """Start commands shortly after one another; return how they ended."""
    processes = []
    for folder, words, further in commands:
        processes.append(_trials.start(folder, words, subprocess.PIPE, further))
        time.sleep(draws.uniform(0, PAUSE))
    ends = []
    for process in processes:
        output, _ = process.communicate()
        ends.append((process.returncode, output))
    return ends


def failed(ends: Sequence[End]) -> list[str]:
    return [f"a command ended with code {code}: {text[-300:]}" for code, text in ends if code]


def ended_alike(ends: Sequence[End]) -> list[str]:
    """What is wrong with gates that ought to print the same decision."""
    lines = {(output.splitlines() or [""])[-1] for _, output in ends}
    faults = failed(ends)
    if len(lines) > 1:
        faults.append(f"the gates disagree: {' / '.join(sorted(lines))}")
    return faults


def forget_registry(clone: Path) -> None:
    """Remove the MLflow database of a clone, its artifacts and the decisions."""
    for path in clone.glob("mlflow.db*"):
        path.unlink()
    for name in ("mlruns", "reports/decisions"):
        shutil.rmtree(clone / name, ignore_errors=True)


def missing_epochs(clone: Path, expected: list[int]) -> list[str]:
    """Whether each of the trainings by hand has its end, and every epoch of its curves."""
    with closing(sqlite3.connect(clone / "mlflow.db")) as database:
        rows = database.execute(
            "SELECT run_uuid, count(DISTINCT step) FROM metrics"
            " JOIN runs USING (run_uuid) JOIN tags USING (run_uuid)"
            " WHERE metrics.key = 'train/loss' AND tags.key = 'scratch' AND tags.value = 'true'"
            " AND status = 'FINISHED' GROUP BY run_uuid"
        ).fetchall()
    counts = [count for _, count in rows]
    if counts == expected:
        return []
    return [f"the finished trainings have {counts} epochs in MLflow, expected {expected}"]


if __name__ == "__main__":
    run(main)
