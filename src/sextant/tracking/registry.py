"""The registry: registered models, their versions and the champion alias."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..errors import SextantError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking import MlflowClient
from .store import NOTE, address, files_exist, moved_from, query, raise_unless_absent

CHAMPION = "champion"
HISTORY = "champion_history"  # tag of a registered model: the versions that were champion, one after the other


# --- runs -------------------------------------------------------------------------------------------------------------


def registered_name(model: str, source: str) -> str:
    """`sextant-ann` on real data, `sextant-ann-twin` on the twin."""
    return f"sextant-{model}" + ("-twin" if source == "embedded" else "")


# --- the registry -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """One registered version, its tags and whether it is champion."""

    name: str
    version: str
    tags: Mapping[str, str]
    champion: bool
    model_uri: str

    @property
    def decision(self) -> dict[str, Any] | None:
        return json.loads(self.tags["decision"]) if "decision" in self.tags else None


def versions(mlflow: "MlflowClient", name: str) -> list[Version]:
    """All versions of a registered model, the newest first; none where it does not exist."""
    known = _registered(mlflow, name)
    if known is None:
        return []
    page = mlflow.search_model_versions(f"name = '{name}'", max_results=1000)
    found = list(page)
    while page.token:
        page = mlflow.search_model_versions(
            f"name = '{name}'", max_results=1000, page_token=page.token
        )
        found += page
    return sorted(
        (_version(one, known.aliases.get(CHAMPION)) for one in found),
        key=lambda one: -int(one.version),
    )


def _registered(mlflow: "MlflowClient", name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return mlflow.get_registered_model(name)
    except MlflowException as error:
        raise_unless_absent(error)
        return None


def _version(found: "ModelVersion", champion: str | None) -> Version:
    number = str(found.version)
    return Version(
        found.name,
        number,
        dict(found.tags),
        number == str(champion),
        f"models:/{found.name}/{number}",
    )


def champion(mlflow: "MlflowClient", name: str) -> Version | None:
    """The version with the alias, where there is one."""
    return next((version for version in versions(mlflow, name) if version.champion), None)


def champion_of(mlflow: "MlflowClient", model: str) -> Version:
    """The real champion of a model, or else its twin's; raises SextantError where there is neither."""
    found = next(filter(None, (champion(mlflow, name) for name in registered_names(model))), None)
    if found is None:
        raise no_champion(mlflow, model)
    return found


def registered_names(model: str) -> tuple[str, str]:
    """The names under which a model may be registered, the real one first."""
    return registered_name(model, "mirror"), registered_name(model, "embedded")


def say_twin(version: Version) -> None:
    """Say on stderr that who answers has never seen real data."""
    if version.tags["source"] == "embedded":
        print(
            f"sextant: {version.tags['model']} has no champion on real data; its twin's answers",
            file=sys.stderr,
        )


def no_champion(mlflow: "MlflowClient", model: str) -> SextantError:
    names = [
        one.name
        for one in mlflow.search_registered_models("name LIKE 'sextant-%'")
        if CHAMPION in one.aliases
    ]
    known = sorted({name.removeprefix("sextant-").removesuffix("-twin") for name in names})
    return SextantError(
        f"`{model}` has no champion in {address()}; champions there: {', '.join(known) or 'none'};"
        " `make repro` trains and judges what params.yaml lists"
    )


def holds(name: str, digest: str) -> bool:
    """Whether a local store has judged this digest and has its files; False also where it cannot be known so."""
    found = query(
        "SELECT version.storage_location FROM model_versions AS version"
        " JOIN model_version_tags AS digest USING (name, version)"
        " JOIN model_version_tags AS decision USING (name, version)"
        " WHERE name = ? AND digest.key = 'digest' AND digest.value = ? AND decision.key = 'decision'",
        name, digest,
    )  # fmt: skip
    return bool(found) and not moved_from() and all(files_exist(place) for (place,) in found)


def is_champion_here(name: str, version: str) -> bool:
    """Whether a version is champion in a local store."""
    question = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
    return [str(number) for (number,) in query(question, name, CHAMPION)] == [version]


def create_version(
    mlflow: "MlflowClient",
    name: str,
    model_uri: str,
    run_id: str,
    tags: Mapping[str, str],
    card: str,
    about: str,
) -> Version:
    """A new version of a registered model, made where it is not there; refuses another data set under its name."""
    check_data(mlflow, name, tags["dataset"])
    if _registered(mlflow, name) is None:
        mlflow.create_registered_model(name, tags={"dataset": tags["dataset"]}, description=about)
    logged = model_uri.removeprefix("models:/")  # a server wants it said twice
    made = mlflow.create_model_version(
        name, model_uri, run_id, tags=dict(tags), description=card, model_id=logged
    )
    # A server notes by itself which versions a logged model has; else its page would say that it is not registered.
    versions = json.dumps([{"name": name, "version": str(made.version)}])
    mlflow.set_logged_model_tags(logged, {"mlflow.modelVersions": versions, NOTE: card})
    return _version(made, None)


def check_data(mlflow: "MlflowClient", name: str, dataset: str) -> None:
    """Raise SextantError where a registered model is for another data set: scores on two cannot be compared."""
    known = _registered(mlflow, name)
    if known and known.tags.get("dataset", dataset) != dataset:
        raise SextantError(
            f"{name} is registered for data set `{known.tags['dataset']}`, not for `{dataset}`;"
            " give this a name of its own: a further line in `models` of params.yaml with its conf"
        )


def tag(mlflow: "MlflowClient", version: Version, **tags: str) -> None:
    for key, value in tags.items():
        mlflow.set_model_version_tag(version.name, version.version, key, value)


def untag(mlflow: "MlflowClient", version: Version, key: str) -> None:
    if key in mlflow.get_model_version(version.name, version.version).tags:
        mlflow.delete_model_version_tag(version.name, version.version, key)


def champion_history(mlflow: "MlflowClient", name: str) -> list[str]:
    """The versions that were champion, one after the other, the present one last; a rollback takes the last one off."""
    known = _registered(mlflow, name)
    if known is None:
        return []
    line, now = json.loads(known.tags.get(HISTORY, "[]")), known.aliases.get(CHAMPION)
    if now is not None and line[-1:] != [
        str(now)
    ]:  # moved in MLflow's own pages, or a crash came between
        line.append(str(now))
    return list(line)


def set_champion(mlflow: "MlflowClient", version: Version) -> None:
    """Move the alias to `version`, and write down since when, and until when the one before it was champion.

    Called again after a crash between, it writes down what is missing.
    """
    before = champion(mlflow, version.name)
    line = champion_history(mlflow, version.name)
    if before is None or before.version != version.version:
        mlflow.set_registered_model_alias(version.name, CHAMPION, version.version)
        line.append(version.version)
    _write_history(mlflow, version.name, line)
    _write_times(mlflow, version.name, before)


def roll_back(mlflow: "MlflowClient", name: str) -> str | None:
    """Move the alias to the champion before the present one; None where there was none."""
    before, there = champion(mlflow, name), {version.version for version in versions(mlflow, name)}
    line = [number for number in champion_history(mlflow, name)[:-1] if number in there]
    while line and before and line[-1] == before.version:
        line.pop()
    if not line:
        return None
    _write_history(
        mlflow, name, line
    )  # first: after a crash here the present champion still counts as the last one
    mlflow.set_registered_model_alias(name, CHAMPION, line[-1])
    _write_times(mlflow, name, before)
    return str(line[-1])


def _write_history(mlflow: "MlflowClient", name: str, line: list[str]) -> None:
    mlflow.set_registered_model_tag(
        name, HISTORY, json.dumps(line[-200:])
    )  # a tag holds 5,000 characters


def _write_times(mlflow: "MlflowClient", name: str, before: Version | None) -> None:
    """`champion_since` and `champion_until` of every version, as the alias now says."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    for one in versions(mlflow, name):
        ended = "champion_until" in one.tags
        if one.champion and (ended or "champion_since" not in one.tags):
            tag(mlflow, one, champion_since=now)
            untag(mlflow, one, "champion_until")
        was = "champion_since" in one.tags or (before and before.version == one.version)
        if was and not one.champion and not ended:
            tag(mlflow, one, champion_until=now)
