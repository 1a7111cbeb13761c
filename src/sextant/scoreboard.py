"""The rows of the leaderboard: a model's metric beside its baselines and its decision; as text and as Markdown.

The page, `make leaderboard` and the summary of a retraining show the same rows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SextantError
from .files import folder_digest

HEADINGS = (
    "model",
    "data set",
    "metric",
    "value [95 %]",
    "trivial",
    "best",
    "better than that [95 %]",
    "decision",
)
TOLD = (
    "model",
    "data set",
    "metric [95 %]",
    "trivial and best baseline",
    "better [95 %]",
    "decision",
)  # on a terminal
KINDS = {"embedded": "twin", "mirror": "real", "canonical": "real"}
UNDECIDED = "not registered here"
CHAMPION = ", champion"  # what follows a decision while its version is the champion
WIDTH = 100


@dataclass(frozen=True)
class Row:
    """One model: the metric that its gate reads, on the test part."""

    model: str
    dataset: str
    source: str
    metric: str
    value: float
    interval: tuple[float, float]
    trivial: tuple[str, float]
    best: tuple[str, float]
    better: tuple[float, float, float]  # than the best, with its interval
    decision: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, under HEADINGS."""
        low, high = self.interval
        value, data = (
            f"{self.value:.4f} [{low:.3f}…{high:.3f}]",
            f"{self.dataset} ({KINDS[self.source]})",
        )
        trivial, best = (f"{score:.4f} {name}" for name, score in (self.trivial, self.best))
        gain, least, most = self.better
        better = f"{gain:+.4f} [{least:+.3f}…{most:+.3f}]"
        return (self.model, data, self.metric, value, trivial, best, better, self.decision)

    @property
    def told(self) -> tuple[str, ...]:
        """The same in two lines, under TOLD."""
        model, data, metric, value, trivial, best, better, decision = self.cells
        pairs = (
            f"{metric}\n{value}",
            f"{trivial}\n{best}",
            better.replace(" [", "\n["),
            decision.replace(", ", ",\n"),
        )
        return (model, data.replace(" (", "\n("), *pairs)


def rows(
    metrics: Iterable[Mapping[str, Any]], decisions: Mapping[str, Mapping[str, Any]]
) -> list[Row]:
    """A row for each model's metrics, in their order; `decisions` by model, where this registry has made one."""
    return [_row(found, decisions.get(found["model"])) for found in metrics]


def _row(found: Mapping[str, Any], decision: Mapping[str, Any] | None) -> Row:
    metric = found["metric"]
    trivial, best = (
        (name, float(found["baselines"][name][metric]))
        for name in (found["trivial"], found["best"])
    )
    (low, high), (gain, least, most) = (map(float, found[name]) for name in ("interval", "better"))
    return Row(
        model=found["model"],
        dataset=found["dataset"],
        source=found["source"],
        metric=metric,
        value=float(found["test"][metric]),
        interval=(low, high),
        trivial=trivial,
        best=best,
        better=(gain, least, most),
        decision=decision["decision"] + CHAMPION * bool(decision["champion"])
        if decision
        else UNDECIDED,
    )


# --- what lies in reports/ --------------------------------------------------------------------------------------------


def read(path: Path, model: str) -> str:
    """A file that `model`, listed in params.yaml, must have; raises SextantError with the command that makes it."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SextantError(
            f"{path} is missing, but params.yaml lists model `{model}`; `make repro` makes it"
        ) from None


def read_json(path: Path, model: str) -> Any:
    """The same as JSON."""
    try:
        return json.loads(read(path, model))
    except json.JSONDecodeError as error:
        raise SextantError(f"{path} is not JSON ({error}); `make repro` makes it anew") from None


def read_metrics(models: Iterable[str]) -> list[dict[str, Any]]:
    """reports/metrics/<model>.json of each model; raises SextantError where one lacks what a row needs."""
    found = []
    for model in models:
        path = Path("reports/metrics", f"{model}.json")
        found.append(read_json(path, model))
        try:
            rows(found[-1:], {})
        except (KeyError, TypeError, ValueError) as error:
            raise SextantError(
                f"{path} lacks what evaluate writes ({error!r}); `make repro` makes it anew"
            ) from None
    return found


def read_decisions(models: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What this registry decided about the models as they lie in models/; an older one's decision is not theirs."""
    found = {}
    for model in models:
        path, folder = Path("reports/decisions", f"{model}.json"), Path("models", model)
        if path.is_file():
            decision = read_json(path, model)
            if not folder.is_dir() or folder_digest(folder) == decision["digest"]:
                found[model] = decision
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for a summary that Markdown renders."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells for row in rows)]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def as_text(rows: Sequence[Row], width: int = WIDTH, colors: bool = False) -> str:
    """The table for a terminal: aligned, and folded inside its cells where it would be wider than `width`."""
    table = [TOLD, *(row.told for row in rows)]
    columns = list(zip(*table, strict=True))
    widths, words, parts = (
        [_longest(column, at) for column in columns] for at in ("\n", r"\s", r"[\s_]")
    )
    while sum(widths) + 2 * (len(widths) - 1) > width:
        # A column gives way where that breaks no word, then where it breaks one at an underscore, the widest first.
        widest = max(
            range(len(widths)),
            key=lambda i: (widths[i] > words[i], widths[i] > parts[i] + 1, widths[i]),
        )
        widths[widest] -= 1
    heading, *body = ["\n".join(_folded(line, widths)) for line in table]
    rule = "  ".join("-" * w for w in widths)
    return "\n".join([f"\x1b[1m{heading}\x1b[0m" if colors else heading, rule, *body]) + "\n"


def _folded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    columns = [_fold(cell, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(len(column) for column in columns)
    lines = [[column[i] if i < len(column) else "" for column in columns] for i in range(height)]
    return [
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _longest(cells: Sequence[str], at: str) -> int:
    return max(len(piece) for cell in cells for piece in re.split(at, cell))


def _fold(cell: str, width: int) -> list[str]:
    """`cell` in lines of at most `width`, broken at its spaces, and a word that is longer after its underscores."""
    if "\n" in cell:
        return [line for part in cell.split("\n") for line in _fold(part, width)]
    lines: list[str] = []
    for word in cell.split():
        if lines and len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for piece in (
            re.findall(rf"[^_]{{1,{width - 1}}}_?|_", word) if len(word) > width else [word]
        ):
            if len(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
    return lines
