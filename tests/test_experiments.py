"""`dvc exp run` in the workspace, in a copy and from the queue: each experiment has its own
parameters, and none changes the registry.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Clone, copy_clone

from sextant.files import folder_digest

pytestmark = pytest.mark.slow

EXPERIMENT = "sextant-ann-twin"


def exp_show(clone: Clone) -> dict[str, Any]:
    """The row of `dvc exp show` of each experiment, by its name."""
    table = json.loads(clone.run("dvc", "exp", "show", "--json").stdout)
    rows = {}
    for baseline in table:
        for experiment in baseline["experiments"] or []:
            revision = experiment["revs"][0]
            rows[revision["name"]] = revision["data"]
    return rows


def dropout(row: Any) -> float:
    return float(row["params"]["conf/model/ann.yaml"]["data"]["net"]["dropout"])


# --- in the workspace ---------------------------------------------------------------------------


def test_an_experiment_in_the_workspace_is_tracked_and_not_registered(
    pipeline: Clone, with_experiment: Clone
) -> None:
    run = with_experiment.runs(EXPERIMENT)[-1]
    assert (run["experiment"], run["net.dropout"], run["status"]) == ("wet", "0.4", "FINISHED")
    assert run["digest"] == folder_digest(with_experiment.path / "models/ann")
    command = "dvc exp run -S conf/model/ann.yaml:net.dropout=0.4 train@ann"
    assert run["reproduce"].partition("  # on ")[0].endswith(f"&& {command}")
    assert with_experiment.versions() == pipeline.versions()
    assert with_experiment.champions() == pipeline.champions()
    assert with_experiment.read_json("reports/registry/ann.json")["model"] == run["digest"]


def test_dvc_shows_the_differences_and_nothing_else(with_experiment: Clone, tmp_path: Path) -> None:
    table = with_experiment.run("dvc", "exp", "show", "--only-changed", "--csv").stdout
    columns = table.splitlines()[0].split(",")
    groups = ("net.", "optimizer.", "schedule.")
    assert [column for column in columns if column.startswith(groups)] == ["net.dropout"]
    assert "test.log_loss" in columns

    diff = with_experiment.run("dvc", "metrics", "diff").stdout
    assert "test.log_loss" in diff
    assert max(map(len, diff.splitlines())) <= 100  # no sentence and no digest among the numbers

    with_experiment.run("dvc", "plots", "diff", "HEAD", "-o", str(tmp_path))
    assert "ann: loss on val by epoch" in (tmp_path / "index.html").read_text()
    curves = (tmp_path / "static").glob("*_figures_ann_00-curve.svg")
    revisions = {path.name.partition("_reports_")[0] for path in curves}
    assert revisions == {"HEAD", "workspace"}


def test_an_experiment_that_is_kept_is_judged_once(
    pipeline: Clone, with_experiment: Clone, two_versions: Clone, tmp_path: Path
) -> None:
    assert two_versions.versions() == [*pipeline.versions(), (EXPERIMENT, "2", True)]
    decision = two_versions.read_json("reports/decisions/ann.json")
    assert (decision["version"], decision["against"]) == ("2", "1")
    assert decision["digest"] == folder_digest(two_versions.path / "models/ann")
    promoted = decision["decision"] == "promoted"
    assert decision["champion"] is promoted
    assert two_versions.champions()[EXPERIMENT] == ("2" if promoted else "1")
    # The version refers to the experiment's run: `make repro` did not train again.
    assert len(two_versions.runs(EXPERIMENT)) == len(with_experiment.runs(EXPERIMENT))
    copy = copy_clone(two_versions, tmp_path / "clone")
    assert copy.repro() == []
    assert dropout(exp_show(copy)["wet"]) == 0.4


# --- in copies: --temp and --queue --------------------------------------------------------------


@pytest.fixture
def mirror(clone: Clone, tmp_path: Path) -> Path:
    """A mirror with a copy of the twin, pinned and committed."""
    folder = tmp_path / "mirror/churn"
    folder.mkdir(parents=True)
    shutil.copy(clone.path / "data/raw/churn/Churn_Modelling.csv", folder)
    clone.stage("pin", "dataset=churn", "source=mirror", SEXTANT_MIRROR=str(folder.parent))
    # Both read the whole conf, and write the same files.
    assert clone.repro() == ["pull@churn", "prepare@churn"]
    clone.commit("a mirror")
    return folder.parent


@pytest.mark.slow(minutes=2)
def test_experiments_in_copies_have_their_own_parameters_and_change_no_champion(
    clone: Clone, mirror: Path
) -> None:
    registry = (clone.versions(), clone.champions())
    lock = (clone.path / "dvc.lock").read_bytes()
    earlier = len(clone.runs(EXPERIMENT))
    setting = "conf/model/ann.yaml:net.dropout=0.1"
    clone.run("dvc", "exp", "run", "--queue", "--name", "dry", "-S", setting, "train@ann")
    settings = ["-S", "source=mirror", "-S", "conf/model/ann.yaml:net.dropout=0.25"]
    temporary = ["dvc", "exp", "run", "--temp", "--name", "elsewhere", *settings, "register@ann"]
    clone.run(*temporary, SEXTANT_MIRROR=str(mirror))
    clone.run("dvc", "exp", "run", "--run-all")

    # DVC's table and the runs of MLflow have the parameters of each experiment.
    table = exp_show(clone)
    expected = {"dry": 0.1, "elsewhere": 0.25}
    assert {name: dropout(row) for name, row in table.items()} == expected
    (real,) = clone.runs("sextant-ann")
    runs = [real, *clone.runs(EXPERIMENT)[earlier:]]
    assert {run["experiment"]: float(run["net.dropout"]) for run in runs} == expected
    assert [run["status"] for run in runs] == ["FINISHED"] * 2
    assert len({run["digest"] for run in runs}) == 2

    # `elsewhere` used the data of the other source, and its run has the name for real data.
    metrics = table["elsewhere"]["metrics"]["reports/metrics/ann.json"]["data"]
    assert metrics["source"] == "mirror"
    assert real["source"] == "mirror"
    logged = clone.query(
        "SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = 'test/accuracy'", real["id"]
    )
    assert logged == [(metrics["test"]["accuracy"],)]

    # The registry and the workspace are as before.
    assert (clone.versions(), clone.champions()) == registry
    assert clone.changed() == []
    assert (clone.path / "dvc.lock").read_bytes() == lock
    assert clone.repro() == []
