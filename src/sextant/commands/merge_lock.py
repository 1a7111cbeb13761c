"""Resolve the conflicts of two branches in dvc.lock and reports/, and run what differs.

Each stage is merged as a whole: the side that changed it counts; where both did, ours or that of
`side=theirs`. Its reports come from the same side, its outputs from DVC's cache. What differs from
dvc.lock then runs again, such as a model that one branch trained on what the other has changed.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from .. import config
from ..errors import SextantError, UsageError
from .night import git
from .scheduler import ENTRY

Side = Literal["ours", "theirs"]
Entries = Mapping[str, str]  # the text of each entry of dvc.lock, by stage

LOCK = "dvc.lock"
HEAD = "schema: '2.0'\nstages:\n"
REPORTS = "reports/"
STAGES = {"base": "1", "ours": "2", "theirs": "3"}  # of git's index
# The stage that writes a folder of reports/ with a file for each data set or model.
WRITERS = {"validation": "validate", "metrics": "evaluate", "registry": "register"}
WRITERS |= {"processors": "train"}


def merge(base: Entries, ours: Entries, theirs: Entries, preferred: Side) -> dict[str, Side]:
    """By stage, the side whose entry counts; stages that the merge has removed are left out.

    The order is that of ours, followed by the stages that only theirs has.
    """
    sides: dict[str, Side] = {}
    for stage in [*ours, *theirs]:
        side: Side = preferred
        if theirs.get(stage) == base.get(stage) or theirs.get(stage) == ours.get(stage):
            side = "ours"
        elif ours.get(stage) == base.get(stage):
            side = "theirs"
        elif stage not in ours or stage not in theirs:  # removed here, changed there
            side = "ours" if stage in ours else "theirs"
        if stage in (ours if side == "ours" else theirs):
            sides[stage] = side
    return sides


def side_of_report(path: str, sides: Mapping[str, Side], preferred: Side) -> Side:
    """The side of a report: that of the stage that writes it."""
    folder, file = Path(path).parts[1:3] if len(Path(path).parts) > 2 else ("", "")
    stage = f"{WRITERS.get(folder, '')}@{Path(file).stem}"
    return sides.get(stage, preferred)


def merge_lock(preferred: Side) -> dict[str, Side]:
    """Resolve and stage the conflicts; by stage, the side that counts.

    Raises UsageError without a conflict in dvc.lock or reports/, or with one elsewhere.
    """
    conflicts = git("diff", "--name-only", "--diff-filter=U").splitlines()
    others = [path for path in conflicts if path != LOCK and not path.startswith(REPORTS)]
    if others:
        raise UsageError(
            f"{', '.join(others)}: conflicts; resolve and `git add` them first, because they decide"
            " what runs"
        )
    if not conflicts:
        raise UsageError(f"{LOCK} and {REPORTS} have no conflicts; `git merge BRANCH` comes first")
    sides: dict[str, Side] = {}
    if LOCK in conflicts:
        sides = _merge_entries(preferred)
    for path in conflicts:
        if path != LOCK:
            _take(path, side_of_report(path, sides, preferred))
    return sides


def _merge_entries(preferred: Side) -> dict[str, Side]:
    base = _entries("base")
    by_side = {"ours": _entries("ours"), "theirs": _entries("theirs")}
    sides = merge(base, by_side["ours"], by_side["theirs"], preferred)
    merged = [by_side[side][stage] for stage, side in sides.items()]
    Path(LOCK).write_text(HEAD + "".join(merged), encoding="utf-8")
    git("add", LOCK)
    return sides


def _entries(side: str) -> Entries:
    """The entries of dvc.lock on a side of the merge; none where it has no such file."""
    present = git("ls-files", "--unmerged", LOCK).splitlines()
    number = STAGES[side]
    if not any(line.split("\t")[0].endswith(f" {number}") for line in present):
        return {}
    text = git("show", f":{number}:./{LOCK}") + "\n"
    entries = {match[1]: match[0] for match in ENTRY.finditer(text)}
    if text != HEAD + "".join(entries.values()):
        raise SextantError(
            f"{LOCK} ({side}) is not as DVC writes it; take one side: `git checkout --ours {LOCK}`"
        )
    return entries


def _take(path: str, side: Side) -> None:
    """Put one side of a file into the working tree, or remove it if that side has none."""
    listed = git("ls-files", "--unmerged", "--", path).splitlines()
    if any(line.split("\t")[0].endswith(f" {STAGES[side]}") for line in listed):
        git("checkout", f"--{side}", "--", path)
        git("add", "--", path)
    else:
        git("rm", "--quiet", "--force", "--", path)


def describe(sides: Mapping[str, Side]) -> list[str]:
    """What the merge took from the other branch, in lines."""
    theirs = [stage for stage, side in sides.items() if side == "theirs"]
    if not theirs:
        return [f"{LOCK}: all {len(sides)} stages as on this branch"]
    return [
        f"{LOCK}: {len(theirs)} of {len(sides)} stages as on the other branch: {', '.join(theirs)}"
    ]


def main(argv: list[str]) -> int:
    """`sextant merge-lock [side=theirs]`: return the exit code of the pipeline."""
    options, rest = config.named_options(argv, "side")
    side = options.get("side", "ours")
    if rest or side not in ("ours", "theirs"):
        raise UsageError("expected: make merge-lock [SIDE=ours|theirs]")
    sides = merge_lock("theirs" if side == "theirs" else "ours")
    print("\n".join(describe(sides)), flush=True)
    # Outputs that are in no cache stay away; the stages that write them run again.
    checkout = [sys.executable, "-m", "dvc", "checkout", "--force", "--quiet", "--allow-missing"]
    subprocess.run(checkout, check=False)
    code = subprocess.run([sys.executable, "-m", "sextant", "repro"], check=False).returncode
    if code == 0:
        git("add", LOCK, REPORTS)
        print("merged; `git commit` ends the merge")
    return code
