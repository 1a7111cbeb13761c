"""Clones of this checkout in other folders, for commands that are timed or disturbed there."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Variables of the caller that would change what a command does. make passes on its arguments as
# variables too, and the make of a clone would take OPTIONS for its own.
FOREIGN = re.compile(
    r"(MAKE|MFLAGS|SEXTANT_|MLFLOW_|DVC_)|(ROW|AGAINST|OPTIONS|JOBS|MODEL|DATASET|INPUT|OUTPUT)$|"
    r"(PYTHONPATH|PYTHONDONTWRITEBYTECODE|VIRTUAL_ENV|OMP_NUM_THREADS|XDG_CACHE_HOME)$"
)


def change(file: Path, old: str, new: str) -> None:
    """Replace a text that occurs once in a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file}: {old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def link_environment(clone: Path) -> None:
    """Make .venv of links to that of this checkout, with the stamp by which make knows it.

    The stamp is a checksum, see `STAMP` in the Makefile. Earlier commits have constraints.txt where
    later ones have requirements.lock.
    """
    venv = clone / ".venv"
    venv.mkdir()
    for part in (ROOT / ".venv").iterdir():
        if part.name != ".ready":
            (venv / part.name).symlink_to(part)
    content = b""
    for name in ("pyproject.toml", "constraints.txt", "requirements.lock"):
        if (clone / name).is_file():
            content += (clone / name).read_bytes()
    checksum = subprocess.run(["cksum"], input=content, capture_output=True, check=True)
    (venv / ".ready").write_text(f"{checksum.stdout.decode().strip()} dev\n")


def variables(clone: Path) -> dict[str, str]:
    """The environment of a command: that of the caller, with the Python of the clone."""
    env = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    folders = env["PATH"].split(os.pathsep)
    bare_path = [folder for folder in folders if folder != str(ROOT / ".venv/bin")]
    env["PATH"] = os.pathsep.join([str(clone / ".venv/bin"), *bare_path])
    env["PYTHONPATH"] = str(clone / "src")
    return env | {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}
