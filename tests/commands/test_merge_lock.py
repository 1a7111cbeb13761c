"""dvc.lock of two branches: merged stage by stage, in a real merge of git."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import Clone

from sextant.commands import merge_lock
from sextant.commands.merge_lock import merge, side_of_report
from sextant.errors import UsageError


def test_the_side_that_changed_a_stage_counts() -> None:
    base = {"a": "1", "b": "1", "c": "1", "d": "1", "gone": "1"}
    ours = {"a": "2", "b": "1", "c": "2", "d": "1", "new": "1"}
    theirs = {"a": "1", "b": "2", "c": "3", "d": "1", "gone": "1", "other": "1"}
    sides = merge(base, ours, theirs, "ours")
    assert sides == {
        "a": "ours",
        "b": "theirs",
        "c": "ours",
        "d": "ours",
        "new": "ours",
        "other": "theirs",
    }
    assert merge(base, ours, theirs, "theirs") == sides | {"c": "theirs"}


def test_a_report_comes_from_the_side_of_its_stage() -> None:
    sides: dict[str, merge_lock.Side] = {"evaluate@a": "theirs", "validate@d": "ours"}
    assert side_of_report("reports/metrics/a.json", sides, "ours") == "theirs"
    assert side_of_report("reports/validation/d.json", sides, "theirs") == "ours"
    assert side_of_report("reports/metrics/b.json", sides, "theirs") == "theirs"
    assert side_of_report("reports/index.html", sides, "ours") == "ours"


def git(*arguments: str, code: int = 0) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *identity, *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout.strip()


def write(stages: dict[str, str], metrics: str, message: str) -> None:
    entries = [f"  {stage}:\n    cmd: '{command}'\n" for stage, command in stages.items()]
    Path("dvc.lock").write_text(merge_lock.HEAD + "".join(entries))
    Path("reports/metrics").mkdir(parents=True, exist_ok=True)
    Path("reports/metrics/b.json").write_text(json.dumps({"score": metrics}))
    git("add", ".")
    git("commit", "-q", "-m", message)


@pytest.fixture
def conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A merge that stopped: one branch changed train@a, the other one b, and both the report."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    write({"train@a": "1", "train@b": "1", "evaluate@b": "1", "report": "1"}, "base", "base")
    git("switch", "-q", "-c", "other")
    write({"train@a": "1", "train@b": "2", "evaluate@b": "2", "report": "3"}, "other", "other")
    git("switch", "-q", "main")
    write({"train@a": "2", "train@b": "1", "evaluate@b": "1", "report": "2"}, "main", "main")
    git("merge", "-q", "other", code=1)
    return tmp_path


def test_a_conflict_is_resolved_stage_by_stage(conflict: Path) -> None:
    assert "<<<<<<<" in Path("dvc.lock").read_text()
    sides = merge_lock.merge_lock("ours")
    assert sides == {
        "train@a": "ours",
        "train@b": "theirs",
        "evaluate@b": "theirs",
        "report": "ours",
    }
    stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    commands = {stage: entry["cmd"] for stage, entry in stages.items()}
    assert commands == {"train@a": "2", "train@b": "2", "evaluate@b": "2", "report": "2"}
    assert json.loads(Path("reports/metrics/b.json").read_text()) == {"score": "other"}
    assert git("diff", "--name-only", "--diff-filter=U") == ""
    with pytest.raises(UsageError, match="have no conflicts"):
        merge_lock.merge_lock("ours")


def test_a_conflict_in_a_conf_comes_first(conflict: Path) -> None:
    git("merge", "--abort")
    for branch in ("other", "main"):
        git("switch", "-q", branch)
        Path("params.yaml").write_text(f"seed: {branch}\n")
        git("add", ".")
        git("commit", "-q", "-m", "seed")
    git("merge", "-q", "other", code=1)
    with pytest.raises(UsageError, match=r"^params.yaml: conflicts; resolve"):
        merge_lock.merge_lock("ours")


@pytest.mark.slow
def test_two_branches_that_trained_are_merged(clone: Clone) -> None:
    """Both trained the model with another setting; after the merge all stages are up to date."""
    conf = clone.path / "conf/model/ann.yaml"
    text = conf.read_text()

    def train(branch: str, before: str, after: str) -> None:
        clone.run("git", "switch", "-q", "-c", branch, "main")
        assert before in text
        conf.write_text(text.replace(before, after))
        clone.run("dvc", "repro")
        clone.commit(branch)

    clone.run("git", "branch", "-q", "-M", "main")
    train("calm", "dropout: 0.2", "dropout: 0.3")
    train("long", "max_epochs: ", "max_epochs: 1")
    clone.run("git", "merge", "-q", "calm", code=1)
    done = clone.stage("merge-lock")
    assert "merged; `git commit` ends the merge" in done.stdout
    assert clone.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    assert clone.run("git", "diff", "--name-only", "--diff-filter=U").stdout == ""
