"""`make leaderboard`: one row per model, and the commands to continue with."""

import sys
from collections.abc import Sequence

from .. import config, paths, scoreboard, terminal
from ..errors import UsageError
from ..files import RECEIPT
from ..scoreboard import Row


def next_steps(rows: Sequence[Row], questions: str) -> str:
    """The commands to continue with; `questions` is a file of rows for the first model."""
    steps = [
        ("make ui", "runs, figures and the registry in the browser"),
        (f"make predict MODEL={rows[0].model} INPUT={questions} OUTPUT=answers.csv", ""),
        ("reports/index.html", "the report page"),
    ]
    lines = ["Next:"]
    for command, purpose in steps:
        lines.append(f"  {command:<20}{purpose}".rstrip())
    if any(row.source == "embedded" for row in rows):
        lines += [
            "A twin is generated data. To use the real data: SEXTANT_MIRROR=<folder> in the",
            "  environment, `source: mirror` in params.yaml, then `make repro`.",
        ]
    return "\n".join(lines) + "\n"


def _raw_file(dataset: str) -> str:
    """The first raw file of a data set, as an example of rows to predict."""
    folder = paths.raw(dataset)
    names = sorted(path.name for path in folder.glob("*") if path.name != RECEIPT)
    return str(folder / (names[0] if names else "<file>"))


def main(argv: list[str]) -> None:
    """`sextant leaderboard`: print the table of the models in params.yaml."""
    if argv:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; the leaderboard takes no arguments"
        )
    models = list(config.params().models)
    rows = scoreboard.rows(scoreboard.read_metrics(models), scoreboard.read_decisions(models))
    print(scoreboard.as_text(rows, colors=terminal.colored(sys.stdout)))
    print(next_steps(rows, _raw_file(rows[0].dataset)), end="")
