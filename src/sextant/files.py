"""Write files so that they are complete or absent, digest them, and lock what one process uses."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import SextantError, describe

# In data/raw/<name>/, beside the upstream files: their source, sizes and digests.
RECEIPT = "source.json"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a file or a folder; rename it to `path` on success.

    If the block raises, the temporary file or folder is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside `path`, because a rename is atomic only within one file system.
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    discard(beside)  # left behind by a killed process whose pid was reused
    try:
        yield beside
        if path.is_dir():
            discard(path)  # a rename does not replace a folder that has files in it
        beside.replace(path)
    finally:
        discard(beside)


def discard(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def needed(path: Path) -> Path:
    """Return `path`, the output of an earlier stage; raise SextantError if it does not exist."""
    if not path.exists():
        raise SextantError(
            f"{path} does not exist; `make repro` creates it, `dvc checkout` restores the last one"
        )
    return path


class DamagedError(SextantError, ValueError):
    """A file of the pipeline or the registry that cannot be read as what it is."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise DamagedError with the file for what a library raises that reads it in the block.

    A missing file raises FileNotFoundError all the same.
    """
    try:
        yield
    except (SextantError, OSError):
        raise
    except Exception as error:  # a torn file raises almost anything
        raise DamagedError(
            f"{path} is damaged ({describe(error)}); restore it: `dvc checkout` if the pipeline"
            " wrote it, `make register` if it is of a registered model"
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raises DamagedError if it is none."""
    with readable(path):
        return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON: keys in the order given, a newline at the end.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with written_whole(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path, without: str = "") -> str:
    """Return one sha256 over the relative paths and digests of all files in `folder`.

    The file `without`, directly in `folder`, is left out. The digest identifies a version of a
    model, and the contents of a data set whichever source they came from.
    """
    contents = [path for path in folder.rglob("*") if path.is_file() and path != folder / without]
    digest = hashlib.sha256()
    for path in sorted(contents):  # a file system lists files in any order
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock (flock) of a file, which then contains the number of this process.

    The operating system releases it if the process is killed. Raises SextantError if another
    process holds it: "process 17 is" and then `doing`, which says what that one does and how to go
    on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SextantError(f"process {lock.read().strip()} is {doing}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)
