"""Command ui: what is refused before MLflow's server starts; tests/test_docs.py opens its pages."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import cases
import pytest
import requests
from conftest import Clone

from sextant.commands import serve, ui
from sextant.errors import SextantError, UsageError
from sextant.redaction import without_secrets
from sextant.tracking import views


@cases.each("port", ["high", "0", "65536", "-1", "5_000"])
def test_an_invalid_port_is_refused(port: str) -> None:
    message = f"PORT={port} is not a port; expected a number from 1 to 65535"
    with pytest.raises(UsageError, match=message):
        ui.main([f"port={port}"])
    with pytest.raises(UsageError, match=message):
        serve.main(["model=ann", f"port={port}"])


def test_a_port_in_use_is_refused_before_anything_starts() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        message = f"port {port} is not available .*in use.*; choose another: PORT="
        with pytest.raises(UsageError, match=message):
            ui.main([f"port={port}"])
        with pytest.raises(UsageError, match=message):
            serve.main(["model=ann", f"port={port}"])
    assert serve.checked_port(port) == port


def test_without_a_database_there_are_no_pages(workspace: Path) -> None:
    with pytest.raises(SextantError, match="mlflow.db does not exist: .* run `make repro` first"):
        ui.main([f"port={free_port()}"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_tracking_server_has_the_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@runs.example.org")
    ui.main([f"port={free_port()}"])
    printed = capsys.readouterr().out
    assert printed == "the tracking server has the pages: https://runs.example.org\n"


def test_a_printed_page_is_whole() -> None:
    """An address whose argument ends with `Key` is printed without its value."""
    address = f"http://127.0.0.1:5000/{views.page('7')}"
    assert without_secrets(address) == address
    assert views.link("7").startswith(f"{views.page('7')}?")


def test_other_arguments_are_refused() -> None:
    message = r"`model=ann` is not understood; expected: make ui \[PORT=5000\] \[AUTH=1\]"
    with pytest.raises(UsageError, match=message):
        ui.main(["model=ann"])


def test_other_machines_need_a_password() -> None:
    with pytest.raises(UsageError, match="HOST=0.0.0.0 lets other machines .* add AUTH=1"):
        ui.main(["host=0.0.0.0,runs.example.org"])


def test_requests_may_name_this_machine_and_the_names_that_are_given() -> None:
    _, hosts, _, origins = ui.host_options("0.0.0.0", ["runs.example.org"], "5000")
    assert hosts.split(",") == [
        *("localhost", "localhost:5000", "127.0.0.1", "127.0.0.1:5000", "[::1]", "[::1]:5000"),
        *("runs.example.org", "runs.example.org:5000"),
    ]
    assert "https://runs.example.org" in origins.split(",")
    assert "10.1.2.3:5000" in ui.host_options("10.1.2.3", [], "5000")[1].split(",")


def start(clone: Clone, port: str, *arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    """A server that answers, and the lines that it has printed."""
    command = [sys.executable, "-m", "sextant", "ui", f"port={port}", *arguments]
    server = subprocess.Popen(
        command, cwd=clone.path, env=clone.env, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    lines = []
    assert server.stdout
    for line in server.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    end = time.monotonic() + 120
    while True:
        assert server.poll() is None and time.monotonic() < end
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=10)
            return server, lines
        except requests.RequestException:
            time.sleep(0.2)


def stop(server: subprocess.Popen[str]) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.communicate()


@pytest.mark.slow
def test_a_server_with_auth_wants_a_password_that_is_stored_nowhere(clone: Clone) -> None:
    port = str(free_port())
    search = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    server, lines = start(clone, port, "auth=1")
    try:
        shown = re.search(r"user admin, password (\S+) \(shown once", "".join(lines))
        assert shown
        password = shown[1]
        assert requests.get(search, timeout=60).status_code == 401
        assert requests.get(search, auth=("admin", "wrong"), timeout=60).status_code == 401
        answer = requests.get(search, auth=("admin", password), timeout=60)
        assert answer.status_code == 200 and answer.json()["experiments"]
        for host in ("evil.example.org", f"10.evil.example.org:{port}"):
            refused = requests.get(
                search, auth=("admin", password), headers={"Host": host}, timeout=60
            )
            assert refused.status_code == 403
    finally:
        stop(server)
    folder = clone.path / ".auth"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes.pop("basic_auth.ini") == modes.pop("users.db") == 0o600
    assert clone.run("git", "status", "--porcelain", "--", ".auth").stdout == ""
    for path in clone.path.rglob("*"):
        if path.is_file() and not path.is_symlink() and ".venv" not in path.parts:
            assert password.encode() not in path.read_bytes(), path
    server, lines = start(clone, port, "auth=1")
    try:
        assert "password" not in "".join(lines).replace("hashes of their passwords", "")
        assert requests.get(search, auth=("admin", password), timeout=60).status_code == 200
    finally:
        stop(server)
