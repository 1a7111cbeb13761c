"""The registry: names of registered models, and their versions."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from sextant.errors import SextantError
from sextant.tracking import packing, promotions, registry, runs, store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

NAME = registry.registered_name("ann", "embedded")


def test_real_data_and_the_twin_have_a_name_each() -> None:
    assert registry.registered_name("ann", "embedded") == "sextant-ann-twin"
    assert registry.registered_name("ann", "mirror") == "sextant-ann"
    assert registry.registered_name("ann", "canonical") == "sextant-ann"
    assert registry.registered_names("ann") == ("sextant-ann", "sextant-ann-twin")


@pytest.fixture
def client(in_pipeline: None) -> "MlflowClient":
    return store.client()


@pytest.mark.slow
def test_a_model_that_is_not_registered_has_no_versions(client: "MlflowClient") -> None:
    assert registry.versions(client, "sextant-nobody") == []
    assert registry.champion(client, "sextant-nobody") is None
    assert promotions.champion_history(client, "sextant-nobody") == []


@pytest.mark.slow
def test_the_champion_of_a_local_store_is_found_without_mlflow(
    client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = registry.champion_of(client, "ann")
    assert registry.champion_here("ann") == (expected, packing.folder_of(expected.model_uri))
    assert registry.champion_here("nobody") is None
    monkeypatch.setattr(store, "uri", lambda: "http://localhost:1")
    assert registry.champion_here("ann") is None


@pytest.mark.slow
def test_what_another_process_creates_at_the_same_time_is_taken_over(
    client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question whether it exists was answered before the other process created it."""
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    answers = [None, experiment]
    monkeypatch.setattr(client, "get_experiment_by_name", lambda name: answers.pop(0))
    assert runs.experiment_of(client, NAME, "") == experiment.experiment_id
    registry._create_registered(client, NAME, "churn", "")
    with pytest.raises(SextantError, match="is registered for data set `churn`"):
        registry._create_registered(client, NAME, "other", "")


def store_of(folder: Path, place: Path) -> None:
    """A database in `folder` with one champion, whose files it says are in the folder `place`."""
    location = f"{place.as_uri()}/mlruns/{NAME}/1"
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.executescript(
            "CREATE TABLE experiments (name, artifact_location);"
            "CREATE TABLE model_versions (name, version, storage_location);"
            "CREATE TABLE registered_model_aliases (name, version, alias);"
            "CREATE TABLE model_version_tags (name, version, key, value);"
            f"INSERT INTO experiments VALUES ('{NAME}', '{place.as_uri()}/mlruns/{NAME}');"
            f"INSERT INTO model_versions VALUES ('{NAME}', 1, '{location}');"
            f"INSERT INTO registered_model_aliases VALUES ('{NAME}', 1, 'champion');"
        )


@pytest.mark.parametrize("original", ["there", "gone"])
def test_in_a_copied_checkout_the_files_of_the_copy_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original: str
) -> None:
    """Its database may be read-only, as that of another user."""
    folders = [tmp_path / "copy", tmp_path / "original"]
    for folder in folders:
        packed = folder / "mlruns" / NAME / "1"
        packed.mkdir(parents=True)
        (packed / "MLmodel").touch()
    copy, place = folders
    store_of(copy, place)
    (copy / "mlflow.db").chmod(0o444)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}/mlflow.db")
    if original == "gone":
        shutil.rmtree(place)
    found = registry.champion_here(NAME.split("-")[1])
    assert found is not None and found[1] == copy / "mlruns" / NAME / "1"
    if original == "there":  # of a copy of the database alone, the files of the original answer
        shutil.rmtree(copy / "mlruns")
        found = registry.champion_here(NAME.split("-")[1])
        assert found is not None and found[1] == place / "mlruns" / NAME / "1"


@pytest.mark.slow
def test_a_failing_server_is_not_taken_for_an_empty_one(
    client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*_: object, **__: object) -> NoReturn:
        raise MlflowException("503: try again")

    monkeypatch.setattr(client, "get_registered_model", fail)
    for call in (registry.versions, registry.champion, promotions.champion_history):
        with pytest.raises(MlflowException, match="503"):
            call(client, NAME)


@pytest.mark.slow
def test_the_champion_history_is_kept_in_the_tag_of_older_versions(client: "MlflowClient") -> None:
    """Stores in use have the tag `reigns`; another name would lose their history."""
    assert client.get_registered_model(NAME).tags["reigns"] == '["1"]'
    assert promotions.champion_history(client, NAME) == ["1"]
    client.set_registered_model_tag(NAME, "reigns", '["7", "1"]')
    assert promotions.champion_history(client, NAME) == ["7", "1"]
    client.set_registered_model_tag(NAME, "reigns", '["1"]')


# --- no champion --------------------------------------------------------------------------------


def version(decision: dict[str, str] | None) -> registry.Version:
    """A version of `ann` that is not champion."""
    tags = {"decision": json.dumps(decision)} if decision else {}
    return registry.Version(NAME, "2", tags, False, "models:/x/2")


REFUSED = {"decision": "not promoted", "reason": "breaks the guard skill >= 0.1: skill is 0.02"}
PROMOTED = {"decision": "promoted", "reason": "it is better"}
BY_HAND = "`make promote MODEL=ann VERSION=2` makes it champion by hand"


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (
            REFUSED,
            "was not promoted: breaks the guard skill >= 0.1: skill is 0.02; the guard is set in"
            f" `gate` of conf/model/ann.yaml; {BY_HAND}",
        ),
        (PROMOTED, f"was champion and is not any more; {BY_HAND}"),
        (None, "is not judged yet; `make register` judges it"),
    ],
)
def test_a_model_with_versions_and_no_champion_says_why(
    decision: dict[str, str] | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "versions", versions_of({NAME: [version(decision)]}))
    line = str(registry.no_champion(client_with("sextant-cnn-twin"), "ann"))
    address = store.address()
    assert line == (
        f"`ann` has no champion in {address}: version 2 of {NAME} {why};"
        " models with a champion: cnn"
    )


def test_a_model_without_versions_is_to_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "versions", versions_of({}))
    line = str(registry.no_champion(client_with(), "ann"))
    assert line.endswith(
        "models with a champion: none; `make repro` trains and judges the models of params.yaml"
    )


def versions_of(
    by_name: dict[str, list[registry.Version]],
) -> Callable[["MlflowClient", str], list[registry.Version]]:
    def versions(mlflow: "MlflowClient", name: str) -> list[registry.Version]:
        return by_name.get(name, [])

    return versions


def client_with(*champions: str) -> "MlflowClient":
    """A client of a registry with these champions."""
    models = [SimpleNamespace(name=name, aliases={"champion": "1"}) for name in champions]
    client: Any = SimpleNamespace(search_registered_models=lambda condition: models)
    return client
