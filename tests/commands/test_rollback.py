"""Back to the previous champion."""

import pytest
from versions import MODEL, NAME, Versions, champion, state

from sextant.commands import promote, rollback
from sextant.errors import SextantError, UsageError
from sextant.tracking import registry

ARGUMENTS = [f"model={MODEL}"]


@pytest.mark.slow
def test_each_call_goes_back_by_one_champion(
    versions: Versions, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.set_back("3")
    rollback.main(ARGUMENTS)
    assert "version 2 is champion now, version 3 is not" in capsys.readouterr().out
    rollback.main(ARGUMENTS)
    assert champion() == "1"
    with pytest.raises(SextantError, match="no champion before version 1; `make promote`"):
        rollback.main(ARGUMENTS)


@pytest.mark.slow
def test_after_a_promotion_by_hand_it_goes_back_to_the_champion_before(versions: Versions) -> None:
    """And not to one that was rolled back earlier."""
    versions.set_back("3")
    rollback.main(ARGUMENTS)
    rollback.main(ARGUMENTS)
    promote.main([*ARGUMENTS, "version=3"])
    rollback.main(ARGUMENTS)
    assert champion() == "1"
    tags = state().tags
    assert "champion_until" not in tags["1"] and "champion_until" in tags["3"]


@pytest.mark.slow
def test_a_champion_set_in_mlflows_pages_counts(versions: Versions) -> None:
    client = versions.set_back("3")
    client.set_registered_model_alias(NAME, registry.CHAMPION, "1")
    rollback.main(ARGUMENTS)
    assert champion() == "3"


@pytest.mark.slow
def test_a_model_without_a_champion_is_refused(versions: Versions) -> None:
    versions.set_back("3")
    message = "`digits` has no champion in sqlite:///.*models with a champion: ann; `make repro`"
    with pytest.raises(SextantError, match=message):
        rollback.main(["model=digits"])


@pytest.mark.parametrize("arguments", [[], ["version=1"], ["model=ann", "lr=1"]])
def test_other_arguments_are_answered_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="expected: make rollback MODEL=<model>"):
        rollback.main(arguments)
