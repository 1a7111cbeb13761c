"""bench/loop.py: it measures two commits in turn, and refuses what it does not understand."""

import importlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from sextant.errors import UsageError


@pytest.mark.slow
def test_a_figure_is_measured_for_both_commits_in_turn() -> None:
    command = [sys.executable, "bench/loop.py", "only=help", "pairs=2", "against=HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *_, head, rule, row = done.stdout.splitlines()
    assert len(head.split("|")) == len(rule.split("|")) == len(row.split("|"))
    title, ours, theirs, ratio, cpu_ratio, others = row.strip("| ").split(" | ")
    assert title == "make help"
    assert float(ratio) > 0
    assert float(cpu_ratio) > 0
    runs = [line.split()[2] for line in done.stderr.splitlines() if line.startswith("help, ")]
    assert runs == ["1:", "1:", "2:", "2:"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("ony=help", "`ony=help` is not understood; expected against=, only=, pairs=, budget="),
        ("only=hlp", "there is no figure `hlp`; expected help, "),
        ("pairs=0", "pairs=0: expected a number from 1 to 9"),
        ("against=nothing", "against=nothing: no such commit in this repository"),
        ("only=mirror", "`mirror` needs SEXTANT_MIRROR="),
    ],
)
def test_a_wrong_argument_is_refused(
    argument: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    loop = importlib.import_module("loop")
    with pytest.raises(UsageError, match=re.escape(message)):
        loop.main([argument])


def test_a_clone_has_none_of_the_variables_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make bench OPTIONS=pairs=1` exports OPTIONS, which the make of a clone would take."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    loop = importlib.import_module("loop")
    for name in ("OPTIONS", "MAKEFLAGS", "SEXTANT_MIRROR", "DVC_ROOT", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    variables = loop.variables(ROOT)
    foreign = {"OPTIONS", "MAKEFLAGS", "SEXTANT_MIRROR", "DVC_ROOT"}
    assert not foreign & set(variables)
    assert variables["PIP_INDEX_URL"] == "x"
