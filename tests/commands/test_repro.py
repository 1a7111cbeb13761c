"""Command repro: stages side by side, their numbers before DVC's lines, failures, interruptions.

The stages of these pipelines wait for one another by files, so that no test depends on times. What
runs to its end is forked from the server of the tests; what is interrupted, or prints to a
terminal, starts plainly.
"""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import cases
import psutil
import pytest
import yaml
from conftest import DVC, ROOT, clone_environment

from sextant.commands import repro as command
from sextant.commands import scheduler
from sextant.errors import UsageError

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
PACKAGE = {"PYTHONPATH": str(ROOT / "src")}
ENVIRONMENT = PACKAGE | {
    "PATH": os.environ["PATH"],
    "TERM": "xterm",
    "DVC_NO_ANALYTICS": "1",
}
REPRO = [sys.executable, "-m", "sextant", "repro"]


@dataclass(frozen=True)
class Done:
    """The exit code, standard error, and the numbered lines of standard output."""

    code: int
    stdout: str
    stderr: str

    @property
    def numbered(self) -> list[str]:
        return [line for line in self.stdout.splitlines() if line.startswith("[")]

    def ran(self) -> list[str]:
        """The names of the stages that ran, sorted."""
        return sorted(re.findall(r"Running stage '(.*)'", self.stdout))


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The folder of five stages, of which the last one fails."""
    return folder_of(tmp_path, PIPELINE)


def folder_of(path: Path, pipeline: str) -> Path:
    """Make a folder with a pipeline, which DVC takes for a repository."""
    (path / ".dvc").mkdir(parents=True)
    (path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (path / "dvc.yaml").write_text(pipeline)
    return path


def run(folder: Path, *words: str) -> Done:
    environment = clone_environment() | PACKAGE
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    return Done(done.returncode, done.stdout, done.stderr)


def repro(folder: Path, *arguments: str) -> Done:
    return run(folder, *REPRO, *arguments)


def dvc_repro(folder: Path, *arguments: str) -> Done:
    return run(folder, *DVC, "repro", *arguments)


def locks(folder: Path) -> list[str]:
    """The paths that DVC has locked."""
    path = folder / ".dvc/tmp/rwlock"
    by_mode = json.loads(path.read_text()) if path.exists() else {}
    return [name for names in by_mode.values() for name in names]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_every_stage_is_numbered_whether_it_runs_is_skipped_or_restored(pipeline: Path) -> None:
    done = repro(pipeline, "second", "jobs=1")
    assert done.code == 0
    assert done.numbered == [
        "[1/3] Running stage 'first@a':",
        "[2/3] Running stage 'first@c':",
        "[3/3] Running stage 'second':",
    ]

    lock = yaml.safe_load((pipeline / "dvc.lock").read_text())
    del lock["stages"]["second"]  # DVC's run cache still has its output
    (pipeline / "dvc.lock").write_text(yaml.safe_dump(lock))
    done = repro(pipeline, "jobs=1")
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


@pytest.mark.slow
def test_an_unknown_stage_is_refused_with_dvcs_message(pipeline: Path) -> None:
    done = repro(pipeline, "fist")
    assert (done.code, done.numbered) == (255, [])
    assert "'fist' not found" in done.stderr


# --- side by side -------------------------------------------------------------------------------

# Each of the two stages ends when the other one has started.
MEETING = """
stages:
  meet:
    foreach: {a: b, b: a}
    do:
      cmd: >-
        touch ${key}.here; until test -e ${item}.here; do sleep 0.02; done;
        printf 'one\\ntwo' && echo three >&2; echo ${key} > ${key}
      outs: ["${key}"]
  join:
    cmd: cat a b > c
    deps: [a, b]
    outs: [c]
"""
# `long` waits for a file that the test creates; `next` needs it, and `bad` and `worse` fail.
FAILING = """
stages:
  long:
    cmd: touch long.here; until test -e go; do sleep 0.02; done; echo long > long
    outs: [long]
  bad:
    cmd: exit 3
    outs: [bad]
  worse:
    cmd: exit 4
    outs: [worse]
  after:
    cmd: cp bad after
    deps: [bad]
    outs: [after]
  next:
    cmd: cp long next
    deps: [long]
    outs: [next]
"""


@pytest.mark.slow
def test_stages_run_side_by_side_and_every_line_says_of_which_it_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", MEETING)
    done = repro(folder, "jobs=2")
    assert done.code == 0, done.stderr
    assert done.ran() == ["join", "meet@a", "meet@b"]
    for line in ("meet@a | one", "meet@a | two", "meet@b | one", "meet@b | two"):
        assert line in done.stdout.splitlines()
    assert "> cp" not in done.stdout and "join | > cat a b > c" in done.stdout.splitlines()
    assert sorted(done.stderr.splitlines()) == ["meet@a | three", "meet@b | three"]


@pytest.mark.slow
def test_the_result_is_that_of_dvc_one_by_one(pipeline: Path, tmp_path: Path) -> None:
    """The stages end in another order than in dvc.yaml, and a stage has been there before."""
    text = PIPELINE.replace("echo ${item}", "sleep 0.$(echo ${item} | tr abc 420); echo ${item}")
    text = text.partition("  third:")[0]
    folders = [folder_of(tmp_path / name, text) for name in ("ours", "dvc")]
    ours, theirs = folders
    assert repro(ours, "first@c", "jobs=3").code == 0
    assert repro(ours, "jobs=3").code == 0
    assert dvc_repro(theirs).code == 0
    assert (ours / "dvc.lock").read_bytes() == (theirs / "dvc.lock").read_bytes()
    cached = [
        sorted(str(path.relative_to(x)) for path in (x / ".dvc/cache").rglob("*")) for x in folders
    ]
    assert cached[0] == cached[1]

    done = dvc_repro(ours)
    assert done.code == 0 and done.ran() == []
    done = repro(ours, "jobs=3")
    assert done.code == 0 and done.ran() == [] and "up to date" in done.stdout

    for folder in folders:  # one entry of dvc.lock changes, and the others stay where they are
        text = (folder / "dvc.yaml").read_text()
        (folder / "dvc.yaml").write_text(text.replace("cat a c", "cat c a"))
    assert repro(ours, "jobs=3").ran() == dvc_repro(theirs).ran() == ["second"]
    assert (ours / "dvc.lock").read_bytes() == (theirs / "dvc.lock").read_bytes()
    shutil.rmtree(tmp_path / "ours/.dvc/tmp")
    (ours / "d").unlink()
    done = repro(ours, "jobs=3")
    assert done.code == 0 and "Stage 'second' is cached" in done.stdout
    assert (ours / "d").read_text() == "c\na\n"


@pytest.mark.slow
def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", FAILING)
    (folder / "go").touch()
    done = repro(folder, "jobs=2")
    assert done.code == 255
    assert done.ran() == ["bad", "long", "next", "worse"]
    assert "WARNING: bad | failed to run: exit 3, exited with 3" in done.stderr
    assert "Stage 'after' will be skipped due to this failure" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "ERROR: failed to reproduce stages: 'bad' and 'worse'"
    assert list(yaml.safe_load((folder / "dvc.lock").read_text())["stages"]) == ["long", "next"]


@contextmanager
def start(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start `sextant repro`; end it with its stages if the test fails before it has ended."""
    process = subprocess.Popen(
        [*REPRO, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_all_stages_and_leaves_no_lock(
    tmp_path: Path, number: int, code: int
) -> None:
    folder = folder_of(tmp_path / "x", MEETING.replace("${item}.here; do", "go; do"))
    with start(folder, "jobs=2") as process:
        until(lambda: (folder / "a.here").exists() and (folder / "b.here").exists())
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(number)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == code
    assert "failed" not in stderr
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert locks(folder) == []
    assert (folder / ".dvc/tmp/sextant-repro").read_text() == ""
    assert not (folder / "c").exists()
    (folder / "go").touch()
    assert dvc_repro(folder).ran() == ["join", "meet@a", "meet@b"]


@pytest.mark.slow
def test_a_killed_stage_lets_the_others_finish_and_the_next_run_completes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", MEETING.replace("${item}.here; do", "go; do"))
    with start(folder, "jobs=2") as process:
        until(lambda: (folder / "a.here").exists() and (folder / "b.here").exists())
        for child in psutil.Process(process.pid).children():
            if "touch a.here" in child.cmdline()[-1]:
                child.kill()
                child.wait(timeout=30)
        (folder / "go").touch()
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 255
    assert "meet@a | failed to run" in stderr and "exited with -9" in stderr
    assert (folder / "b").read_text() == "b\n" and not (folder / "c").exists()
    assert locks(folder) == []
    assert repro(folder, "jobs=2").ran() == ["join", "meet@a"]

    other = folder_of(tmp_path / "y", (folder / "dvc.yaml").read_text())
    (other / "go").touch()
    assert dvc_repro(other).code == 0
    assert (folder / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()


def test_the_training_of_another_model_waits_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "POLL", 0.01)
    order: list[str] = []

    def train() -> None:
        with command.in_turn():
            order.append("second")

    second = Thread(target=train)
    with command.alone():
        second.start()
        until(lambda: "waits for its end" in capsys.readouterr().err)
        order.append("first")
    second.join(timeout=30)
    assert order == ["first", "second"]


@pytest.mark.slow
def test_a_kill_of_the_run_alone_ends_its_stages(tmp_path: Path) -> None:
    """Each stage has a process group of its own, which a kill of the run's group does not reach."""
    folder = folder_of(tmp_path / "x", MEETING.replace("${item}.here; do", "go; do"))
    with start(folder, "jobs=2") as process:
        until(lambda: (folder / "a.here").exists() and (folder / "b.here").exists())
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=300)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_kill_while_dvc_lock_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    """A rename is atomic; the entries of a run that was killed before the end are sorted later."""
    path = tmp_path / "dvc.lock"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        scheduler._write(path, "half\udcff")
    assert path.read_text() == "before" and [*tmp_path.iterdir()] == [path]


@pytest.mark.slow
def test_entries_are_sorted_although_no_stage_ran(pipeline: Path) -> None:
    """As after a kill between the last stage and the end of the run."""
    assert repro(pipeline, "first@a", "first@b", "jobs=1").code == 0
    lock = (pipeline / "dvc.lock").read_text()
    head, first, second = re.split(r"(?m)^(?=  first@)", lock)
    (pipeline / "dvc.lock").write_text(head + second + first)
    assert repro(pipeline, "first@a", "first@b", "jobs=1").ran() == []
    assert (pipeline / "dvc.lock").read_text() == lock


@pytest.mark.slow
def test_a_second_repro_says_who_is_running_and_stops(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", FAILING)
    with start(folder, "next", "jobs=2") as process:
        until(lambda: (folder / "long.here").exists())
        second = repro(folder)
        assert second.code == 1
        assert re.fullmatch(
            rf"sextant: process {process.pid} is running the pipeline of this clone already; .*\n",
            second.stderr,
        )
        assert second.stdout == ""
        (folder / "go").touch()
        process.communicate(timeout=300)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_reader_that_ends_early_ends_the_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", MEETING)
    with start(folder, "jobs=2") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.read()
        process.wait(timeout=300)
    assert process.returncode != 0
    assert locks(folder) == []


@pytest.mark.slow
def test_a_stage_that_leaves_a_program_behind_has_ended(tmp_path: Path) -> None:
    text = "stages:\n  one: {cmd: sleep 30 & echo 1 > a, outs: [a]}\n  two: {cmd: echo 2}\n"
    done = repro(folder_of(tmp_path / "x", text), "jobs=2")
    assert done.code == 0 and done.ran() == ["one", "two"]


@pytest.mark.slow
def test_what_else_is_in_dvc_lock_stays(pipeline: Path) -> None:
    assert dvc_repro(pipeline, "first@b").code == 0
    text = (pipeline / "dvc.lock").read_text()
    (pipeline / "dvc.lock").write_text(f"datasets: []\n{text}")
    assert repro(pipeline, "second", "jobs=2").code == 0
    content = yaml.safe_load((pipeline / "dvc.lock").read_text())
    assert content["datasets"] == []
    assert list(content["stages"]) == ["first@a", "first@b", "first@c", "second"]


# --- jobs, and what belongs before and after ----------------------------------------------------


@cases.each("value", ["0", "many", "x", "-1", "1.5", "", "²"])
def test_a_number_of_jobs_that_is_none_is_refused(value: str) -> None:
    message = f"^jobs={re.escape(value)}: expected a whole number above 0"
    with pytest.raises(UsageError, match=message):
        command.parse([f"jobs={value}"])


def test_a_full_disk_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for free, line in [(command.FULL, ""), (4096, "sextant: no space left on the disk of ")]:
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(command.shutil, "disk_usage", lambda path, usage=usage: usage)
        command.explain_full_disk()
        assert capsys.readouterr().err.startswith(line) and bool(line) == (free < command.FULL)


def test_there_are_as_many_jobs_as_cores() -> None:
    assert command.parse(["train@ann"]) == (len(os.sched_getaffinity(0)), False, ["train@ann"])
    assert command.parse(["--whole", "jobs=3"]) == (3, True, [])


def test_a_model_takes_the_threads_of_its_budget(workspace: Path) -> None:
    assert command.threads()["cnn"] == 2
    assert command.threads()["ann"] == 1
    params = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(params.replace("budget: standard", "budget: smoke"))
    assert command.threads()["cnn"] == 1


@pytest.mark.parametrize(
    ("codes", "expected", "code"),
    [
        ({}, ["check --listed", "stages", "register --write", "leaderboard"], 0),
        ({"check --listed": 2}, ["check --listed"], 2),
        ({"stages": 255}, ["check --listed", "stages"], 255),
        ({"register --write": 1}, ["check --listed", "stages", "register --write"], 1),
    ],
)
def test_the_whole_checks_first_and_ends_with_the_leaderboard(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codes: dict[str, int],
    expected: list[str],
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[str] = []

    def call(*words: object) -> int:
        name = " ".join(word for word in words if isinstance(word, str)) or "stages"
        calls.append(name)
        return codes.get(name, 0)

    monkeypatch.setattr(command, "_run_verb", call)
    monkeypatch.setattr(command, "run_stages", call)
    monkeypatch.setattr(command.leaderboard, "main", lambda argv: call("leaderboard"))
    monkeypatch.setattr(command.processor, "explanation", lambda models: "")
    monkeypatch.setattr(command.config, "params", lambda: SimpleNamespace(models={}))
    monkeypatch.setattr(command.signal, "signal", lambda number, handler: None)
    assert command.main(["--whole", "jobs=1"]) == code
    assert calls == expected


# --- terminals ----------------------------------------------------------------------------------


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


@pytest.mark.slow
def test_colours_need_a_terminal_and_no_no_color(pipeline: Path) -> None:
    (pipeline / "b").touch()
    (pipeline / "d").touch()
    assert "\x1b[31mERROR" in on_a_terminal(pipeline)
    plain = on_a_terminal(pipeline, NO_COLOR="1")
    assert "ERROR: failed to reproduce 'third'" in plain and "\x1b" not in plain
