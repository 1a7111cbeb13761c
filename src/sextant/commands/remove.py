"""Take a model out of params.yaml, with its data set if no other model names it."""

from collections.abc import Collection

from .. import config, listing, paths
from ..errors import UsageError
from ..strict import advice


def remove(name: str) -> str:
    """Take the lines of a model, and of a data set of it alone, out of params.yaml.

    Files stay as they are: confs, outputs, and what is registered. Returns what was done. Raises
    UsageError for a model that params.yaml does not list, and for the only one, since it must list
    one.
    """
    chosen = config.params()
    shelf = config.shelf()
    if name not in chosen.models:
        raise UsageError(f"{paths.PARAMS} lists no model `{name}`; {advice(name, chosen.models)}")
    if len(chosen.models) == 1:
        raise UsageError(
            f"`{name}` is the only model that {paths.PARAMS} lists, and a pipeline needs one; list"
            " another before, by `make add MODEL=…` or by hand"
        )
    dataset = chosen.models[name].dataset
    other_models = []
    for other, line in chosen.models.items():
        if other != name and line.dataset == dataset:
            other_models.append(other)
    removed = {"models": name} if other_models else {"models": name, "datasets": dataset}
    on_shelf: dict[str, Collection[str]] = {"models": shelf.models, "datasets": shelf.datasets}
    text = listing.read(paths.PARAMS)
    taken = {}
    for block, entry_name in removed.items():
        comments: list[str] = []
        if entry_name in on_shelf[block]:
            source = listing.read(paths.SHELF)
            comments = listing.entry(source, block, entry_name, str(paths.SHELF)).comments
        taken[block] = listing.entry(text, block, entry_name, str(paths.PARAMS)).text
        text = listing.without_entry(text, block, entry_name, comments, str(paths.PARAMS))
    listing.write_params(text)
    return "\n".join(
        [*_done(name, dataset, other_models), *_way_back(name, taken, name in shelf.models)]
    )


def _done(name: str, dataset: str, other_models: list[str]) -> list[str]:
    """What was taken out, and which files stay."""
    confs = [paths.model_conf(name)]
    if other_models:
        first = (
            f"{paths.PARAMS} does not list `{name}` any more; data set `{dataset}` stays, of"
            f" {', '.join(other_models)}"
        )
    else:
        first = f"{paths.PARAMS} does not list `{name}` and its data set `{dataset}` any more"
        confs += [paths.dataset_conf(dataset), paths.expectations(dataset)]
    return [
        first,
        f"the confs stay: {', '.join(map(str, confs))}",
        f"so do the outputs, such as {paths.tracked(name).model}, and what is registered: a"
        " champion goes on to answer",
    ]


def _way_back(name: str, taken: dict[str, str], on_shelf: bool) -> list[str]:
    """How to list the model again."""
    if on_shelf:
        return [f"`make add MODEL={name}` lists it again"]
    lines = [f"`{text}` below `{block}`" for block, text in taken.items()]
    return [f"to list it again, write {' and '.join(lines)} in {paths.PARAMS}"]


def main(argv: list[str]) -> None:
    """`sextant remove model=<name>`."""
    options, rest = config.named_options(argv, "model")
    if rest or "model" not in options:
        raise UsageError("expected: make remove MODEL=<model of params.yaml>")
    print(remove(options["model"]))
