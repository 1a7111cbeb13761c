"""A team: one member pushes, another one clones and pulls, and both use one registry."""

from pathlib import Path

import pytest
from conftest import Clone, copy_clone, git_clone

NAME = "sextant-ann-twin"


def make_champion(clone: Clone, version: str, **env: str) -> None:
    """Change the champion of two versions: to version 1 by a rollback, to 2 by a promotion."""
    if version == "1":
        clone.stage("rollback", "model=ann", **env)
    else:
        clone.stage("promote", "model=ann", f"version={version}", **env)


@pytest.mark.slow(minutes=1)
def test_a_fresh_clone_pulls_and_registers_and_leaves_the_teams_champion(
    two_versions: Clone, tmp_path: Path
) -> None:
    first = copy_clone(two_versions, tmp_path / "first/clone")
    first.run("make", "remote", f"URL={tmp_path / 'storage'}")
    first.commit("an experiment that is kept, and a remote")
    first.run("dvc", "push")
    second = git_clone(first, tmp_path / "second/clone")
    second.run("dvc", "pull")
    assert not (second.path / "mlflow.db").exists()

    # The first member changes the champion by hand. It stays champion when the second one registers
    # the same model in the shared registry.
    shared = {"MLFLOW_TRACKING_URI": f"sqlite:///{first.path / 'mlflow.db'}"}
    versions = first.versions()
    decision = first.read_json("reports/decisions/ann.json")
    before = first.champions()[NAME]
    other = "1" if before == "2" else "2"
    make_champion(first, other)
    assert second.repro(**shared) == ["register@ann"]
    assert first.champions()[NAME] == other
    assert first.versions() == versions
    record = second.read_json("reports/decisions/ann.json")
    assert record["champion"] is (record["version"] == other)
    assert {**record, "champion": decision["champion"]} == decision

    # The second member changes it back, and the first one registers again.
    make_champion(second, before, **shared)
    first.stage("register", "--write")
    assert first.champions()[NAME] == before
    assert first.versions() == versions
    assert first.read_json("reports/decisions/ann.json") == decision
    assert not (second.path / "mlflow.db").exists()

    # Its local registry is new: the model is judged without a champion to compare it with.
    second.run("make", "register")
    assert second.versions() == [(NAME, "1", True)]
    assert second.champions() == {NAME: "1"}
    local = second.read_json("reports/decisions/ann.json")
    assert (local["decision"], local["champion"], local["against"]) == ("promoted", True, None)
    assert second.repro() == []
    assert second.changed() == []
