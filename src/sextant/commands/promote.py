"""Make a version champion by hand."""

from .. import config
from ..decisions import print_champion, record_champion
from ..errors import UsageError
from ..tracking import registry, store


def promote(model: str, version: str) -> None:
    """Make a version champion: on real data if the model is registered there, or on the twin.

    Raises SextantError if the model is not registered, UsageError for an unknown version.
    """
    mlflow = store.client()
    versions: list[registry.Version] = []
    for name in registry.registered_names(model):
        versions = versions or registry.versions(mlflow, name)
    if not versions:
        raise registry.no_champion(mlflow, model)
    numbers = [candidate.version for candidate in versions]
    if version not in numbers:
        raise UsageError(
            f"{versions[0].name} has no version {version}; it has: {', '.join(numbers)}"
        )
    chosen = versions[numbers.index(version)]
    previous = next((candidate for candidate in versions if candidate.champion), None)
    registry.set_champion(mlflow, chosen)
    record_champion(model, chosen.name, version)
    print_champion(chosen.name, version, previous)


def main(argv: list[str]) -> None:
    """`sextant promote model=<name> version=<number>`."""
    options, rest = config.named_options(argv, "model", "version")
    if rest or set(options) != {"model", "version"}:
        raise UsageError("expected: make promote MODEL=<model> VERSION=<number>")
    promote(options["model"], options["version"])
