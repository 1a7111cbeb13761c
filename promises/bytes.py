"""The same commit gives the same bytes: another folder, user, umask, time zone, locale and so on

    python promises/bytes.py [n=9] [seed=1] [case=umask]

Each trial runs the pipeline of one model at `smoke` in a fresh clone that differs in one respect
from another one: dvc.lock and all outputs must have the same bytes. `python` is another minor
version of Python, whose environment BYTES_PYTHON names, for example /tmp/venv313/bin/python.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import _trials

from sextant.errors import SextantError, run

# The variables that each case changes.
CASES: dict[str, dict[str, str]] = {
    "clone": {},
    "folder": {},
    "jobs": {},
    "umask": {},
    "nice": {},
    "user": {},
    "time zone": {"TZ": "Pacific/Chatham"},
    "locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
    "python": {},
}
FOLDER = "a folder, with blanks & ümlauts/and a rather long name of another folder in it"
USER = "nobody"
PYTHON = "BYTES_PYTHON"


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, len(CASES), "case", list(CASES))
    cases = list(CASES)
    for case, refusal in refusals().items():
        if refusal:
            print(f"bytes: the case {case} is skipped: {refusal}", file=sys.stderr)
            cases.remove(case)
    if chosen.only and chosen.only not in cases:
        return 0
    references: dict[str, dict[str, str]] = {}
    models = _trials.models()
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)  # for the other user

        def trial(case: str, draws: random.Random, number: int) -> list[str]:
            model = models[number // len(cases) % len(models)]  # another one in each round
            if model not in references:
                clone = _trials.clone(Path(home) / f"{model}-first", model)
                _trials.run(clone, "make", "repro")
                references[model] = _trials.digests(clone)
            return differing(Path(home) / str(number), case, model, references[model])

        return _trials.trials("bytes", chosen, trial, cases)


def refusals() -> dict[str, str]:
    """By case why it cannot be tried here; empty if it can."""
    reasons = {"user": "", "python": ""}
    if os.getuid() != 0:
        reasons["user"] = "running as another user needs root"
    else:
        python = Path(sys.executable).resolve()
        command = ["setpriv", f"--reuid={USER}", "--clear-groups", str(python), "-c", ""]
        if subprocess.run(command, capture_output=True).returncode:
            reasons["user"] = f"the user {USER} cannot run {python}"
    if not os.environ.get(PYTHON):
        reasons["python"] = f"{PYTHON} names no other Python with Sextant's packages"
    return reasons


def differing(place: Path, case: str, model: str, expected: dict[str, str]) -> list[str]:
    """What differs in a clone that is made and run in another way."""
    folder = place / FOLDER if case == "folder" else place
    clone = _trials.clone(folder, model)
    jobs = 2 if case == "jobs" else 1
    command = ["make", "repro", f"JOBS={jobs}"]
    further = dict(CASES[case])
    if case == "umask":
        command = ["sh", "-c", "umask 077; exec " + " ".join(command)]
    if case == "nice":
        command = ["nice", "-n", "3", *command]
    if case == "user":
        command = _as_other_user(place, clone, command, further)
    if case == "python":
        _use_python(clone, os.environ[PYTHON])
    try:
        _trials.run(clone, *command, **further)
    except SextantError as error:
        return [f"{case}, {model}: {error}"]
    faults = [f"{case}, {model}: {fault}" for fault in _trials.differences(clone, expected)]
    shutil.rmtree(place)
    return faults


def _as_other_user(
    place: Path, clone: Path, command: list[str], further: dict[str, str]
) -> list[str]:
    """The command as another user, who owns the clone and has a home and temporary folder."""
    home = place / "home"
    home.mkdir()
    further |= {"HOME": str(home), "TMPDIR": str(home)}
    subprocess.run(["chown", "-R", USER, place], check=True)
    return ["setpriv", f"--reuid={USER}", "--clear-groups", *command]


def _use_python(clone: Path, python: str) -> None:
    """Link the clone's .venv to that of another Python."""
    stamp = (clone / ".venv/.ready").read_text(encoding="utf-8")
    shutil.rmtree(clone / ".venv")
    (clone / ".venv").mkdir()
    for part in Path(python).parents[1].iterdir():
        if part.name != ".ready":
            (clone / ".venv" / part.name).symlink_to(part)
    (clone / ".venv/.ready").write_text(stamp, encoding="utf-8")


if __name__ == "__main__":
    run(main)
