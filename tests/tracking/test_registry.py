"""The registry: names of registered models, and their versions."""

from typing import TYPE_CHECKING, NoReturn

import pytest

from sextant.tracking import packing, registry, store

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
    assert registry.champion_history(client, "sextant-nobody") == []


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
def test_a_failing_server_is_not_taken_for_an_empty_one(
    client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    def fail(*_: object, **__: object) -> NoReturn:
        raise MlflowException("503: try again")

    monkeypatch.setattr(client, "get_registered_model", fail)
    for call in (registry.versions, registry.champion, registry.champion_history):
        with pytest.raises(MlflowException, match="503"):
            call(client, NAME)


@pytest.mark.slow
def test_the_champion_history_is_kept_in_the_tag_of_older_versions(client: "MlflowClient") -> None:
    """Stores in use have the tag `reigns`; another name would lose their history."""
    assert client.get_registered_model(NAME).tags["reigns"] == '["1"]'
    assert registry.champion_history(client, NAME) == ["1"]
    client.set_registered_model_tag(NAME, "reigns", '["7", "1"]')
    assert registry.champion_history(client, NAME) == ["7", "1"]
    client.set_registered_model_tag(NAME, "reigns", '["1"]')
