"""promises/: rows refuse what they do not understand; docs/promises.md names what is there."""

import importlib
import json
import re
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from sextant.errors import UsageError

ROWS = sorted(path.stem for path in (ROOT / "promises").glob("[a-z]*.py"))
PAGE = (ROOT / "docs/promises.md").read_text()


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for folder in ("bench", "promises"):
        monkeypatch.syspath_prepend(ROOT / folder)
    return importlib.import_module("_trials")


def test_the_page_names_every_row_and_only_tests_that_exist() -> None:
    table = PAGE.partition("|---|---|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.split("|")[3].strip() for line in table.splitlines()]
    assert sorted(cell.strip("`") for cell in cells if cell) == ROWS
    for line in table.splitlines():
        paths = re.findall(r"`(tests/[^`]+)`", line)
        assert paths, line
        for path in paths:
            assert (ROOT / path).is_file()


@pytest.mark.parametrize("argument", ["n=many", "seed=-1", "model=nobody", "rows=3", "som"])
def test_a_wrong_argument_is_refused(trials: ModuleType, argument: str) -> None:
    with pytest.raises(UsageError):
        trials.options([argument], trials=1)


def test_a_changed_or_surplus_file_is_a_fault(
    trials: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "registry_faults", lambda folder, runs: [])
    for name in ("models/som/model.json", "reports/metrics/som.json", "reports/index.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    expected = trials.digests(tmp_path)
    assert trials.differences(tmp_path, expected) == []
    (tmp_path / "reports/index.html").write_text("another time")  # a run describes itself there
    (tmp_path / "models/som/model.json").write_text("{ }")
    (tmp_path / "models/som/extra").touch()
    (tmp_path / "reports/.metrics.1.part").touch()
    assert trials.differences(tmp_path, expected) == [
        "models/som/extra differs",
        "models/som/model.json differs",
        "reports/.metrics.1.part differs",
        "reports/.metrics.1.part was left behind",
    ]


def test_trials_are_counted_by_commit_and_a_failure_is_the_exit_code(
    trials: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(trials, "TOTALS", tmp_path / "promises.json")
    monkeypatch.setattr(trials, "imported_once", nullcontext)
    chosen = trials.options(["n=3", "seed=5"], trials=1)
    draws = []

    def trial(model: str, random: object, number: int) -> list[str]:
        draws.append(random.random())  # type: ignore[attr-defined]
        return ["it broke"] if number == 1 else []

    assert trials.trials("kill", chosen, trial) == 1
    assert trials.trials("kill", chosen, lambda *_: []) == 0
    (totals,) = json.loads((tmp_path / "promises.json").read_text())["kill"].values()
    assert totals["cnn"] == {"passed": 1, "tried": 2} and totals["ann"]["passed"] == 2
    assert len(set(draws)) == 3
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert "kill 2 of 3, seed 5, cnn: it broke (0 s)" in lines and len(lines) == 6
    assert printed.err.endswith("kill: 3 of 3 passed; 5 of 6 since the totals began\n")
