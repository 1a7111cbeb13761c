"""How a run was made: the settings in its name, and the command that repeats it."""

import subprocess
import sys
from pathlib import Path

import pytest

from sextant.tracking import provenance

FRESH = "make setup && . .venv/bin/activate"  # in a fresh clone
UNCOMMITTED = "  # and changes that were not committed"


@pytest.fixture
def commit(workspace: Path) -> str:
    """The commit of a workspace in which nothing is changed."""
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "-A"], check=True)
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *author, "commit", "-qm", "as it is"], check=True)
    return provenance.git("rev-parse", "HEAD").strip()


def edit(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert text.count(old) == 1
    Path(file).write_text(text.replace(old, new))


def test_without_changes_make_train_repeats_a_run(commit: str) -> None:
    settings, command = provenance.made_by("som", "credit", commit, by_hand=False)
    assert settings == []
    assert command == f"git checkout {commit[:12]} && make train MODEL=som"


def test_settings_that_differ_from_the_commit_are_in_the_command(commit: str) -> None:
    edit("params.yaml", "source: embedded", "source: mirror")
    edit("conf/model/som.yaml", "sigma: 5.0 ", "sigma: 3.0 ")
    settings, command = provenance.made_by("som", "credit", commit, by_hand=False)
    assert settings == ["source=mirror", "net.sigma=3.0"]
    options = "-S source=mirror -S conf/model/som.yaml:net.sigma=3.0"
    assert command == f"git checkout {commit[:12]} && {FRESH} && dvc exp run {options} train@som"


def test_changes_in_other_files_are_mentioned(commit: str) -> None:
    edit("conf/model/ann.yaml", "hidden_sizes: [128, 128]", "hidden_sizes: [64]")
    settings, command = provenance.made_by("som", "credit", commit, by_hand=False)
    assert settings == []
    assert command == f"git checkout {commit[:12]} && make train MODEL=som{UNCOMMITTED}"


def test_the_processor_and_its_setting_are_mentioned(commit: str) -> None:
    edit("conf/trainer.yaml", "exact: false", "exact: true")
    settings, command = provenance.made_by("som", "credit", commit, False, "Intel, AVX2 (exact)")
    assert settings == ["exact=true"]
    options = "-S conf/trainer.yaml:exact=true train@som  # on Intel, AVX2 (exact)"
    assert command.endswith(f" && dvc exp run {options}")


def test_what_dvc_and_the_stages_write_is_no_change(commit: str) -> None:
    Path("dvc.lock").write_text("schema: '2.0'\n")
    Path("reports").mkdir()
    Path("reports/index.html").write_text("<!doctype html>\n")
    assert provenance.changes() == ""
    Path("notes.txt").write_text("a change\n")
    assert provenance.changes() == "?? notes.txt"


def test_an_added_or_removed_setting_is_a_change_that_was_not_committed(commit: str) -> None:
    edit("conf/model/som.yaml", "  rows: 10\n", "  rows: 11\n  depth: 2\n")
    settings, command = provenance.made_by("som", "credit", commit, by_hand=False)
    assert settings == ["net.rows=11"]
    assert command.endswith(f" train@som{UNCOMMITTED}")


def test_a_conf_that_was_never_committed_is_a_change(commit: str) -> None:
    Path("conf/model/map.yaml").write_text("net: {rows: 10}\n")
    settings, command = provenance.made_by("map", "credit", commit, by_hand=False)
    assert settings == []
    assert command.endswith(f"&& make train MODEL=map{UNCOMMITTED}")


def test_a_training_by_hand_is_repeated_by_its_command_line(
    commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["budget=smoke", "model=ann", "model.net.hidden_sizes=[8, 8]"]
    monkeypatch.setattr(sys, "argv", ["__main__.py", "train", *arguments])
    settings, command = provenance.made_by("ann", "churn", commit, by_hand=True)
    assert settings == ["budget=smoke", "net.hidden_sizes=[8, 8]"]
    repeat = "python -m sextant train model=ann budget=smoke 'model.net.hidden_sizes=[8, 8]'"
    prepare = "make prepare DATASET=churn && . .venv/bin/activate"
    assert command == f"git checkout {commit[:12]} && {prepare} && {repeat}"


def test_runs_of_one_execution_share_a_tag(commit: str) -> None:
    tag = provenance.pipeline(commit)
    assert len(tag) == 12 and tag == provenance.pipeline(commit)
    edit("params.yaml", "seed: 42", "seed: 43")
    assert provenance.pipeline(commit) != tag
