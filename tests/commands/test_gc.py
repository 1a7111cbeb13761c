"""What nothing refers to is listed first, and deleted on request alone."""

import os
import time
from pathlib import Path

import pytest
from versions import NAME, Versions

from sextant.commands import gc
from sextant.errors import UsageError
from sextant.tracking import garbage, registry


@pytest.mark.slow
def test_only_what_nothing_refers_to_is_deleted(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = versions.set_back("3")
    used = {version.version for version in registry.versions(mlflow, NAME)}
    experiment = mlflow.get_experiment_by_name(NAME)
    assert experiment is not None
    thrown_away = mlflow.create_run(experiment.experiment_id, run_name="thrown away").info
    mlflow.log_dict(thrown_away.run_id, {}, "config.yaml")
    mlflow.delete_run(thrown_away.run_id)
    registered = mlflow.get_model_version(NAME, "1").run_id
    mlflow.delete_run(registered)  # by mistake: a version is of it
    orphan = Path("mlruns", NAME, "models", "m-" + 32 * "0")
    young = orphan.with_name("m-" + 32 * "1")
    for folder in (orphan, young):
        folder.mkdir(parents=True)
    os.utime(orphan, (0, time.time() - 2 * garbage.YOUNG))

    gc.main([])
    listed = capsys.readouterr().out
    assert f"  {thrown_away.run_id} thrown away\n" in listed and registered not in listed
    assert f"  {orphan}\n" in listed and young.name not in listed
    assert "make gc APPLY=1" in listed and orphan.is_dir()

    gc.main(["--apply"])
    assert capsys.readouterr().out.endswith("deleted\n")
    assert not orphan.exists() and young.is_dir()
    assert [run.run_id for run in garbage.deleted_runs(mlflow)] == []
    assert {version.version for version in registry.versions(mlflow, NAME)} == used
    assert all(Path("mlruns", NAME, "models").glob("m-*"))
    mlflow.restore_run(registered)


def test_another_argument_is_refused() -> None:
    with pytest.raises(UsageError, match="make gc"):
        gc.main(["--all"])
