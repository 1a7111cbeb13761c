"""Command repro: DVC's own lines, with the number of each stage before them."""

import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

PIPELINE = """
stages:
  first:
    foreach: [a, b, c]
    do:
      cmd: echo ${item} > ${item}
      outs:
        - ${item}
  second:
    cmd: cat a c > d
    deps: [a, c]
    outs: [d]
  third:
    cmd: test -s b && exit 7
    deps: [b, d]
"""
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT / "src"),
    "TERM": "xterm",
    "DVC_NO_ANALYTICS": "1",
}
REPRO = [sys.executable, "-m", "sextant", "repro"]


@dataclass(frozen=True)
class Done:
    """The exit code, standard error, and the numbered lines of standard output."""

    code: int
    stderr: str
    numbered: list[str]


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The folder of five stages, of which the last one fails."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def repro(folder: Path, *arguments: str) -> Done:
    done = subprocess.run(
        [*REPRO, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    numbered = [line for line in done.stdout.splitlines() if line.startswith("[")]
    return Done(done.returncode, done.stderr, numbered)


def test_every_stage_is_numbered_whether_it_runs_is_skipped_or_restored(pipeline: Path) -> None:
    done = repro(pipeline, "second")
    assert done.code == 0
    assert done.numbered == [
        "[1/3] Running stage 'first@a':",
        "[2/3] Running stage 'first@c':",
        "[3/3] Running stage 'second':",
    ]

    lock = yaml.safe_load((pipeline / "dvc.lock").read_text())
    del lock["stages"]["second"]  # DVC's run cache still has its output
    (pipeline / "dvc.lock").write_text(yaml.safe_dump(lock))
    done = repro(pipeline)
    assert done.code == 255
    assert "failed to reproduce 'third'" in done.stderr and "exited with 7" in done.stderr
    assert "\x1b" not in done.stderr
    assert done.numbered == [
        "[1/5] Stage 'first@a' didn't change, skipping",
        "[2/5] Running stage 'first@b':",
        "[3/5] Stage 'first@c' didn't change, skipping",
        "[4/5] Stage 'second' is cached - skipping run, checking out outputs",
        "[5/5] Running stage 'third':",
    ]


def test_an_unknown_stage_is_refused_with_dvcs_message(pipeline: Path) -> None:
    done = repro(pipeline, "fist")
    assert (done.code, done.numbered) == (255, [])
    assert "'fist' not found" in done.stderr


def on_a_terminal(folder: Path, **env: str) -> str:
    """What the failing stage prints on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*REPRO, "-s", "third"],
        cwd=folder,
        env=ENVIRONMENT | env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        printed = b""
        try:
            while block := os.read(ours, 4096):
                printed += block
        except OSError:  # on Linux the end of the other side is an error
            pass
    os.close(ours)
    assert process.returncode == 255
    return printed.decode()


def test_colours_need_a_terminal_and_no_no_color(pipeline: Path) -> None:
    (pipeline / "b").touch()
    (pipeline / "d").touch()
    assert "\x1b[31mERROR" in on_a_terminal(pipeline)
    plain = on_a_terminal(pipeline, NO_COLOR="1")
    assert "ERROR: failed to reproduce 'third'" in plain and "\x1b" not in plain
