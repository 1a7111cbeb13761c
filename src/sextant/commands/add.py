"""List a model of the shelf in params.yaml, with its data set."""

from .. import config, listing, paths
from ..errors import UsageError
from ..strict import advice


def add(name: str) -> str:
    """Copy the lines of a model and its data set to params.yaml; return what was done.

    A data set that is listed already stays as it is. Raises UsageError for a model that is listed,
    or that the shelf does not have, and if its conf cannot be composed; then nothing is written.
    """
    chosen = config.params()
    shelf = config.shelf()
    if name in chosen.models:
        raise UsageError(f"{paths.PARAMS} lists model `{name}` already; `make repro` runs it")
    if name not in shelf.models:
        raise UsageError(f"{paths.SHELF} has no model `{name}`; {advice(name, shelf.models)}")
    line = shelf.models[name]
    config.model(name, shelf=True)
    config.dataset(line.dataset, shelf=True)
    added = {"models": name}
    if line.dataset not in chosen.datasets:
        added = {"datasets": line.dataset, "models": name}
    source = listing.read(paths.SHELF)
    text = listing.read(paths.PARAMS)
    for block, entry_name in added.items():
        entry = listing.entry(source, block, entry_name, str(paths.SHELF))
        text = listing.with_entry(text, block, entry, str(paths.PARAMS))
    listing.write_params(text)
    parts = " and ".join(f"`{entry_name}`" for entry_name in added.values())
    return (
        f"{paths.PARAMS} lists {parts} now: {line.family} on {line.dataset}, task {line.task}\n"
        "next: make repro"
    )


def main(argv: list[str]) -> None:
    """`sextant add model=<name>`."""
    options, rest = config.named_options(argv, "model")
    if rest or "model" not in options:
        raise UsageError("expected: make add MODEL=<model of conf/shelf.yaml>")
    print(add(options["model"]))
