"""Make a version champion by hand."""

from typing import TYPE_CHECKING

from .. import config
from ..decisions import print_champion, record_champion
from ..errors import UsageError
from ..tracking import promotions, registry, store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DRY_RUN = "--dry-run"
USAGE = "make promote MODEL=<model> [VERSION=<number>] [WHY=<reason>] [DRY_RUN=1]"


def promote(model: str, number: str | None = None, why: str = "", dry_run: bool = False) -> None:
    """Make a version champion: on real data if the model is registered there, or on the twin.

    Without a number, it is the version that waits for a person. A freeze ends with it. Raises
    SextantError if the model is not registered, UsageError for an unknown version or if none waits.
    """
    mlflow = store.client()
    name = _name(mlflow, model)
    version = _version(mlflow, name, number)
    previous = registry.champion(mlflow, name)
    if dry_run:
        print(f"{name}: version {version.version} would become champion")
        return
    promotions.set_champion(mlflow, version, promotions.Cause("promote", why))
    if promotions.thaw(mlflow, name):
        print(f"{name}: the gate may promote again")
    record_champion(model, name, version.version)
    print_champion(name, version.version, previous)


def _name(mlflow: "MlflowClient", model: str) -> str:
    for name in registry.registered_names(model):
        if registry.versions(mlflow, name):
            return name
    raise registry.no_champion(mlflow, model)


def _version(mlflow: "MlflowClient", name: str, number: str | None) -> registry.Version:
    """The version with a number, or the one that waits for a person."""
    versions = registry.versions(mlflow, name)
    for version in versions:
        if version.version == number or (number is None and version.challenger):
            return version
    numbers = ", ".join(version.version for version in versions)
    if number is None:
        raise UsageError(
            f"no version of {name} waits for a person; choose one: VERSION=…; it has: {numbers}"
        )
    raise UsageError(f"{name} has no version {number}; it has: {numbers}")


def main(argv: list[str]) -> None:
    """`sextant promote model=<name> [version=<number>] [why=<reason>] [--dry-run]`."""
    arguments = [argument for argument in argv if argument != DRY_RUN]
    options, rest = config.named_options(arguments, "model", "version", "why")
    if rest or "model" not in options:
        raise UsageError(f"expected: {USAGE}")
    promote(options["model"], options.get("version"), options.get("why", ""), DRY_RUN in argv)
