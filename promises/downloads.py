"""Downloads are whole or not there: a server on this machine that misbehaves, in eight ways

    python promises/downloads.py [n=8] [seed=1] [case=drop]

Each trial pulls a file of random bytes from http://127.0.0.1. What the pinned bytes can be put
together from has to arrive, resumed where the server can; everything else is one line that names
the file, and the raw folder stays as it was.
"""

import hashlib
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import _trials
import yaml

from sextant.errors import run

# By case whether the file has to arrive.
CASES = {
    "drop": True,  # the connection breaks off, up to three times
    "slow": True,  # the bytes come in small pieces
    "500": True,  # the first answers are 500 and 503
    "two at once": True,
    "truncate": False,  # the file is shorter than the pinned one
    "wrong bytes": False,
    "redirect loop": False,
    "404": False,
}
DATASET = "credit_applications"
CODES = {1, 12}  # of what went wrong: one clear line
LARGEST = 400_000  # bytes
SECONDS = 2.0  # that a slow answer takes


class Server(ThreadingHTTPServer):
    """Serves one body by ranges, and misbehaves as a case says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.case = ""
        self.body = b""
        self.drops: list[int] = []  # bytes of the next answers before they break off
        self.statuses: list[int] = []  # of the next answers
        self.ranges: list[str | None] = []  # of the requests


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.case == "redirect loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        size = len(server.body)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self._send(server.body[start:])

    def _send(self, body: bytes) -> None:
        server = self.server
        if server.drops:
            self.wfile.write(body[: server.drops.pop(0)])
            self.connection.close()
        elif server.case in ("slow", "two at once"):
            step = max(1, len(body) // 10)
            for begin in range(0, len(body), step):
                self.wfile.write(body[begin : begin + step])
                time.sleep(SECONDS / 10)
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, len(CASES), "case", list(CASES))
    with tempfile.TemporaryDirectory() as home, serving() as server:
        clone = _trials.clone(Path(home), "som")

        def trial(case: str, draws: random.Random, number: int) -> list[str]:
            return pulled(clone, server, case, draws)

        return _trials.trials("downloads", chosen, trial, list(CASES))


def pulled(clone: Path, server: Server, case: str, draws: random.Random) -> list[str]:
    """What is wrong after a pull, or after two at once."""
    pinned = draws.randbytes(draws.randint(1, LARGEST))
    _pin(clone, server, pinned)
    server.case = case
    server.body = pinned
    server.statuses = []
    server.ranges = []
    drops = []
    if case == "drop":
        drops = [draws.randrange(1 + len(pinned) // 4) for _ in range(draws.randint(1, 3))]
    server.drops = list(drops)
    if case == "500":
        server.statuses = draws.choice(([500], [503], [500, 503]))
    if case == "404":
        server.statuses = [404]
    if case == "truncate":
        server.body = pinned[: draws.randrange(len(pinned))]
    if case == "wrong bytes":
        place = draws.randrange(len(pinned))
        server.body = pinned[:place] + bytes([pinned[place] ^ 1]) + pinned[place + 1 :]
    before = _contents(clone)
    command = ("python", "-m", "sextant", "pull", f"dataset={DATASET}", "source=canonical")
    processes = []
    for _ in range(2 if case == "two at once" else 1):
        processes.append(_trials.start(clone, command, subprocess.PIPE))
    faults = []
    for process in processes:
        output, _ = process.communicate()
        faults += _faults_of(case, process.returncode, output)
    after = _contents(clone)
    expected = before
    if CASES[case]:
        expected = {hashlib.sha256(pinned).hexdigest()}
    if after != expected:
        faults.append(f"the raw folder has {after}, expected {expected}")
    if any(drops) and not any(server.ranges):
        faults.append("the download was not resumed")
    if CASES[case]:
        faults += [f"{path.name} was left behind" for path in clone.rglob("downloads/*.part")]
    return faults


def _faults_of(case: str, code: int, output: str) -> list[str]:
    """What is wrong with the end of a command."""
    if CASES[case]:
        return [] if code == 0 else [f"ended with code {code}: {output[-300:]}"]
    lines = [line for line in output.splitlines() if line.startswith("sextant: ")]
    if code not in CODES or len(lines) != 1 or "Traceback" in output:
        return [f"ended with code {code}, expected one line: {output[-300:]}"]
    return []


def _pin(clone: Path, server: Server, body: bytes) -> None:
    """Let the conf's canonical source be one file at the server."""
    path = clone / f"conf/dataset/{DATASET}.yaml"
    conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    (entry,) = conf["sources"]["canonical"]
    entry = {"file": entry["file"], "url": f"http://127.0.0.1:{server.server_port}/rows.csv"}
    entry |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    conf["sources"]["canonical"] = [entry]
    path.write_text(yaml.safe_dump(conf), encoding="utf-8")


def _contents(clone: Path) -> set[str]:
    """The digests of the raw files: one, or none before the first pull."""
    folder = clone / ".scratch/raw" / DATASET
    paths = [path for path in folder.glob("*") if path.name != "source.json"]
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    run(main)
