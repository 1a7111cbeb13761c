"""`make leaderboard`: one line per model, and what to type next."""

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import config, terminal
from ..errors import UsageError
from ..files import RECEIPT
from ..scoreboard import KINDS, Row, as_text, read_decisions, read_metrics, rows


def next_steps(rows: Sequence[Row], asked: str) -> str:
    """What to type next; `asked` is a file with rows to ask the first model."""
    steps = [
        ("make ui", "runs, figures and the registry in the browser"),
        (f"make predict MODEL={rows[0].model} INPUT={asked} OUTPUT=answers.csv", ""),
        ("reports/index.html", "the report page"),
    ]
    lines = ["Next:", *(f"  {step:<20}{what}".rstrip() for step, what in steps)]
    if any(KINDS[row.source] == "twin" for row in rows):
        lines += [
            "A twin is made up by the repository. With the real data: SEXTANT_MIRROR=<folder> in the environment,",
            "  `source: mirror` in params.yaml, then `make repro`.",
        ]
    return "\n".join(lines) + "\n"


def _raw_file(dataset: str) -> str:
    """The first raw file of a data set, to ask with."""
    folder = Path("data/raw", dataset)
    names = sorted(path.name for path in folder.glob("*") if path.name != RECEIPT)
    return str(folder / (names[0] if names else "<file>"))


def main(argv: list[str]) -> None:
    """Print the leaderboard of the models that params.yaml lists."""
    if argv:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; the leaderboard takes no arguments"
        )
    models = list(config.params().models)
    found = rows(read_metrics(models), read_decisions(models))
    print(as_text(found, colors=terminal.colored(sys.stdout)))
    print(next_steps(found, _raw_file(found[0].dataset)), end="")
