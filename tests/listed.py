"""The models and data sets of params.yaml and of the shelf: tests try all of them.

The pipelines of `whole_pipeline` run what params.yaml lists alone.
"""

from pathlib import Path
from typing import Any

from conftest import ROOT, load_yaml

from sextant import listing

PARAMS: dict[str, Any] = load_yaml((ROOT / "params.yaml").read_text())
SHELF_FILE = ROOT / "conf/shelf.yaml"
SHELF: dict[str, Any] = load_yaml(SHELF_FILE.read_text())


def _with_shelf(block: str) -> dict[str, Any]:
    entries = dict(PARAMS[block])
    for name, value in SHELF[block].items():
        entries.setdefault(name, value)
    return entries


DATASETS: dict[str, str] = _with_shelf("datasets")  # name: kind
MODELS: dict[str, dict[str, str]] = _with_shelf("models")


def _firsts() -> set[str]:
    pairs: dict[tuple[str, str], str] = {}
    for name, line in MODELS.items():
        pairs.setdefault((line["family"], line["task"]), name)
    return set(pairs.values())


# The first model of each pair of a family and a task. `make test-fast` tries these alone where the
# code is the same for all models of a pair, and `make test` the others too.
FIRSTS = _firsts()


def list_all(params: Path) -> None:
    """Add every model and data set of the shelf to a copy of params.yaml."""
    shelf = SHELF_FILE.read_text()
    text = params.read_text()
    for block in ("datasets", "models"):
        for name in SHELF[block]:
            if name not in PARAMS[block]:
                entry = listing.entry(shelf, block, name, "conf/shelf.yaml")
                text = listing.with_entry(text, block, entry, "params.yaml")
    params.write_text(text)
