"""What a branch changes, as Markdown for the comment on a pull request.

    sextant compare base=origin/main

The leaderboard of both sides, what `dvc metrics diff` and `dvc params diff` find, and the decisions
of this registry where there are any. Nothing runs: reports/metrics/ is in git.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from .. import config, paths, scoreboard
from ..errors import UsageError
from ..processes import output_of
from ..redaction import without_secrets
from ..scoreboard import Metrics, Row
from ..tracking.provenance import git
from .night import git_succeeds

MOST = 60  # rows of a table; a comment has at most 65,536 characters
LONGEST = 60  # characters of a value
# Keys of the metrics that repeat what the leaderboard shows, or describe the run.
SHOWN_METRICS = ("test.", "val.")

Changes = Mapping[str, Mapping[str, Mapping[str, object]]]  # by file and key: old and new


def compare(base: str) -> str:
    """The comment; raises UsageError for a commit that git does not have."""
    check_commit(base)
    here = scoreboard.read_metrics(config.params().models)
    decisions = scoreboard.read_decisions(config.params().models)
    there = metrics_of(base)
    parts = [
        "## Leaderboard of this branch\n",
        scoreboard.as_markdown(scoreboard.rows(here, decisions)),
        f"## Leaderboard of `{base}`\n",
        scoreboard.as_markdown(rows_of(there)),
        "## Metrics\n",
        changes_table(dvc_diff("metrics", base), SHOWN_METRICS),
        "## Parameters\n",
        changes_table(dvc_diff("params", base)),
    ]
    return without_secrets("\n".join(parts))


def check_commit(base: str) -> None:
    """Raise UsageError unless git has a commit of this name."""
    is_commit = ("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")
    if base.startswith("-") or not git_succeeds(*is_commit):
        raise UsageError(f"BASE={base}: git has no such commit here; `git fetch` may bring it")


def metrics_of(base: str) -> list[Metrics]:
    """reports/metrics/ of a commit, in the order of its file names."""
    folder = paths.tracked("x").metrics.parent
    records: list[Metrics] = []
    for path in git("ls-tree", "--name-only", base, f"{folder}/").splitlines():
        records.append(json.loads(git("show", f"{base}:./{path}")))
    return records


def rows_of(records: Iterable[Metrics]) -> list[Row]:
    """The rows of a leaderboard; records of an earlier form are left out."""
    rows: list[Row] = []
    for record in records:
        try:
            rows += scoreboard.rows([record], {})
        except (KeyError, TypeError, ValueError):
            continue
    return rows


def dvc_diff(kind: str, base: str) -> Changes:
    """The output of `dvc metrics diff` or `dvc params diff` against a commit."""
    command = [sys.executable, "-m", "dvc", kind, "diff", "--json", base]
    done = output_of(f"dvc {kind} diff", command)
    changes: Changes = json.loads(done.stdout or "{}")
    return changes


def changes_table(changes: Changes, prefixes: tuple[str, ...] = ("",)) -> str:
    """A table of what changed, for keys with one of the prefixes; a sentence if nothing did."""
    lines = []
    for path in sorted(changes):
        for key, change in sorted(changes[path].items()):
            if key.startswith(prefixes):
                name = f"{Path(path).stem}: {key}"
                lines.append(f"| {name} | {_cell(change['old'])} | {_cell(change['new'])} |")
    if not lines:
        return "No change.\n"
    rest = len(lines) - MOST
    text = "| | before | after |\n|---|---|---|\n" + "\n".join(lines[:MOST]) + "\n"
    return text + (f"\nAnd {rest} more.\n" if rest > 0 else "")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split())
    text = text.replace("|", "\\|")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def main(argv: list[str]) -> None:
    """`sextant compare base=<commit>`."""
    options, rest = config.named_options(argv, "base")
    if rest or not options.get("base"):
        raise UsageError("expected: make compare BASE=origin/main")
    print(compare(options["base"]), end="")
