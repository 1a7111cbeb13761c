"""A champion set by hand."""

from pathlib import Path

import cases
import pytest
from versions import MODEL, Versions, champion, state

from sextant import files, register
from sextant.commands import promote
from sextant.errors import SextantError, UsageError


@pytest.mark.slow
def test_a_version_becomes_champion_and_the_files_say_so(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.set_back("3")
    versions.candidate("3")
    register.main(["--write"])
    promote.main([f"model={MODEL}", "version=1"])
    assert champion() == "1"
    assert "version 1 is champion now, version 3 is not" in capsys.readouterr().out
    record = files.read_json(Path(f"reports/decisions/{MODEL}.json"))
    assert record["version"] == "3" and record["champion"] is False
    assert '"champion": false' in Path("reports/decisions.js").read_text()


@pytest.mark.slow
def test_a_version_that_the_gate_has_not_judged_can_be_promoted(versions: Versions) -> None:
    versions.set_back("1 unjudged")
    promote.main([f"model={MODEL}", "version=1"])
    assert champion() == "1"


@pytest.mark.slow
def test_an_unknown_version_or_model_is_refused(versions: Versions) -> None:
    versions.set_back("3")
    before = state()
    with pytest.raises(UsageError, match="has no version 7; it has: 3, 2, 1"):
        promote.main([f"model={MODEL}", "version=7"])
    message = "`digits` has no champion in sqlite:///.*models with a champion: ann; `make repro`"
    with pytest.raises(SextantError, match=message):
        promote.main(["model=digits", "version=1"])
    assert state() == before


@cases.each("arguments", [[], ["version=1"], ["model=ann", "version=1", "lr=1"]])
def test_other_arguments_are_answered_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(
        UsageError, match=r"expected: make promote MODEL=<model> \[VERSION=<number>\]"
    ):
        promote.main(arguments)
