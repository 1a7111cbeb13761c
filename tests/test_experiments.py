"""`dvc exp run` in the workspace, in a copy and from the queue: own values, and a registry that stays as it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Clone, copied

from sextant.files import folder_digest

pytestmark = pytest.mark.slow


def shown(clone: Clone) -> dict[str, Any]:
    """What `dvc exp show` says of each experiment by its name."""
    found = json.loads(clone.run("dvc", "exp", "show", "--json").stdout)
    return {
        one["revs"][0]["name"]: one["revs"][0]["data"]
        for base in found
        for one in base["experiments"] or []
    }


def dropout(experiment: Any) -> float:
    return float(experiment["params"]["conf/model/ann.yaml"]["data"]["net"]["dropout"])


# --- in the workspace -------------------------------------------------------------------------------------------------


def test_an_experiment_in_the_workspace_is_tracked_and_judges_nothing(
    chain: Clone, experimented: Clone
) -> None:
    run = experimented.runs("sextant-ann-twin")[-1]
    assert (run["experiment"], run["net.dropout"], run["status"]) == ("wet", "0.4", "FINISHED")
    assert run["digest"] == folder_digest(experimented.path / "models/ann")
    assert run["reproduce"].endswith(
        "&& dvc exp run -S conf/model/ann.yaml:net.dropout=0.4 train@ann"
    )
    assert (
        experimented.versions() == chain.versions()
        and experimented.champions() == chain.champions()
    )
    assert experimented.read_json("reports/registry/ann.json")["model"] == run["digest"]


def test_dvc_shows_what_differs_and_no_more(experimented: Clone, tmp_path: Path) -> None:
    words, lines = (
        ("dvc", "exp", "show", "--only-changed", "--csv"),
        experimented.run("dvc", "metrics", "diff").stdout,
    )
    columns = experimented.run(*words).stdout.splitlines()[0].split(",")
    assert [name for name in columns if name.startswith(("net.", "optimizer.", "schedule."))] == [
        "net.dropout"
    ]
    assert "test.log_loss" in columns and "test.log_loss" in lines
    assert max(map(len, lines.splitlines())) <= 100  # no sentence and no digest among the numbers
    experimented.run("dvc", "plots", "diff", "HEAD", "-o", str(tmp_path))
    assert "ann: loss on val by epoch" in (tmp_path / "index.html").read_text()
    drawn = {
        path.name.partition("_reports_")[0]
        for path in (tmp_path / "static").glob("*_figures_ann_00-curve.svg")
    }
    assert drawn == {"HEAD", "workspace"}


def test_what_is_kept_of_an_experiment_is_judged_once(
    chain: Clone, experimented: Clone, twice: Clone, tmp_path: Path
) -> None:
    assert twice.versions() == [*chain.versions(), ("sextant-ann-twin", "2", True)]
    decision = twice.read_json("reports/decisions/ann.json")
    assert (decision["version"], decision["against"]) == ("2", "1")
    assert decision["digest"] == folder_digest(twice.path / "models/ann")
    assert decision["champion"] is (decision["decision"] == "promoted")
    assert twice.champions()["sextant-ann-twin"] == ("2" if decision["champion"] else "1")
    # The run of the experiment is the run of the version, and nothing ran again.
    assert len(twice.runs("sextant-ann-twin")) == len(experimented.runs("sextant-ann-twin"))
    own = copied(twice, tmp_path / "clone")
    assert own.repro() == []
    assert dropout(shown(own)["wet"]) == 0.4


# --- in copies: --temp and --queue ------------------------------------------------------------------------------------


@pytest.fixture
def mirror(road: Clone, tmp_path: Path) -> Path:
    """A mirror of a copy of the twin, pinned and committed."""
    folder = tmp_path / "mirror/churn"
    folder.mkdir(parents=True)
    shutil.copy(road.path / "data/raw/churn/Churn_Modelling.csv", folder)
    road.stage("pin", "dataset=churn", "source=mirror", SEXTANT_MIRROR=str(folder.parent))
    road.commit("a mirror")
    return folder.parent


@pytest.mark.slow(minutes=2)
def test_experiments_in_copies_have_their_own_values_and_move_no_champion(
    road: Clone, mirror: Path
) -> None:
    before, lock = (road.versions(), road.champions()), (road.path / "dvc.lock").read_bytes()
    earlier = len(road.runs("sextant-ann-twin"))
    for name, value in (("dry", 0.1), ("damp", 0.3)):
        words = [
            "--queue",
            "--name",
            name,
            "-S",
            f"conf/model/ann.yaml:net.dropout={value}",
            "train@ann",
        ]
        road.run("dvc", "exp", "run", *words)
    words = ["-S", "source=mirror", "-S", "conf/model/ann.yaml:net.dropout=0.25", "register@ann"]
    road.run(
        "dvc", "exp", "run", "--temp", "--name", "elsewhere", *words, SEXTANT_MIRROR=str(mirror)
    )
    road.run("dvc", "exp", "run", "--run-all")

    # What was asked for reached DVC's table and the runs, each its own.
    table = shown(road)
    values = {"dry": 0.1, "damp": 0.3, "elsewhere": 0.25}
    assert {name: dropout(found) for name, found in table.items()} == values
    (real,) = road.runs("sextant-ann")
    twins = road.runs("sextant-ann-twin")[earlier:]
    assert {run["experiment"]: float(run["net.dropout"]) for run in [real, *twins]} == values
    assert all(run["status"] == "FINISHED" for run in [real, *twins])
    assert len({run["digest"] for run in [real, *twins]}) == 3

    # The other source was trained and scored on, under its own name.
    scored = table["elsewhere"]["metrics"]["reports/metrics/ann.json"]["data"]
    assert scored["source"] == real["source"] == "mirror"
    logged = road.ask(
        "SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = 'test/accuracy'", real["id"]
    )
    assert logged == [(scored["test"]["accuracy"],)]

    # Nothing that lasts has moved.
    assert (road.versions(), road.champions()) == before
    assert road.changed() == [] and (road.path / "dvc.lock").read_bytes() == lock
    assert road.repro() == []
