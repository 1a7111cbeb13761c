"""List what nothing refers to, and delete it with `--apply`.

That is: runs that were deleted in MLflow's pages, artifacts on disk without a run or a model, and
what DVC's cache has of no branch and no tag.
"""

import sys
from pathlib import Path

from ..errors import UsageError
from ..processes import output_of
from ..tracking import garbage, store

APPLY = "--apply"
KEPT = ("--workspace", "--all-branches", "--all-tags")  # of DVC's cache


def unused_cache() -> list[str]:
    """DVC's own lines on what it would remove from the cache; raises SextantError if it fails."""
    return _dvc_gc("--dry")


def remove_cache() -> None:
    """Remove from DVC's cache what no branch, no tag and not the workspace uses."""
    _dvc_gc("--force")


def _dvc_gc(*options: str) -> list[str]:
    command = [sys.executable, "-m", "dvc", "gc", *KEPT, *options]
    done = output_of("dvc gc", command)
    lines = (done.stdout + done.stderr).splitlines()
    return [
        line for line in lines if line.strip() and not line.startswith(("WARNING", "No unused"))
    ]


def main(argv: list[str]) -> None:
    """`sextant gc [--apply]`: list, and with `--apply` delete."""
    if argv not in ([], [APPLY]):
        raise UsageError("expected: make gc [APPLY=1]")
    apply = argv == [APPLY]
    runs = garbage.deleted_runs(store.client())
    folders = garbage.orphans()
    print(f"MLflow: {len(runs)} deleted run(s)")
    for run in runs:
        print(f"  {run.run_id} {run.name}")
    print(f"artifacts without a run or a model: {len(folders)} folder(s)")
    for folder in folders:
        print(f"  {_short(folder)}")
    print("DVC's cache, what no branch, no tag and not the workspace uses:")
    for line in unused_cache() or ["nothing"]:
        print(f"  {line}")
    if not apply:
        print("nothing is deleted yet; `make gc APPLY=1` deletes what is listed")
        return
    if runs:
        garbage.remove_runs(runs)
    garbage.remove_folders(folders)
    remove_cache()
    print("deleted")


def _short(folder: Path) -> Path:
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder
