"""The branch of a retraining, in real repositories with a bare remote."""

import subprocess
from pathlib import Path

import pytest

from sextant.commands import night, retrain
from sextant.errors import UsageError

CONF = Path("conf/dataset/orders.yaml")
LOCK = Path("dvc.lock")
BRANCH = "retrain/2026-11-29"


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a bare repository with a conf and a lock, without an identity for commits."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    git("init", "-q", "--bare", "-b", "main", str(tmp_path / "origin"))
    git("clone", "-q", str(tmp_path / "origin"), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    git("switch", "-q", "-c", "main")
    CONF.parent.mkdir(parents=True)
    CONF.write_text("bytes: 1\n")
    LOCK.write_text("stages: {}\n")
    git("add", ".")
    night.commit("first", "")
    git("push", "-q", "origin", "main")
    return tmp_path


def test_pins_are_committed_before_the_outputs(repository: Path) -> None:
    branch = night.begin(BRANCH)
    CONF.write_text("bytes: 2\n")
    branch.commit_pins(["orders: 1 -> 2 bytes"])
    assert git("status", "--porcelain") == ""  # a training that starts now is of a clean commit
    LOCK.write_text("stages: {a: 1}\n")
    branch.commit_outputs("Retrain: promoted", "| orders | promoted |")
    subjects = git("log", "--format=%s", "main..").splitlines()
    assert subjects == ["Retrain: promoted", "Pin new data"]
    assert "| orders | promoted |" in git("log", "-1", "--format=%b")
    assert (git("branch", "--show-current"), branch.start) == (BRANCH, "main")


def test_no_branch_of_an_earlier_night_is_overwritten(repository: Path) -> None:
    night.begin(BRANCH)
    git("push", "-q", "origin", BRANCH)
    git("switch", "-q", "main")
    assert night.begin(BRANCH).branch == f"{BRANCH}-2"
    git("switch", "-q", "main")
    git("branch", "-q", "-D", BRANCH, f"{BRANCH}-2")  # as in a clone that fetched main alone
    assert night.begin(BRANCH).branch == f"{BRANCH}-2"


@pytest.mark.parametrize("detached", [False, True])
def test_a_night_without_result_leaves_no_branch(repository: Path, detached: bool) -> None:
    if detached:
        git("switch", "-q", "--detach", "main")  # as a CI checks out
    commit = git("rev-parse", "HEAD")
    branch = night.begin(BRANCH)
    CONF.write_text("bytes: 2\n")
    branch.commit_pins([])
    LOCK.write_text("stages: {a: 1}\n")
    branch.leave()
    assert git("rev-parse", "HEAD") == commit
    assert git("branch", "--format=%(refname:short)", "--list", "retrain/*") == ""
    assert git("branch", "--show-current") == ("" if detached else "main")
    assert git("status", "--porcelain") == "" and CONF.read_text() == "bytes: 1\n"


@pytest.mark.parametrize(("code", "stays"), [(0, True), (13, True), (1, True), (11, False)])
def test_the_commit_of_a_champion_stays_also_where_the_push_failed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, code: int, stays: bool
) -> None:
    def retrained(branch: night.Night) -> tuple[int, str]:
        CONF.write_text("bytes: 2\n")
        branch.commit_pins([])
        return code, "summary"

    monkeypatch.setattr(retrain, "_retrain", retrained)
    monkeypatch.setattr(retrain, "_run", lambda command, must_succeed: None)
    assert retrain.retrain(BRANCH) == (code, "summary", BRANCH if stays else "")
    branches = git("branch", "--format=%(refname:short)").splitlines()
    assert branches == (["main", BRANCH] if stays else ["main"])
    if stays:
        assert "Pin new data" in git("log", "--format=%s", "main..")


def test_what_prevents_a_branch_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="BRANCH=a..b is no name of a branch"):
        night.begin("a..b")
    CONF.write_text("bytes: 3\n")
    with pytest.raises(UsageError, match=r"uncommitted changes \(conf/dataset/orders.yaml\)"):
        night.begin(BRANCH)
    monkeypatch.chdir(repository)
    with pytest.raises(UsageError, match="no git repository with a commit"):
        night.begin(BRANCH)
