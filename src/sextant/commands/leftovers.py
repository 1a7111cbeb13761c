"""What a killed process left behind: temporary files, and entries in DVC's file of locks."""

import fcntl
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import discard, read_json
from ..processes import is_alive

# `.reports.4711.part`, as `files.written_whole` names what is not complete yet.
PART = re.compile(r"\..+\.(\d+)\.part")
# Where stages and commands write; none of these folders has many files.
FOLDERS = (
    "",
    "conf/*",
    "data/*",
    "models",
    "reports",
    "reports/*",
    ".checkpoints/*/*",
    ".scratch/*",
)
RWLOCK = Path(".dvc/tmp/rwlock")
NO_LOCKS: dict[str, dict[str, Any]] = {"write": {}, "read": {}}


def remove(root: Path = Path(".")) -> list[Path]:
    """Remove what no living process owns; return the paths.

    Git sees a temporary file as a change, and each later run would be tagged as made from one.
    """
    removed = []
    for path in _temporary(root):
        pid = int(path.name.split(".")[-2])
        if not is_alive(pid, path.lstat().st_mtime):
            discard(path)
            removed.append(path)
    if _clear_rwlock(root / RWLOCK):
        removed.append(root / RWLOCK)
    return removed


def _temporary(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in root.glob(f"{folder}/.*.part".removeprefix("/")):
            if PART.fullmatch(path.name):
                yield path


def _clear_rwlock(path: Path) -> bool:
    """Remove the entries of ended processes from DVC's file of locks; return whether it had any.

    DVC removes such an entry only if a later stage needs the same path. It writes the file in
    place, so that a kill may leave half of it, with which no DVC would start again.
    """
    if _is_torn(path):
        path.write_text(json.dumps(NO_LOCKS), encoding="utf-8")
        return True
    try:
        changed = path.stat().st_mtime
        rwlock: dict[str, dict[str, Any]] = read_json(path)
        kept: dict[str, dict[str, Any]] = {"write": {}, "read": {}}
        for name, holder in rwlock.get("write", {}).items():
            if is_alive(int(holder["pid"]), changed):
                kept["write"][name] = holder
        for name, holders in rwlock.get("read", {}).items():
            owners = [holder for holder in holders if is_alive(int(holder["pid"]), changed)]
            if owners:
                kept["read"][name] = owners
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return False  # there is none, or `make doctor` explains what is wrong with it
    if kept == {"write": rwlock.get("write", {}), "read": rwlock.get("read", {})}:
        return False
    if any(kept.values()):  # a DVC runs here and may be writing it
        return False
    path.write_text(json.dumps(kept), encoding="utf-8")
    return True


def _is_torn(path: Path) -> bool:
    """Whether a file of locks is no JSON, and no DVC is writing it."""
    try:
        with path.with_name("rwlock.lock").open("r") as guard:  # which DVC locks while it writes
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            read_json(path)
    except ValueError:
        return True
    except OSError:
        pass
    return False
