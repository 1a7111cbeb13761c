"""What of a store nothing refers to: deleted runs, and artifacts on disk without a run or model."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..processes import output_of
from .store import database, query, uri

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

YOUNG = 3600.0  # seconds: a process that is logging may not have told the database yet
PAGE = 1000


@dataclass(frozen=True)
class DeletedRun:
    """A run that was deleted in MLflow's pages, which can still be restored there."""

    run_id: str
    name: str


def deleted_runs(mlflow: "MlflowClient") -> list[DeletedRun]:
    """The deleted runs of all experiments, without those that a registered version is of."""
    from mlflow.entities import ViewType

    experiments = mlflow.search_experiments(view_type=ViewType.ALL)
    identifiers = [experiment.experiment_id for experiment in experiments]
    runs: list[DeletedRun] = []
    token: str | None = None
    while identifiers:
        page = mlflow.search_runs(
            identifiers,
            run_view_type=ViewType.DELETED_ONLY,
            max_results=PAGE,
            page_token=token,
        )
        for run in page:
            if not mlflow.search_model_versions(f"run_id = '{run.info.run_id}'", max_results=1):
                runs.append(DeletedRun(run.info.run_id, run.info.run_name or ""))
        token = page.token
        if not token:
            break
    return runs


def remove_runs(runs: Sequence[DeletedRun]) -> None:
    """Remove deleted runs with their artifacts, by MLflow; raises SextantError if it fails."""
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri()]
    command += ["--tracking-uri", uri()]
    command += ["--run-ids", ",".join(run.run_id for run in runs)]
    output_of("mlflow gc", command)


def orphans(now: float | None = None) -> list[Path]:
    """Folders of artifacts that belong to no run and no model of the local database, sorted.

    Those that were changed within the last hour are left out.
    """
    path = database()
    if path is None:
        return []
    known = {run for (run,) in query("SELECT run_uuid FROM runs")}
    known |= {model for (model,) in query("SELECT model_id FROM logged_models")}
    before = (time.time() if now is None else now) - YOUNG
    folders = []
    for folder in _artifact_folders(path.parent / "mlruns"):
        if folder.name not in known and folder.stat().st_mtime < before:
            folders.append(folder)
    return sorted(folders)


def _artifact_folders(root: Path) -> Iterator[Path]:
    """The folders of runs, <experiment>/<run>, and of models, <experiment>/models/<model>."""
    yield from root.glob("*/[0-9a-f]*/")
    yield from root.glob("*/models/m-*/")


def remove_folders(folders: Sequence[Path]) -> None:
    """Delete folders of artifacts."""
    for folder in folders:
        shutil.rmtree(folder)
