"""The fork server: a child is like a plain start, and without a server there is a plain start."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import ROOT

from sextant import fork_server


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(fork_server.VARIABLE, raising=False)
        with fork_server.running() as variables:
            yield variables


def test_a_verb_runs_in_a_child_of_the_server(server: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sextant", "leaderboard"],
        cwd=ROOT,
        env={**os.environ, **server, "PYTHONPATH": "src", "SEXTANT_DEBUG": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "baseline" in done.stdout
