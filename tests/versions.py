"""A registry with three versions of one model, and the states in which crashes leave it."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from conftest import Clone, copy_clone, fork_processes

from sextant import register
from sextant.gate import Candidate
from sextant.tracking import promotions, registry, store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

MODEL = "ann"
NAME = registry.registered_name(MODEL, "embedded")


class Crash(BaseException):
    """Ends a call as a kill does; no `except Exception` catches it."""


class Versions:
    """A copy of `pipeline` with three models, each better than the one before, and a registry that
    can be set back to earlier states.

    The worse models divide their inputs by a wrong spread, so that each version has its own fitted
    transforms. The files of all versions stay, whatever the state of the registry.
    """

    def __init__(self, clone: Clone):
        self.clone = clone
        self.folder = clone.path.parent
        self.records: list[dict[str, Any]] = []  # of register, version by version
        shutil.copytree(clone.path / "models" / MODEL, self.folder / "3")
        self._worsen("1", factor=1.7)
        self._worsen("2", factor=1.3)

    def _worsen(self, version: str, factor: float) -> None:
        folder = self.folder / version
        shutil.copytree(self.folder / "3", folder)
        card = json.loads((folder / "model.json").read_text())
        for statistics in card["encoder"]["numbers"].values():
            statistics[1] *= factor  # the standard deviation
        (folder / "model.json").write_text(json.dumps(card))

    def candidate(self, version: str) -> Candidate:
        """Put the model of a version into the workspace."""
        shutil.rmtree(f"models/{MODEL}")
        shutil.copytree(self.folder / version, f"models/{MODEL}")
        return Candidate(MODEL)

    def database(self, state: str) -> Path:
        """The database of a state."""
        return self.folder / f"{state}.db"

    def keep(self, state: str) -> None:
        """Keep the registry as it is under a name."""
        copy_database(Path("mlflow.db"), self.database(state))

    def set_back(self, state: str) -> "MlflowClient":
        """Set the registry back to a state, and forget the decision files; a client."""
        import mlflow

        shutil.rmtree("reports/decisions", ignore_errors=True)
        copy_database(self.database(state), Path("mlflow.db"))
        # MLflow finds the logged model of a version by its global URI, which an earlier test may
        # have set to another database.
        mlflow.set_tracking_uri(store.uri())
        return store.client()


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def build(pipeline: Clone, folder: Path) -> Versions:
    """Register the three models; each registration crashes once on its way and is repeated.

    The states are `1 unjudged` (registered, without a decision), `1`, `2 pending` (decided, the
    alias not moved), `2`, `3 champion` (the alias moved, the decision not final) and `3`.
    """
    clone = copy_clone(pipeline, folder / "clone")
    with pytest.MonkeyPatch.context() as patch:
        fork_processes(patch)
        patch.chdir(clone.path)
        versions = Versions(clone)
        store.client().delete_registered_model(NAME)

        first = versions.candidate("1")
        crash(register, "judge", lambda: register.register(first))
        versions.keep("1 unjudged")
        versions.records.append(register.register(first))
        versions.keep("1")

        second = versions.candidate("2")
        crash(promotions, "set_champion", lambda: register.register(second))
        versions.keep("2 pending")
        versions.records.append(without_judging(lambda: register.register(second)))
        versions.keep("2")

        third = versions.candidate("3")
        crash(registry, "tag", lambda: register.register(third), keyword="decision")
        versions.keep("3 champion")
        versions.records.append(without_judging(lambda: register.register(third)))
        versions.keep("3")
    return versions


def crash(module: ModuleType, name: str, call: Callable[[], object], keyword: str = "") -> None:
    """Make a call that crashes where it calls `module.name` (with the given keyword)."""
    original = getattr(module, name)

    def crashing(*args: object, **kwargs: object) -> object:
        if keyword and keyword not in kwargs:
            return original(*args, **kwargs)
        raise Crash

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(module, name, crashing)
        call()


def without_judging(call: Callable[[], T]) -> T:
    """Make a call that must not ask the gate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register, "judge", lambda *_: pytest.fail("the gate was asked"))
        return call()


@dataclass(frozen=True)
class State:
    """The champion and the tags of each version."""

    champion: str | None
    tags: dict[str, dict[str, str]]


def state() -> State:
    """The state of the registry in the working directory."""
    versions = registry.versions(store.client(), NAME)
    champion = None
    for version in versions:
        if version.champion:
            champion = version.version
    return State(champion, {version.version: dict(version.tags) for version in versions})


def champion() -> str | None:
    """The version that is champion."""
    return state().champion


def runs(client: "MlflowClient") -> "list[Run]":
    """The runs of the model."""
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))
