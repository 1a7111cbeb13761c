"""A full or read-only disk harms nothing that lasts: a small tmpfs, each stage in turn

    python promises/disk.py [n=8] [seed=1] [case=train]

The clone of one model at `smoke` lies on a tmpfs in which its pipeline has run. Each trial fills it
up to a random rest before or while one stage is forced, or makes a folder read-only and forces all
stages: what fails ends with a clear line, the registry, the champion's files and DVC's cache have
the bytes that they had, and with room again `make repro` gives the bytes of before. Mounting needs
root.
"""

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import _trials

from sextant.errors import SextantError, run

MODEL = "som"
DATASET = "credit_applications"
READ_ONLY = "read-only"
STAGES = {
    "pull": f"pull@{DATASET}",
    "validate": f"validate@{DATASET}",
    "prepare": f"prepare@{DATASET}",
    "train": f"train@{MODEL}",
    "evaluate": f"evaluate@{MODEL}",
    "register": f"register@{MODEL}",
    "report": "report",
}
CASES = (*STAGES, READ_ONLY)
SIZE = "300m"
FOLDERS = ("data", "models", "reports", "mlruns", ".dvc/cache", ".")  # one is read-only
RESTS = (0, 4096, 65536, 500_000)  # bytes that are left
LATE = 5.0  # seconds at most from the start of a stage until the disk is full
CLEAR = ("no space left", "read-only", "Read-only", "readonly")  # in one line of the output
BLOCK = 4096
TABLES = (
    *("registered_models", "model_versions", "model_version_tags", "registered_model_tags"),
    "registered_model_aliases",
)


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, len(CASES), "case", CASES)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "disk"
        folder.mkdir()
        refusal = mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
        if refusal:
            print(f"disk: skipped, because mounting is refused: {refusal}", file=sys.stderr)
            return 0
        made: list[tuple[Path, dict[str, str]]] = []

        def trial(case: str, draws: random.Random, number: int) -> list[str]:
            if not made:
                clone = _trials.clone(folder, MODEL)
                _trials.run(clone, "make", "repro")
                made.append((clone, _trials.digests(clone)))
            clone, expected = made[0]
            return harmed(clone, case, draws, expected)

        try:
            return _trials.trials("disk", chosen, trial, CASES)
        finally:
            for clone, _ in made:
                _trials.kill_all(clone)
            subprocess.run(["umount", folder], check=True)


def mount(*arguments: str) -> str:
    """Mount; return why that cannot be, or an empty text."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def harmed(clone: Path, case: str, draws: random.Random, expected: dict[str, str]) -> list[str]:
    """What is wrong after commands on a disk that is full or read-only, and with room again."""
    before = lasting(clone)
    repro = ["python", "-m", "sextant", "repro", "--force", "jobs=1"]
    if case == READ_ONLY:
        name = draws.choice(FOLDERS)
        place = f"{name} read-only"
        with read_only(clone / name):
            code, output = ended(clone, *repro)
    else:
        rest = draws.choice(RESTS)
        seconds = draws.choice((0.0, draws.uniform(0, LATE), draws.uniform(0, LATE)))
        place = f"{case} with {rest} bytes left after {seconds:.1f} s"
        process = _trials.start(clone, [*repro, "--single-item", STAGES[case]], subprocess.PIPE)
        time.sleep(seconds)
        with filled(clone, rest):
            output, _ = process.communicate()
        code = process.returncode
    faults = []
    if code == 0 and case == READ_ONLY:
        faults.append("the command did not notice it")
    if "Traceback" in output or (code and not any(text in output for text in CLEAR)):
        faults.append(f"ended with code {code} and no clear line: {output[-600:]}")
    faults += changes(before, lasting(clone))
    try:
        _trials.run(clone, "make", "repro")
        faults += _trials.differences(clone, expected, runs=None)
        faults += changes(before, lasting(clone))
    except SextantError as error:
        faults.append(str(error))
    end = output.strip().splitlines()[-3:]
    print(f"{place}: code {code}: {' / '.join(end)[:600]}")
    return [f"{place}: {fault}" for fault in faults]


def ended(clone: Path, *command: str) -> tuple[int, str]:
    """The exit code and the output of a command."""
    process = _trials.start(clone, command, subprocess.PIPE)
    output, _ = process.communicate()
    return process.returncode, output


@contextmanager
def filled(folder: Path, rest: int) -> Iterator[None]:
    """Fill the disk of a folder, so that `rest` bytes are left."""
    filler = folder / ".git/filler"
    with filler.open("wb") as stream:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        os.posix_fallocate(stream.fileno(), 0, max(BLOCK, free - rest))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only also for root, by a mount of itself."""
    for arguments in (["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
        refusal = mount(*arguments)
        if refusal:
            raise SextantError(f"{folder} cannot be made read-only: {refusal}")
    try:
        yield
    finally:
        _trials.kill_all(folder)
        subprocess.run(["umount", folder], check=True)


def lasting(clone: Path) -> dict[str, str]:
    """What must not change: the rows of the registry, the champion's files, and DVC's cache."""
    contents = {}
    with closing(sqlite3.connect(clone / "mlflow.db")) as database:
        for table in TABLES:
            rows = database.execute(f"SELECT * FROM {table}")  # nosec B608: a name of TABLES
            contents[f"table {table}"] = repr(sorted(rows))
        locations = database.execute("SELECT storage_location FROM model_versions").fetchall()
    folders = [clone / ".dvc/cache/files"]
    folders += [Path(location.removeprefix("file://")) for (location,) in locations]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                contents[path.relative_to(clone).as_posix()] = digest
    return contents


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What changed; DVC's cache may have more."""
    return [f"{name} changed" for name in before if after.get(name) != before[name]]


if __name__ == "__main__":
    run(main)
