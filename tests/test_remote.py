"""A team: one pushes, another one clones and pulls; and one registry that both ask."""

from pathlib import Path

import pytest
from conftest import Clone, cloned, copied

NAME = "sextant-ann-twin"


def move(clone: Clone, to: str, **env: str) -> None:
    """Make another version of two champion by hand: the first by a rollback, the second by its number."""
    words = ["rollback", "model=ann"] if to == "1" else ["promote", "model=ann", f"version={to}"]
    clone.stage("register", *words, **env)


@pytest.mark.slow
def test_a_fresh_clone_pulls_and_registers_and_moves_no_champion_of_the_team(
    twice: Clone, tmp_path: Path
) -> None:
    here = copied(twice, tmp_path / "here/clone")
    here.run("make", "remote", f"URL={tmp_path / 'storage'}")
    here.commit("an experiment that is kept, and a remote")
    here.run("dvc", "push")
    there = cloned(here, tmp_path / "there/clone")
    there.run("dvc", "pull")
    assert not (there.path / "mlflow.db").exists()

    # What was moved by hand in the registry of the team stays so when a fresh clone registers the same model.
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{here.path / 'mlflow.db'}"}
    versions, first = here.versions(), here.read_json("reports/decisions/ann.json")
    before = here.champions()[NAME]
    after = {"1": "2", "2": "1"}[before]
    move(here, to=after)
    assert there.repro(**shared) == ["register@ann"]
    assert (here.champions()[NAME], here.versions()) == (after, versions)
    record = there.read_json("reports/decisions/ann.json")
    assert record["champion"] is (after == record["version"])
    assert {**record, "champion": first["champion"]} == first

    # And moved back by the other one, when the first one asks again.
    move(there, to=before, **shared)
    here.stage("register", "--write")
    assert (here.champions()[NAME], here.versions()) == (before, versions)
    assert here.read_json("reports/decisions/ann.json") == first
    assert not (there.path / "mlflow.db").exists()

    # A registry of the clone's own begins anew: the model is judged there, and there is nothing to beat.
    there.run("make", "register")
    assert there.versions() == [(NAME, "1", True)] and there.champions() == {NAME: "1"}
    own = there.read_json("reports/decisions/ann.json")
    assert (own["decision"], own["champion"], own["against"]) == ("promoted", True, None)
    assert there.repro() == [] and there.changed() == []
