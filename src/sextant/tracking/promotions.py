"""Changes of the champion: when, by whom and why; the challenger that waits; and a freeze.

Each change is a tag of the registered model, so that nothing overwrites an earlier one and all
clones of a server see it: `champion.20261129T034512.123456Z` with a JSON object.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .provenance import author
from .registry import CHALLENGER, CHAMPION, Version, champion, registered, tag, untag, versions

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

STATUS = "Status: "  # begins the page of a version whose fate changed after the gate's decision
CHANGE_TAG = "champion."
FROZEN_TAG = "frozen"
# The tag of a registered model with the versions to which a rollback returns, the present champion
# last. Existing stores use this name.
HISTORY_TAG = "reigns"
HISTORY_LENGTH = 200  # MLflow's limit for a tag is 5,000 characters
WHY_LENGTH = 1000


@dataclass(frozen=True)
class Cause:
    """Why the champion changes: by `gate`, `promote` or `rollback`, with the gate's figures."""

    kind: str
    why: str
    figures: Mapping[str, float | str | None] | None = None


@dataclass(frozen=True)
class Change:
    """A change of champion; `time` is UTC in ISO 8601, `previous` the champion before."""

    time: str
    version: str
    previous: str | None
    kind: str
    who: str
    why: str
    figures: Mapping[str, float | str | None]


@dataclass(frozen=True)
class Freeze:
    """A hold on promotions by the gate, until `make promote` chooses a champion."""

    time: str
    who: str
    why: str


# --- history ------------------------------------------------------------------------------------


def changes(mlflow: "MlflowClient", name: str) -> list[Change]:
    """All recorded changes of champion, the oldest first."""
    model = registered(mlflow, name)
    if model is None:
        return []
    result = []
    for key, value in sorted(model.tags.items()):
        if key.startswith(CHANGE_TAG):
            result.append(Change(**json.loads(value)))
    return result


def champion_history(mlflow: "MlflowClient", name: str) -> list[str]:
    """The versions to which rollbacks return, in order, the present champion last.

    A rollback removes the last one; `changes` keeps it.
    """
    model = registered(mlflow, name)
    if model is None:
        return []
    history: list[str] = json.loads(model.tags.get(HISTORY_TAG, "[]"))
    present = model.aliases.get(CHAMPION)
    # The alias may have been moved in MLflow's pages, or a crash came before the tag was written.
    if present is not None and history[-1:] != [str(present)]:
        history.append(str(present))
    return history


def set_champion(mlflow: "MlflowClient", version: Version, cause: Cause) -> None:
    """Move the alias to `version`, then record the change and the times of both champions.

    Called again after a crash in between, it writes what is missing.
    """
    previous = champion(mlflow, version.name)
    history = champion_history(mlflow, version.name)
    if previous is None or previous.version != version.version:
        mlflow.set_registered_model_alias(version.name, CHAMPION, version.version)
        if history[-1:] != [version.version]:  # another process may have moved it in between
            history.append(version.version)
    _write_history(mlflow, version.name, history)
    _record(mlflow, version, previous, cause)
    _write_times(mlflow, version.name, previous)
    settle_challenger(mlflow, version)
    _write_status(mlflow, version.name, previous)


def previous_champion(mlflow: "MlflowClient", name: str) -> str | None:
    """The version to which a rollback would return; None if there is none."""
    history = _earlier(mlflow, name, champion(mlflow, name))
    return history[-1] if history else None


def roll_back(mlflow: "MlflowClient", name: str, why: str = "") -> str | None:
    """Move the alias to the previous champion; its version, or None if there was none."""
    present = champion(mlflow, name)
    history = _earlier(mlflow, name, present)
    if not history:
        return None
    # The history comes before the alias: after a crash in between, `champion_history` still ends
    # with the present champion, and the next rollback repeats this one.
    _write_history(mlflow, name, history)
    mlflow.set_registered_model_alias(name, CHAMPION, history[-1])
    for version in versions(mlflow, name):
        if version.version == history[-1]:
            _record(mlflow, version, present, Cause("rollback", why))
    _write_times(mlflow, name, present)
    _write_status(mlflow, name, present)
    return history[-1]


def _earlier(mlflow: "MlflowClient", name: str, present: Version | None) -> list[str]:
    """The history without the present champion and without versions that were deleted."""
    existing = {version.version for version in versions(mlflow, name)}
    earlier = champion_history(mlflow, name)[:-1]
    history = [number for number in earlier if number in existing]
    while history and present and history[-1] == present.version:
        history.pop()
    return history


def _record(
    mlflow: "MlflowClient", version: Version, previous: Version | None, cause: Cause
) -> None:
    """Record a change; after a crash between the alias and the record, the one that is missing."""
    former = previous.version if previous else None
    if former == version.version:  # this call has not moved the alias
        recorded = changes(mlflow, version.name)
        former = recorded[-1].version if recorded else None
        if former == version.version:
            return
    now = datetime.now(UTC)
    change = Change(
        time=f"{now:%Y-%m-%dT%H:%M:%S.%fZ}",
        version=version.version,
        previous=former,
        kind=cause.kind,
        who=author(),
        why=cause.why[:WHY_LENGTH],
        figures=cause.figures or {},
    )
    key = f"{CHANGE_TAG}{now:%Y%m%dT%H%M%S.%fZ}"
    mlflow.set_registered_model_tag(version.name, key, json.dumps(asdict(change)))


def _write_history(mlflow: "MlflowClient", name: str, history: list[str]) -> None:
    mlflow.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history[-HISTORY_LENGTH:]))


def _write_times(mlflow: "MlflowClient", name: str, previous: Version | None) -> None:
    """Bring `champion_since` and `champion_until` of every version into line with the alias.

    They tell the last reign of a version; `changes` has all.
    """
    timestamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    for version in versions(mlflow, name):
        since = "champion_since" in version.tags
        until = "champion_until" in version.tags
        if version.champion and (until or not since):
            tag(mlflow, version, champion_since=timestamp)
            untag(mlflow, version, "champion_until")
        was_champion = since or (previous and previous.version == version.version)
        if was_champion and not version.champion and not until:
            tag(mlflow, version, champion_until=timestamp)


def _write_status(mlflow: "MlflowClient", name: str, previous: Version | None) -> None:
    """Begin the pages of the present and the previous champion with what became of them."""
    recorded = changes(mlflow, name)
    for version in versions(mlflow, name):
        if not (version.champion or (previous and version.version == previous.version)):
            continue
        status = status_of(version.version, recorded)
        page = mlflow.get_model_version(name, version.version).description or ""
        mlflow.update_model_version(name, version.version, with_status(page, status))


def status_of(version: str, recorded: Sequence[Change]) -> str:
    """What became of a version, in a sentence, from the changes of champion; empty if nothing."""
    status = ""
    for change in recorded:
        reason = f" ({change.why})" if change.why and change.kind != "gate" else ""
        made = f"{change.time[:16].replace('T', ' ')} UTC by {change.kind}, {change.who}{reason}"
        if change.version == version:
            status = f"champion since {made}"
        elif change.previous == version:
            status = f"champion until {made}, which chose version {change.version}"
    return status


def with_status(page: str, status: str) -> str:
    """A page whose first paragraph is the status, in place of an earlier one."""
    if page.startswith(STATUS):
        page = page.partition("\n\n")[2]
    return f"{STATUS}{status}.\n\n{page}" if status else page


# --- what waits for a person --------------------------------------------------------------------


def challenger(mlflow: "MlflowClient", name: str) -> Version | None:
    """The version that waits for a person; None if none does."""
    for version in versions(mlflow, name):
        if version.challenger:
            return version
    return None


def set_challenger(mlflow: "MlflowClient", version: Version) -> None:
    """Let a version wait for a person; it takes the place of one that waited before."""
    mlflow.set_registered_model_alias(version.name, CHALLENGER, version.version)


def settle_challenger(mlflow: "MlflowClient", version: Version) -> None:
    """Remove the alias `challenger` if it is the one of `version`, which waits no longer."""
    waiting = challenger(mlflow, version.name)
    if waiting and waiting.version == version.version:
        mlflow.delete_registered_model_alias(version.name, CHALLENGER)


def freeze(mlflow: "MlflowClient", name: str, why: str) -> None:
    """Let the gate promote no version by itself until `thaw`."""
    time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    state = Freeze(time, author(), why[:WHY_LENGTH])
    mlflow.set_registered_model_tag(name, FROZEN_TAG, json.dumps(asdict(state)))


def frozen(mlflow: "MlflowClient", name: str) -> Freeze | None:
    """The freeze of a registered model; None if the gate may promote."""
    model = registered(mlflow, name)
    if model is None or FROZEN_TAG not in model.tags:
        return None
    return Freeze(**json.loads(model.tags[FROZEN_TAG]))


def thaw(mlflow: "MlflowClient", name: str) -> bool:
    """End a freeze; whether there was one."""
    if frozen(mlflow, name) is None:
        return False
    mlflow.delete_registered_model_tag(name, FROZEN_TAG)
    return True
