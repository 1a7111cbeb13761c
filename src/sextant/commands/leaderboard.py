"""`make leaderboard`: one row per model, and the commands to continue with."""

import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .. import config, paths, plugins, scoreboard, terminal
from ..errors import SextantError, UsageError
from ..files import RECEIPT
from ..scoreboard import Decision, Row
from ..tracking import registry, store
from . import seeds

Choose = Callable[[object, Path], Path | None]


def next_steps(rows: Sequence[Row], decisions: Mapping[str, Decision], predict: str) -> str:
    """The commands to continue with, and what can be done about models that were not promoted.

    `predict` is the command that lets a champion answer; empty if no model has a champion.
    """
    steps = [("make ui", "runs, figures and the registry in the browser")]
    if predict:
        steps.append((predict, ""))
    if any(row.decision == scoreboard.UNDECIDED for row in rows):
        steps.append(("make register", "judge the models that are not registered here"))
    steps.append(("reports/index.html", "the report page"))
    lines = ["Next:"]
    for command, purpose in steps:
        lines.append(f"  {command:<20}{purpose}".rstrip())
    lines += _not_promoted(decisions)
    if any(row.source == "embedded" for row in rows):
        lines += [
            "A twin is generated data. To use the real data: SEXTANT_MIRROR=<folder> in the",
            "  environment, `source: mirror` in params.yaml, then `make repro`.",
        ]
    return "\n".join(lines) + "\n"


def _not_promoted(decisions: Mapping[str, Decision]) -> list[str]:
    """For each model that the gate refused: why, what would change it, and the command by hand."""
    lines = []
    for model, decision in decisions.items():
        if decision["decision"] == registry.PROMOTED or decision["champion"]:
            continue
        text = f"{model}: {decision['reason']}"
        if decision["decision"] == registry.REFUSED:
            text += f"; {registry.remedy(model, decision['reason'])}"
        lines += textwrap.wrap(
            text,
            scoreboard.WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        real_name, _ = registry.registered_names(model)
        # `make promote` chooses among the versions on real data if there are any.
        if decision["registered_model"] == real_name or not registry.is_registered_here(real_name):
            lines.append(f"    {registry.promote_command(model, decision['version'])}")
    return ["Not promoted:", *lines] if lines else []


def predict_command(rows: Sequence[Row], decisions: Mapping[str, Decision]) -> str:
    """The command with which the first model that has a champion answers rows of its raw files.

    Empty if no model has a champion.
    """
    for row in rows:
        if _has_champion(row.model, decisions.get(row.model)):
            path = _input_file(row.dataset) or "<file of rows>"
            name = shlex.quote(str(path))
            return f"make predict MODEL={row.model} INPUT={name} OUTPUT=answers.csv"
    return ""


def _has_champion(model: str, decision: Decision | None) -> bool:
    """Whether a model has a champion; of a server, the last decision says so.

    Asking the server would import MLflow, which takes two seconds.
    """
    if store.database():
        return registry.champion_here(model) is not None
    return decision is not None and (decision["champion"] or decision["against"] is not None)


def _input_file(dataset: str) -> Path | None:
    """A raw file or folder with rows that `make predict` takes; None if there is none."""
    folder = paths.raw(dataset)
    if not folder.is_dir():
        return None
    try:
        conf = config.dataset(dataset)
    except SextantError:  # `make check` explains it
        return None
    choose: Choose = plugins.optional(plugins.kind(conf.kind).columns, "input_file", largest_file)
    return choose(conf.columns, folder)


def largest_file(columns: object, folder: Path) -> Path | None:
    """The largest file of a folder, because a series needs many days for one answer."""
    files = sorted(path for path in folder.glob("*") if path.name != RECEIPT)
    return max(files, key=lambda path: path.stat().st_size, default=None)


def main(argv: list[str]) -> None:
    """`sextant leaderboard`: print the table of the models in params.yaml."""
    if argv:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; the leaderboard takes no arguments"
        )
    models = list(config.params().models)
    decisions = scoreboard.read_decisions(models)
    rows = scoreboard.rows(scoreboard.read_metrics(models), decisions)
    print(scoreboard.as_text(rows, colors=terminal.colored(sys.stdout)))
    for row in rows:
        spread = seeds.known_spread(row.model, row.metric)
        if spread:
            print(spread)
    print(next_steps(rows, decisions, predict_command(rows, decisions)), end="")
