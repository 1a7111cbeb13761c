"""The registry: registered models, their versions and the alias `champion`."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import paths
from ..errors import SextantError
from .store import (
    NOTE,
    address,
    files_exist,
    home,
    local_path,
    moved_from,
    own_location,
    query,
    raise_unless_absent,
    raise_unless_present,
    relocate,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"  # the alias of a version that waits for a person
# The decisions of the gate. What waits would be promoted, but conf, drift or a freeze leaves that
# to a person.
PROMOTED = "promoted"
REFUSED = "not promoted"
WAITING = "needs a person"
PAGE_SIZE = 1000


# --- names --------------------------------------------------------------------------------------


def registered_name(model: str, source: str) -> str:
    """`sextant-ann` for real data, `sextant-ann-twin` for the twin, which has other scores."""
    suffix = "-twin" if source == "embedded" else ""
    return f"sextant-{model}{suffix}"


def registered_names(model: str) -> tuple[str, str]:
    """The two names under which a model may be registered, the one for real data first."""
    return registered_name(model, "mirror"), registered_name(model, "embedded")


# --- versions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its tags, whether it is champion, and whether it waits."""

    name: str
    version: str
    tags: Mapping[str, str]
    champion: bool
    model_uri: str
    challenger: bool = False

    @property
    def decision(self) -> dict[str, Any] | None:
        """The gate's decision; None before the gate has judged this version."""
        if "decision" not in self.tags:
            return None
        decision: dict[str, Any] = json.loads(self.tags["decision"])
        return decision


def versions(mlflow: "MlflowClient", name: str) -> list[Version]:
    """All versions of a registered model, the newest first; none if it does not exist."""
    model = registered(mlflow, name)
    if model is None:
        return []
    condition = f"name = '{name}'"
    page = mlflow.search_model_versions(condition, max_results=PAGE_SIZE)
    entities = list(page)
    while page.token:
        page = mlflow.search_model_versions(condition, max_results=PAGE_SIZE, page_token=page.token)
        entities += page
    result = [_version(entity, model.aliases) for entity in entities]
    result.sort(key=lambda version: int(version.version), reverse=True)
    return result


def registered(mlflow: "MlflowClient", name: str) -> "RegisteredModel | None":
    """The registered model with its tags and aliases; None if it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return mlflow.get_registered_model(name)
    except MlflowException as error:
        raise_unless_absent(error)
        return None


def _version(entity: "ModelVersion", aliases: Mapping[str, str]) -> Version:
    number = str(entity.version)
    return Version(
        name=entity.name,
        version=number,
        tags=dict(entity.tags),
        champion=number == str(aliases.get(CHAMPION)),
        model_uri=f"models:/{entity.name}/{number}",
        challenger=number == str(aliases.get(CHALLENGER)),
    )


def create_version(
    mlflow: "MlflowClient",
    name: str,
    model_uri: str,
    run_id: str,
    tags: Mapping[str, str],
    card: str,
    about: str,
) -> Version:
    """Register a logged model as a new version; creates the registered model if it does not exist.

    Raises SextantError if the registered model is for another data set.
    """
    check_data(mlflow, name, tags["dataset"])
    if registered(mlflow, name) is None:
        _create_registered(mlflow, name, tags["dataset"], about)
    model_id = model_uri.removeprefix("models:/")  # a server needs the id in addition to the URI
    entity = mlflow.create_model_version(
        name, model_uri, run_id, tags=dict(tags), description=card, model_id=model_id
    )
    # A server writes this tag itself, a database does not, and the page of the logged model would
    # say that it is not registered.
    listed = json.dumps([{"name": name, "version": str(entity.version)}])
    mlflow.set_logged_model_tags(model_id, {"mlflow.modelVersions": listed, NOTE: card})
    return _version(entity, {})


def _create_registered(mlflow: "MlflowClient", name: str, dataset: str, about: str) -> None:
    """Create a registered model, unless another process has just done so."""
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name, tags={"dataset": dataset}, description=about)
    except MlflowException as error:
        raise_unless_present(error)
        check_data(mlflow, name, dataset)


def withdraw(mlflow: "MlflowClient", version: Version) -> None:
    """Delete a version that nothing has judged, with its logged model."""
    from mlflow.exceptions import MlflowException

    source = mlflow.get_model_version(version.name, version.version).source or ""
    mlflow.delete_model_version(version.name, version.version)
    try:
        mlflow.delete_logged_model(source.removeprefix("models:/"))
    except MlflowException as error:
        raise_unless_absent(error)


def check_data(mlflow: "MlflowClient", name: str, dataset: str) -> None:
    """Raise SextantError if a registered model is for another data set.

    Scores on two data sets cannot be compared.
    """
    model = registered(mlflow, name)
    if model is None:
        return
    own_data = model.tags.get("dataset", dataset)
    if own_data != dataset:
        raise SextantError(
            f"{name} is registered for data set `{own_data}`, not for `{dataset}`; give this"
            " model another name: a further line in `models` of params.yaml with its conf"
        )


def tag(mlflow: "MlflowClient", version: Version, **tags: str) -> None:
    """Set tags of a version."""
    for key, value in tags.items():
        mlflow.set_model_version_tag(version.name, version.version, key, value)


def untag(mlflow: "MlflowClient", version: Version, key: str) -> None:
    """Delete a tag of a version if it has the tag."""
    if key in mlflow.get_model_version(version.name, version.version).tags:
        mlflow.delete_model_version_tag(version.name, version.version, key)


# --- the champion -------------------------------------------------------------------------------


def champion(mlflow: "MlflowClient", name: str) -> Version | None:
    """The version with the alias `champion`; None if there is none."""
    for version in versions(mlflow, name):
        if version.champion:
            return version
    return None


def champion_of(mlflow: "MlflowClient", model: str) -> Version:
    """The champion on real data, or else on the twin; raises SextantError without one."""
    _use_own_files()
    for name in registered_names(model):
        version = champion(mlflow, name)
        if version:
            return version
    raise no_champion(mlflow, model)


def _use_own_files() -> None:
    """In a copied checkout, let versions refer to their files in the copy.

    Otherwise those of the original would answer, as long as it exists. A copy of the database alone
    goes on referring to them.
    """
    old = moved_from()
    if old is None:
        return
    rows = query("SELECT storage_location FROM model_versions WHERE storage_location != ''")
    own = [location.replace(f"{old}/mlruns/", f"{home()}/mlruns/") for (location,) in rows]
    if own and all(files_exist(location) for location in own):
        relocate()


def no_champion(mlflow: "MlflowClient", model: str) -> SextantError:
    """The error for a model without a champion: why, and what to do; and the models that have one.

    Of a model with versions, the newest one is described; training it again would not help.
    """
    models = set()
    for registered in mlflow.search_registered_models("name LIKE 'sextant-%'"):
        if CHAMPION in registered.aliases:
            models.add(registered.name.removeprefix("sextant-").removesuffix("-twin"))
    missing = f"`{model}` has no champion in {address()}"
    champions = f"models with a champion: {', '.join(sorted(models)) or 'none'}"
    for name in registered_names(model):
        for version in versions(mlflow, name):
            return SextantError(f"{missing}: {_why_no_champion(model, version)}; {champions}")
    return SextantError(
        f"{missing}; {champions}; `make repro` trains and judges the models of params.yaml"
    )


def _why_no_champion(model: str, version: Version) -> str:
    label = f"version {version.version} of {version.name}"
    by_hand = f"`{promote_command(model, version.version)}` makes it champion by hand"
    decision = version.decision
    if decision is None:
        return f"{label} is not judged yet; `make register` judges it"
    if decision["decision"] == PROMOTED:
        return f"{label} was champion and is not any more; {by_hand}"
    reason = decision["reason"]
    if decision["decision"] == WAITING:
        return f"{label} waits for a person: {reason}"
    return f"{label} was not promoted: {reason}; {remedy(model, reason)}; {by_hand}"


def promote_command(model: str, version: str) -> str:
    """The command that makes a version champion by hand."""
    return f"make promote MODEL={model} VERSION={version}"


def remedy(model: str, reason: str) -> str:
    """What would change the decision not to promote a model; `reason` is that of the gate.

    The reason itself has the value and the bound. It is read and not the conf, because the version
    may have been judged with another one.
    """
    conf = paths.model_conf(model)
    if reason.startswith("breaks the guard"):
        return f"the guard is set in `gate` of {conf}"
    if "it may be chance" in reason:
        return f"`gate.interval` in {conf} sets how sure a gain has to be"
    if "in the slice" in reason:
        return f"the floor of a slice is set in `gate` of {conf}"
    if "the champion's" in reason:
        return f"`gate.margin` in {conf} sets by how much a model has to be better"
    return (
        f"a model has to beat that baseline: raise `budget` in params.yaml, change `net` in {conf},"
        " or let its `gate.metric` choose another metric"
    )


def warn_if_twin(version: Version) -> None:
    """Print on stderr that the answers come from a model that has never seen real data."""
    if version.tags["source"] == "embedded":
        print(
            f"sextant: {version.tags['model']} has no champion on real data; the champion on its"
            " twin answers",
            file=sys.stderr,
        )


# --- a local store, without importing MLflow ----------------------------------------------------


def champion_here(model: str) -> tuple[Version, Path] | None:
    """The champion that `champion_of` finds, from a local store, with the folder of its files.

    In a copied checkout, these are the files in the copy, also if its database is read-only. None
    for a server, and where a champion or its files are missing: MLflow tells more.
    """
    for name in registered_names(model):
        rows = query(
            "SELECT version.version, version.storage_location FROM model_versions AS version"
            " JOIN registered_model_aliases AS champion USING (name, version)"
            " WHERE name = ? AND champion.alias = ?",
            name,
            CHAMPION,
        )
        for number, recorded in rows:
            location = own_location(recorded or "")
            folder = local_path(location)
            if folder is None or not files_exist(location):
                return None
            tags = query(
                "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?",
                name,
                str(number),
            )
            uri = f"models:/{name}/{number}"
            return Version(name, str(number), dict(tags), True, uri), folder
    return None


def is_registered_here(name: str) -> bool:
    """Whether a local store has versions under this name."""
    return bool(query("SELECT version FROM model_versions WHERE name = ? LIMIT 1", name))


def is_judged_here(name: str, digest: str) -> bool:
    """Whether a local store has a decision on this digest and the files of that version.

    Always False for a server, which only a client can query.
    """
    rows = query(
        "SELECT version.storage_location FROM model_versions AS version"
        " JOIN model_version_tags AS digest USING (name, version)"
        " JOIN model_version_tags AS decision USING (name, version)"
        " WHERE name = ? AND digest.key = 'digest' AND digest.value = ?"
        " AND decision.key = 'decision'",
        name,
        digest,
    )
    if not rows or moved_from():
        return False
    return all(files_exist(location) for (location,) in rows)


def is_champion_here(name: str, version: str) -> bool:
    """Whether a version is champion in a local store."""
    rows = query(
        "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?", name, CHAMPION
    )
    return [str(number) for (number,) in rows] == [version]
