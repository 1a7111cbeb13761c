"""Files that are whole or not there, and their digests."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import SextantError

RECEIPT = "source.json"  # beside the upstream files of a data set: the source they came from, their sizes and digests


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write a file or a folder to; rename it to `path` once all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(beside)  # of a process that was killed, whose number comes round again
    try:
        yield beside
        if path.is_dir():
            _remove(path)
        beside.replace(path)
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def needed(path: Path) -> Path:
    """`path`, which an earlier stage makes; raises SextantError where it is not there."""
    if not path.exists():
        raise SextantError(
            f"{path} is not there; `make repro` makes it, `dvc checkout` restores the last one"
        )
    return path


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON: indented, keys in the order given, no NaN, a line end."""
    with written_whole(path) as beside:
        beside.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path, without: str = "") -> str:
    """One sha256 over the names and digests of all files in `folder` but `without`.

    A version of a model is known by it, and a data set from whichever source it came.
    """
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / without):
        whole.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return whole.hexdigest()


def state_root() -> Path:
    """Where the state of this clone lies: the repository's root, also while `dvc exp run --temp` works in a copy."""
    return Path(os.environ.get("DVC_ROOT", "."))
