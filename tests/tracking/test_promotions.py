"""Changes of the champion: the history, a rollback that holds, and a review before a promotion."""

from typing import TYPE_CHECKING

import pytest
from versions import MODEL, NAME, Versions

from sextant import register
from sextant.commands import history, promote, rollback
from sextant.errors import UsageError
from sextant.tracking import promotions, registry, store
from sextant.tracking.promotions import Change, status_of, with_status

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

GATE = Change("2026-11-01T03:17:00.000000Z", "1", None, "gate", "job 1", "it is better", {})
SECOND = Change("2026-11-02T03:17:00.000000Z", "2", "1", "gate", "job 2", "it is better", {})
BACK = Change("2026-11-02T09:00:00.000000Z", "1", "2", "rollback", "ana@host", "it errs", {})


def test_the_status_of_a_version_follows_the_changes() -> None:
    assert status_of("1", []) == ""
    assert status_of("2", [GATE]) == ""
    assert status_of("1", [GATE]) == "champion since 2026-11-01 03:17 UTC by gate, job 1"
    assert status_of("1", [GATE, SECOND]) == (
        "champion until 2026-11-02 03:17 UTC by gate, job 2, which chose version 2"
    )
    assert status_of("2", [GATE, SECOND, BACK]) == (
        "champion until 2026-11-02 09:00 UTC by rollback, ana@host (it errs), which chose version 1"
    )
    assert status_of("1", [GATE, SECOND, BACK]).startswith("champion since 2026-11-02 09:00 UTC")


def test_a_page_has_one_status() -> None:
    page = with_status("Gate: promoted.\n\ncard", "champion since today")
    assert page == "Status: champion since today.\n\nGate: promoted.\n\ncard"
    assert with_status(page, "champion until now") == (
        "Status: champion until now.\n\nGate: promoted.\n\ncard"
    )
    assert with_status("card", "") == "card"


def waiting_version(mlflow: "MlflowClient") -> str | None:
    version = promotions.challenger(mlflow, NAME)
    return version.version if version else None


@pytest.mark.slow
def test_the_history_has_every_change_and_loses_none(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = versions.set_back("3")
    rollback.roll_back(MODEL, "it errs on Sundays")
    monkeypatch.setenv("CI_JOB_URL", "https://ci.example/jobs/7")
    promote.promote(MODEL, "3", "mended")
    changes = promotions.changes(mlflow, NAME)
    steps = [(change.kind, change.previous, change.version) for change in changes]
    assert steps == [
        ("gate", None, "1"),
        ("gate", "1", "2"),
        ("gate", "2", "3"),
        ("rollback", "3", "2"),
        ("promote", "2", "3"),
    ]
    assert changes[2].figures["metric"] == "accuracy"
    assert changes[2].figures["challenger"] > changes[2].figures["champion_score"]
    assert (changes[3].why, changes[4].why) == ("it errs on Sundays", "mended")
    assert "@" in changes[3].who and changes[4].who == "https://ci.example/jobs/7"
    table = history.history(MODEL).splitlines()
    assert table[0] == f"{NAME}: version 3 is champion" and len(table) == 2 + len(changes)
    assert "it errs on Sundays" in table[5] and "accuracy" in table[4]
    for number, status in (("2", "champion until"), ("3", "champion since")):
        page = mlflow.get_model_version(NAME, number).description
        assert page.startswith(f"Status: {status}") and "\n\nGate: promoted" in page


@pytest.mark.slow
def test_a_dry_run_changes_nothing(versions: Versions, capsys: pytest.CaptureFixture[str]) -> None:
    mlflow = versions.set_back("3")
    before = promotions.changes(mlflow, NAME)
    rollback.roll_back(MODEL, freeze=True, dry_run=True)
    promote.promote(MODEL, "1", dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{NAME}: version 2 would become champion, version 3 is it now",
        f"{NAME}: version 1 would become champion",
    ]
    assert promotions.changes(mlflow, NAME) == before
    assert promotions.frozen(mlflow, NAME) is None


@pytest.mark.slow
def test_a_frozen_rollback_holds_until_a_person_promotes(versions: Versions) -> None:
    mlflow = versions.set_back("2")
    rollback.roll_back(MODEL, "version 2 errs", freeze=True)
    record = register.register(versions.candidate("3"))
    assert record["decision"] == registry.WAITING and not record["champion"]
    assert "version 2 errs" in record["reason"]
    assert registry.promote_command(MODEL, record["version"]) in record["reason"]
    champion = registry.champion(mlflow, NAME)
    assert champion is not None and champion.version == "1"
    assert waiting_version(mlflow) == record["version"]
    promote.promote(MODEL)  # the version that waits
    champion = registry.champion(mlflow, NAME)
    assert champion is not None and champion.version == record["version"]
    assert promotions.frozen(mlflow, NAME) is None
    assert waiting_version(mlflow) is None
    with pytest.raises(UsageError, match=f"no version of {NAME} waits for a person"):
        promote.promote(MODEL)


@pytest.mark.slow
def test_under_review_the_winner_waits(versions: Versions) -> None:
    mlflow = versions.set_back("2")
    candidate = versions.candidate("3")
    candidate.gate = candidate.gate.model_copy(update={"promote": "review"})
    record = register.register(candidate)
    assert record["decision"] == registry.WAITING
    assert "`gate.promote: review`" in record["reason"]
    assert waiting_version(mlflow) == record["version"]
    champion = registry.champion(store.client(), NAME)
    assert champion is not None and champion.version == "2"
