"""Serving holds: clients and slow ones at once while the champion is swapped; none is refused

    python promises/serving.py [n=3] [seed=1] [model=ann]

Each trial takes a clone with two versions of a model, and lets 32 clients send rows to its service
for five minutes (one minute without `n`), while slow clients send theirs byte by byte, and the
alias is moved three times at random moments. Every request must be answered by a version that was
champion, the service must answer with the last one within some seconds, and its memory must not
grow.
"""

import json
import random
import socket
import tempfile
import threading
import time
from pathlib import Path

import _trials
import psutil
from _clients import Connection, Load, get, load, post

from sextant.errors import SextantError, run

CLIENTS = 32
SLOW_CLIENTS = 4
SWAPS = 3
SECONDS = 300.0
SHORT_SECONDS = 60.0
WARM_SECONDS = 10.0  # before the memory is first read
PATIENCE = 300.0  # until the service is up
SECONDS_TO_SWAP = 60.0  # until it answers with a new champion
# MiB of growth: two models are in memory while one replaces the other.
MORE_MEMORY = 60.0


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, trials=1)
    is_short = not any(argument.startswith("n=") for argument in argv)
    seconds = SHORT_SECONDS if is_short else SECONDS
    clones: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as home:

        def trial(model: str, draws: random.Random, number: int) -> list[str]:
            if model not in clones:
                clones[model] = with_two_versions(Path(home) / model, model)
            return served(clones[model], model, draws, seconds)

        return _trials.trials("serving", chosen, trial)


def with_two_versions(home: Path, model: str) -> Path:
    """A clone in which a model has two versions, by two seeds."""
    clone = _trials.clone(home, model)
    _trials.run(clone, "make", "repro")
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("seed: 42", "seed: 43"))
    _trials.run(clone, "make", "repro")
    return clone


def served(clone: Path, model: str, draws: random.Random, seconds: float) -> list[str]:
    """What is wrong after a service was used for some seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ("python", "-m", "sextant", "serve", f"model={model}", f"port={port}")
    server = _trials.start(clone, command)
    try:
        wait_until_up(port)
        body = example(clone)
        load(port, [body], CLIENTS, WARM_SECONDS)
        before = memory(clone, port)
        faults, answered = used(clone, model, port, body, draws, seconds)
        after = memory(clone, port)
    finally:
        _trials.kill_all(clone)
        server.wait()
    if after > before + MORE_MEMORY:
        faults.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
    print(f"{len(answered.seconds):,} requests, memory {before:.0f} to {after:.0f} MiB", flush=True)
    return faults


def memory(clone: Path, port: int) -> float:
    """MiB of the process that listens on a port, which may be forked from another one."""
    for pid in _trials.working_in(clone):
        process = psutil.Process(pid)
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return float(process.memory_info().rss) / 2**20
    raise SextantError(f"no process listens on port {port}")


def used(
    clone: Path, model: str, port: int, body: bytes, draws: random.Random, seconds: float
) -> tuple[list[str], Load]:
    """What is wrong while clients use a service and its champion is swapped."""
    faults: list[str] = []
    loads: list[Load] = []
    threads = [threading.Thread(target=lambda: loads.append(load(port, [body], CLIENTS, seconds)))]
    for _ in range(SLOW_CLIENTS):
        pause = draws.uniform(0.2, 0.8) * min(seconds, 50) / len(post(port, body))
        threads.append(threading.Thread(target=slow_client, args=(port, body, pause, faults)))
    for thread in threads:
        thread.start()
    moments = sorted(draws.uniform(0.1, 0.7) * seconds for _ in range(SWAPS))
    begun = time.monotonic()
    for number, moment in enumerate(moments):
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        version = "2" if number % 2 == 0 else "1"
        if version_of(port) == version:
            version = "1" if version == "2" else "2"
        _trials.run(clone, "make", "promote", f"MODEL={model}", f"VERSION={version}")
        if not answers_with(port, version):
            faults.append(f"version {version} does not answer after {SECONDS_TO_SWAP:.0f} s")
    for thread in threads:
        thread.join()
    (answered,) = loads
    faults += answered.failures[:3]
    if len(answered.failures) > 3:
        faults.append(f"{len(answered.failures) - 3} further failures")
    return faults, answered


def slow_client(port: int, body: bytes, pause: float, faults: list[str]) -> None:
    """A client that sends its request byte by byte."""
    try:
        with Connection(port) as connection:
            request = post(port, body)
            for place in range(len(request) - 1):
                connection.socket.sendall(request[place : place + 1])
                time.sleep(pause)
            status, _ = connection.ask(request[-1:])
            if status != 200:
                faults.append(f"a slow client got {status}")
    except (OSError, ValueError) as error:
        faults.append(f"a slow client: {type(error).__name__}: {error}")


def version_of(port: int) -> str:
    """The version that answers."""
    with Connection(port) as connection:
        _, body = connection.ask(get(port, "/version"))
    return str(json.loads(body)["version"])


def answers_with(port: int, version: str) -> bool:
    """Whether a version answers within SECONDS_TO_SWAP."""
    end = time.monotonic() + SECONDS_TO_SWAP
    while time.monotonic() < end:
        if version_of(port) == version:
            return True
        time.sleep(0.5)
    return False


def wait_until_up(port: int) -> None:
    """Wait for the service; raises SextantError if it does not start."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with Connection(port) as connection:
                if connection.ask(get(port, "/ready"))[0] == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise SextantError("the service did not start")


def example(clone: Path) -> bytes:
    """The packed input example of a model, as MLflow has written it for its servers."""
    (file, *_) = (clone / "mlruns").rglob("serving_input_example.json")
    return file.read_bytes()


if __name__ == "__main__":
    run(main)
