"""Command ui: what is refused before MLflow's server starts; tests/test_docs.py opens its pages."""

import socket
from pathlib import Path

import cases
import pytest

from sextant.commands import serve, ui
from sextant.errors import SextantError, UsageError


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


def test_other_arguments_are_refused() -> None:
    message = r"`model=ann` is not understood; expected: make ui \[PORT=5000\] \[AUTH=1\]"
    with pytest.raises(UsageError, match=message):
        ui.main(["model=ann"])
