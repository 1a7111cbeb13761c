"""Decisions as files: for the report's page and for the next call of register."""

import json
from pathlib import Path
from typing import Any

import pytest

from sextant import decisions, files

RECORD: dict[str, Any] = {
    "model": "ann",
    "registered_model": "sextant-ann-twin",
    "version": "3",
    "decision": "promoted",
    "reason": "accuracy 0.8000 beats the trivial baseline's 0.5000",
    "champion": True,
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def script() -> dict[str, Any]:
    """The decisions in the script that the page includes."""
    text = Path("reports/decisions.js").read_text()
    assert text.startswith("window.decisions = ") and text.endswith(";\n")
    content: dict[str, Any] = json.loads(text.removeprefix("window.decisions = ")[:-2])
    return content


def test_the_script_holds_the_decisions_of_all_models() -> None:
    decisions.write_decision(RECORD)
    decisions.write_decision(RECORD | {"model": "rnn"})
    assert files.read_json(Path("reports/decisions/ann.json")) == RECORD
    assert script() == {"ann": RECORD, "rnn": RECORD | {"model": "rnn"}}


def test_a_reason_cannot_end_the_script() -> None:
    decisions.write_decision(RECORD | {"reason": "</script><script>alert(1)</script>"})
    assert "</" not in Path("reports/decisions.js").read_text()
    assert script()["ann"]["reason"] == "</script><script>alert(1)</script>"


@pytest.mark.parametrize(("version", "champion"), [("3", True), ("2", False)])
def test_a_champion_set_by_hand_is_recorded(version: str, champion: bool) -> None:
    decisions.write_decision(RECORD)
    decisions.record_champion("ann", "sextant-ann-twin", version)
    assert files.read_json(Path("reports/decisions/ann.json"))["champion"] is champion
    assert script()["ann"]["champion"] is champion


def test_a_champion_on_other_data_is_not_recorded() -> None:
    decisions.record_champion("ann", "sextant-ann", "1")
    assert not Path("reports").exists()
    decisions.write_decision(RECORD)
    decisions.record_champion("ann", "sextant-ann", "1")
    assert files.read_json(Path("reports/decisions/ann.json")) == RECORD


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "ann: promoted (sextant-ann-twin version 3, champion): "),
        ({"champion": False}, "ann: promoted (sextant-ann-twin version 3): "),
        ({"decision": "not promoted", "champion": False}, "ann: not promoted (sextant-ann-twin"),
    ],
)
def test_a_decision_is_printed_in_one_line(
    changes: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions.print_decision(RECORD | changes)
    printed = capsys.readouterr().out
    assert printed.startswith(line) and printed.endswith(f"{RECORD['reason']}\n")
