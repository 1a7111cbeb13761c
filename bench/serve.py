"""The service of `make serve`: this commit and another one, in turn

    python bench/serve.py [against=dc4ccaa] [pairs=3] [seconds=5] [clients=1,8,32]

The `ann` at `budget: smoke` on its twin, trained and packed by each commit in a clone of its own,
is served by one worker of each. Clients on the same machine send rows one by one, each the next
when it has the answer to the last, over connections that stay open. Printed are the medians over
the pairs of requests a second, of the times that half and 99 % of the requests do not exceed, and
the server's CPU time for a request, which other programs disturb less. Each answer must have status
200. Uncommitted changes are not measured.
"""

import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import yaml
from _clients import Load, load
from _clones import ROOT, link_environment, variables
from _machine import machine
from _options import parsed, short_hash

from sextant import config
from sextant.errors import SextantError, UsageError, run

AGAINST = "dc4ccaa"  # the last commit that answered each request by itself
MODEL = "ann"
ROWS = 200  # different rows that clients send
PATIENCE = 300.0  # seconds in which a server has to be up
LAST_LINES = 12


class Options(NamedTuple):
    """The arguments of the command line."""

    against: str = AGAINST
    pairs: str = "3"
    seconds: str = "5"
    clients: str = "1,8,32"


class Measured(NamedTuple):
    """One load of one server."""

    load: Load
    cpu: float  # seconds of the server

    @property
    def cpu_of_request(self) -> float:
        return self.cpu / len(self.load.seconds)


class Server(NamedTuple):
    """A server that runs, and how long it took to be ready."""

    commit: str
    port: int
    process: psutil.Process
    seconds: float

    def measure(self, bodies: Sequence[bytes], clients: int, seconds: float) -> Measured:
        """Load the server; raises SextantError if a request fails."""
        before = self.cpu()
        done = load(self.port, bodies, clients, seconds)
        if done.failures or not done.seconds:
            raise SextantError(f"{self.commit}: {len(done.failures)} failed, {done.failures[:1]}")
        return Measured(done, self.cpu() - before)

    def cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


def trained_clone(folder: Path, commit: str) -> Path:
    """A clone of a commit in which the model is trained and champion."""
    clone = folder / commit
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    subprocess.run(["git", "-C", clone, "checkout", "-q", commit], check=True)
    link_environment(clone)
    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    line = params["models"][MODEL]
    datasets = {line["dataset"]: params["datasets"][line["dataset"]]}
    short = {"seed": 42, "source": "embedded", "budget": "smoke"}
    text = yaml.safe_dump({**short, "datasets": datasets, "models": {MODEL: line}})
    (clone / "params.yaml").write_text(text, encoding="utf-8")
    (clone / "dvc.lock").unlink()
    shutil.rmtree(clone / "reports")
    command = [sys.executable, "-m", "sextant", "repro", "--whole"]
    done = subprocess.run(command, cwd=clone, env=variables(clone), capture_output=True, text=True)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-LAST_LINES:])
        raise SextantError(f"{commit}: the pipeline has failed:\n{end}")
    return clone


@contextmanager
def serving(clone: Path, commit: str) -> Iterator[Server]:
    """A server of the clone's champion."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.perf_counter()
    command = [sys.executable, "-m", "sextant", "serve", f"model={MODEL}", f"port={port}"]
    with (clone.parent / f"{commit}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=clone, env=variables(clone), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_up(port, process)
        yield Server(commit, port, psutil.Process(process.pid), time.perf_counter() - begun)
    finally:
        process.kill()
        process.wait()


def wait_until_up(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait for a port; raises SextantError if the server ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SextantError("the server did not start")


def requests(clone: Path) -> list[bytes]:
    """Rows of the twin, each in a request of its own."""
    columns = config.dataset(config.model(MODEL).dataset).columns
    (file,) = (clone / "data/raw").rglob("*.csv")
    table = pd.read_csv(file).head(ROWS)[columns.features]
    bodies = []
    for record in json.loads(table.to_json(orient="records")):
        bodies.append(json.dumps({"dataframe_records": [record]}).encode())
    return bodies


def measure(
    servers: Sequence[Server], bodies: Sequence[bytes], clients: int, pairs: int, seconds: float
) -> list[list[Measured]]:
    """The loads of each server, in turn."""
    runs: list[list[Measured]] = [[] for _ in servers]
    for pair in range(1, pairs + 1):
        for server, own_runs in zip(servers, runs, strict=True):
            measured = server.measure(bodies, clients, seconds)
            own_runs.append(measured)
            answered = f"{measured.load.throughput:.0f} a second"
            print(f"{clients} clients, {server.commit}, {pair}: {answered}", file=sys.stderr)
    return runs


def table_line(clients: int, ours: Sequence[Measured], theirs: Sequence[Measured]) -> str:
    """One line of the table."""
    cells = [str(clients)]
    values = []
    for runs in (ours, theirs):
        values.append(
            (
                statistics.median(run.load.throughput for run in runs),
                1000 * statistics.median(run.load.percentile(0.5) for run in runs),
                1000 * statistics.median(run.load.percentile(0.99) for run in runs),
                1000 * statistics.median(run.cpu_of_request for run in runs),
            )
        )
    for value, theirs_value, digits in zip(*values, (0, 1, 1, 2), strict=True):
        ratio = value / theirs_value
        cells.append(f"{value:.{digits}f} / {theirs_value:.{digits}f} ({ratio:.2f})")
    return f"| {' | '.join(cells)} |"


def main(argv: list[str]) -> None:
    """Measure and print the table."""
    options = parse(argv)
    commits = [short_hash("HEAD"), short_hash(options.against)]
    counts = [int(count) for count in options.clients.split(",")]
    with tempfile.TemporaryDirectory(prefix="sextant-bench-") as name:
        folder = Path(name)
        clones = [trained_clone(folder, commit) for commit in commits]
        bodies = requests(clones[0])
        with serving(clones[0], commits[0]) as ours, serving(clones[1], commits[1]) as theirs:
            servers = [ours, theirs]
            for server in servers:
                # What is imported at first: MLflow's parser reads requests with `params`.
                server.measure([body[:-1] + b', "params": {}}' for body in bodies], 1, 2.0)
                server.measure(bodies, 4, 2.0)
            print(machine(), file=sys.stderr, flush=True)
            lines = []
            for clients in counts:
                runs = measure(servers, bodies, clients, int(options.pairs), float(options.seconds))
                lines.append(table_line(clients, *runs))
            memory = [server.process.memory_info().rss / 2**20 for server in servers]
    print(f"\n{machine()}; {options.pairs} pairs of {options.seconds} s")
    print(f"{commits[0]} / {commits[1]} (ratio)\n")
    print("| clients | requests a second | half within, ms | 99 % within, ms | CPU, ms a request |")
    print("|---|---|---|---|---|")
    print("\n".join(lines))
    print(f"\nready after {ours.seconds:.1f} / {theirs.seconds:.1f} s")
    print(f"memory {memory[0]:.0f} / {memory[1]:.0f} MiB")


def parse(argv: Sequence[str]) -> Options:
    """The options of the command line; raises UsageError for what is not understood."""
    options = parsed(Options(), argv)
    for name, value in (("pairs", options.pairs), ("seconds", options.seconds)):
        if not value.isdecimal() or value == "0":
            raise UsageError(f"{name}={value}: expected a whole number from 1 on")
    if not all(count.isdecimal() and count != "0" for count in options.clients.split(",")):
        raise UsageError(f"clients={options.clients}: expected numbers with commas")
    return options


if __name__ == "__main__":
    run(main)
