"""The MLflow pages: refused in one line where they cannot be had; tests/test_docs.py opens them."""

import socket
from pathlib import Path

import pytest

from sextant import serve, ui
from sextant.errors import SextantError, UsageError


@pytest.mark.parametrize("port", ["high", "0", "65536", "-1", "5_000"])
def test_what_is_no_port_is_refused_by_name(port: str) -> None:
    for main, words in ((ui.main, []), (serve.main, ["model=ann"])):
        with pytest.raises(
            UsageError, match=f"PORT={port} is no port; expected a number from 1 to 65535"
        ):
            main([*words, f"port={port}"])


def test_a_port_that_is_taken_is_refused_before_anything_starts() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for main, words in ((ui.main, []), (serve.main, ["model=ann"])):
            with pytest.raises(
                UsageError, match=f"port {port} cannot be had .*in use.*; name another: PORT="
            ):
                main([*words, f"port={port}"])
    assert serve.free(str(port)) == str(port)


def test_there_are_no_pages_before_the_first_run(workspace: Path) -> None:
    with pytest.raises(SextantError, match="mlflow.db is not there, .* run `make repro` first"):
        ui.main([f"port={any_port()}"])


def any_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_a_tracking_server_has_its_own_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@runs.example.org")
    ui.main([f"port={any_port()}"])
    assert (
        capsys.readouterr().out == "the tracking server has the pages: https://runs.example.org\n"
    )


def test_other_words_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"`model=ann` is not understood; expected: make ui \[PORT=5000\]"
    ):
        ui.main(["model=ann"])
