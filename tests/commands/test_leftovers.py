"""The next `make repro` removes what a killed process left behind, and nothing else."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sextant.commands import leftovers


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def later(tmp_path: Path) -> Iterator[int]:
    """The number of a process that began after the files were written, as if it was reused."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def part(root: Path, folder: str, pid: int, age: float = 0) -> Path:
    path = root / folder / f".mlflow.db.{pid}.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.mark.parametrize(
    "folder",
    ["", "reports", "reports/figures", "models", "data/raw", "conf/model", ".scratch/data_docs"],
)
def test_temporary_files_of_ended_processes_are_removed(
    tmp_path: Path, ended: int, folder: str
) -> None:
    stale = part(tmp_path, folder, ended)
    alive = part(tmp_path, folder, os.getpid())
    assert leftovers.remove(tmp_path) == [stale]
    assert alive.exists() and not stale.exists()


def test_a_folder_is_removed_too(tmp_path: Path, ended: int) -> None:
    folder = tmp_path / f"models/.ann.{ended}.part"
    folder.mkdir(parents=True)
    (folder / "model.json").touch()
    leftovers.remove(tmp_path)
    assert not folder.exists()


def test_a_number_that_another_process_has_now_owns_nothing(tmp_path: Path, later: int) -> None:
    stale = part(tmp_path, "reports", later, age=3600)
    assert leftovers.remove(tmp_path) == [stale]


def test_other_files_stay(tmp_path: Path, ended: int) -> None:
    for name in ("notes.12.part", ".part", f".a.{ended}.parts", ".a.b.part"):
        (tmp_path / name).touch()
    assert leftovers.remove(tmp_path) == []


def rwlock(root: Path, write: int, read: int) -> Path:
    path = root / leftovers.RWLOCK
    path.parent.mkdir(parents=True)
    writers = {"/x/models/ann": {"pid": write, "cmd": "dvc repro"}}
    readers = {"/x/data": [{"pid": read, "cmd": "dvc repro"}]}
    path.write_text(json.dumps({"write": writers, "read": readers}))
    return path


def test_locks_of_ended_processes_are_removed(tmp_path: Path, ended: int) -> None:
    path = rwlock(tmp_path, ended, ended)
    assert leftovers.remove(tmp_path) == [path]
    assert json.loads(path.read_text()) == {"write": {}, "read": {}}
    assert leftovers.remove(tmp_path) == []


def test_a_file_of_locks_in_use_or_damaged_is_left_alone(tmp_path: Path, ended: int) -> None:
    path = rwlock(tmp_path, ended, os.getpid())
    for text in (path.read_text(), "[]", '{"write": {"x": {}}}'):
        path.write_text(text)
        assert leftovers.remove(tmp_path) == []
        assert path.read_text() == text


@pytest.mark.parametrize("text", ["", '{"write": {"/x/mod'])
def test_a_torn_file_of_locks_is_replaced_unless_a_dvc_is_writing_it(
    tmp_path: Path, ended: int, text: str
) -> None:
    path = rwlock(tmp_path, ended, ended)
    path.write_text(text)
    with path.with_name("rwlock.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert leftovers.remove(tmp_path) == []
    assert leftovers.remove(tmp_path) == [path]
    assert json.loads(path.read_text()) == {"write": {}, "read": {}}
