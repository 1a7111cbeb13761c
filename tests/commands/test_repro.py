"""What `make repro` says: DVC's own words, with the place of each stage before them."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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
SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(SOURCE),
    "TERM": "xterm",
    "DVC_NO_ANALYTICS": "1",
}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Five stages, the last of which fails."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def repro(folder: Path, *words: str) -> tuple[int, str, list[str]]:
    """The code, what went to stderr, and the lines that begin with a place."""
    command = [sys.executable, "-m", "sextant.repro", *words]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    return (
        done.returncode,
        done.stderr,
        [line for line in done.stdout.splitlines() if line.startswith("[")],
    )


def test_every_stage_has_its_place_whether_it_runs_or_is_skipped_or_restored(
    pipeline: Path,
) -> None:
    code, _, lines = repro(pipeline, "second")
    assert code == 0
    assert lines == [
        "[1/3] Running stage 'first@a':",
        "[2/3] Running stage 'first@c':",
        "[3/3] Running stage 'second':",
    ]

    lock = yaml.safe_load((pipeline / "dvc.lock").read_text())
    del lock["stages"]["second"]  # the run cache still knows what came of it
    (pipeline / "dvc.lock").write_text(yaml.safe_dump(lock))
    code, said, lines = repro(pipeline)
    assert (
        code == 255
        and "failed to reproduce 'third'" in said
        and "exited with 7" in said
        and "\x1b" not in said
    )
    assert lines == [
        "[1/5] Stage 'first@a' didn't change, skipping",
        "[2/5] Running stage 'first@b':",
        "[3/5] Stage 'first@c' didn't change, skipping",
        "[4/5] Stage 'second' is cached - skipping run, checking out outputs",
        "[5/5] Running stage 'third':",
    ]


def test_what_dvc_refuses_it_refuses_in_its_own_words(pipeline: Path) -> None:
    code, said, lines = repro(pipeline, "fist")
    assert (code, lines) == (255, []) and "'fist' not found" in said


def on_a_terminal(folder: Path, **env: str) -> str:
    """What the failing stage leaves on a terminal."""
    there, here = pty.openpty()
    command = [sys.executable, "-m", "sextant.repro", "-s", "third"]
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT | env, stdout=here, stderr=here, stdin=here
    ) as process:
        os.close(here)
        said = b""
        try:
            while block := os.read(there, 4096):
                said += block
        except OSError:  # so Linux says that the other end was closed
            pass
    os.close(there)
    assert process.returncode == 255
    return said.decode()


def test_colours_are_for_a_terminal_where_nobody_forbids_them(pipeline: Path) -> None:
    (pipeline / "b").touch()
    (pipeline / "d").touch()
    assert "\x1b[31mERROR" in on_a_terminal(pipeline)
    plain = on_a_terminal(pipeline, NO_COLOR="1")
    assert "ERROR: failed to reproduce 'third'" in plain and "\x1b" not in plain
