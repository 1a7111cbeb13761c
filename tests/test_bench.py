"""bench/: it measures two commits in turn, and refuses what it does not understand."""

import importlib
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT

from sextant.errors import UsageError


@pytest.mark.slow
def test_a_figure_is_measured_for_both_commits_in_turn() -> None:
    command = [sys.executable, "bench/loop.py", "only=help", "pairs=2", "against=HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *_, head, rule, row = done.stdout.splitlines()
    assert len(head.split("|")) == len(rule.split("|")) == len(row.split("|"))
    title, ours, theirs, ratio, cpu_ratio, others = row.strip("| ").split(" | ")
    assert title == "make help"
    assert float(ratio) > 0
    assert float(cpu_ratio) > 0
    runs = [line.split()[2] for line in done.stderr.splitlines() if line.startswith("help, ")]
    assert runs == ["1:", "1:", "2:", "2:"]


@pytest.mark.parametrize(
    ("script", "argument", "message"),
    [
        (
            "loop",
            "ony=help",
            "`ony=help` is not understood; expected against=, only=, pairs=, budget=",
        ),
        ("loop", "only=hlp", "there is no figure `hlp`; expected help, "),
        ("loop", "pairs=0", "pairs=0: expected a number from 1 to 9"),
        ("loop", "against=nothing", "against=nothing: no such commit in this repository"),
        ("loop", "only=mirror", "`mirror` needs SEXTANT_MIRROR="),
        (
            "serve",
            "only=1",
            "`only=1` is not understood; expected against=, pairs=, seconds=, clients=",
        ),
        ("serve", "seconds=0", "seconds=0: expected a whole number from 1 on"),
        ("serve", "clients=1,many", "clients=1,many: expected numbers with commas"),
    ],
)
def test_a_wrong_argument_is_refused(
    script: str, argument: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    module = importlib.import_module(script)
    with pytest.raises(UsageError, match=re.escape(message)):
        module.main([argument])


def test_clients_measure_an_http_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that sends its body in chunks; what is no answer is a failure."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    clients = importlib.import_module("_clients")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200 if body == b"good" else 400)
            if body == b"good":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"4\r\ngood\r\n0\r\n\r\n")
            else:
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"bad")

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        good = clients.load(server.server_port, [b"good"], 3, 0.1)
        bad = clients.load(server.server_port, [b"bad"], 1, 0.01)
        server.shutdown()
    assert good.failures == [] and len(good.seconds) >= 3
    assert 0 < good.percentile(0.5) <= good.percentile(0.99) and good.throughput > 0
    assert bad.failures[0] == "400: b'bad'"


def test_a_clone_has_none_of_the_variables_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make bench OPTIONS=pairs=1` exports OPTIONS, which the make of a clone would take."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    loop = importlib.import_module("loop")
    for name in ("OPTIONS", "MAKEFLAGS", "SEXTANT_MIRROR", "DVC_ROOT", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    variables = loop.variables(ROOT)
    foreign = {"OPTIONS", "MAKEFLAGS", "SEXTANT_MIRROR", "DVC_ROOT"}
    assert not foreign & set(variables)
    assert variables["PIP_INDEX_URL"] == "x"
