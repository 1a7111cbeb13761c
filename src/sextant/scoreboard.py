"""The rows of the leaderboard, as text and as Markdown: metric, baselines, decision of a model.

The report page, `make leaderboard` and the summary of a retraining show the same rows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from . import paths
from .errors import SextantError
from .files import folder_digest

HEADINGS = (
    "model",
    "data set",
    "metric",
    "value [95 %]",
    "baseline (trivial)",
    "best baseline",
    "gain over best baseline [95 %]",
    "decision",
)
NUMBER_HEADINGS = HEADINGS[3:7]  # their cells are a number and a detail, separated by a space
TERMINAL_HEADINGS = (  # two values to a cell, one above the other
    "model",
    "data set",
    "metric\nvalue [95 %]",
    "baseline (trivial)\nbest baseline",
    "gain over best\nbaseline [95 %]",
    "decision",
)
DATA_LABELS = {  # by source
    "embedded": "twin",
    "local": "real",
    "mirror": "real",
    "canonical": "real",
}
UNDECIDED = "not registered here"
CHAMPION = ", champion"  # appended to a decision while its version is the champion
WIDTH = 100  # characters; at 80 the names of baselines break and a model takes five lines


class Metrics(TypedDict):
    """reports/metrics/<model>.json, as evaluate writes it.

    `metric` is the one that the gate compares (the first one of a task that has intervals for it
    alone) and `interval` its 95 % interval on test. `better` is the gain over the baseline `best`:
    (value, low, high), positive if the model is better.
    """

    model: str
    family: str
    dataset: str
    task: str
    source: str
    seed: int
    budget: str
    metric: str
    direction: str
    epochs: int
    val: dict[str, float]
    test: dict[str, float]
    interval: list[float]
    trivial: str
    best: str
    better: list[float]
    baselines: dict[str, dict[str, float]]
    rows: dict[str, int]
    verdict: NotRequired[list[str]]


class Decision(TypedDict):
    """The keys of reports/decisions/<model>.json that the leaderboard and retrain show.

    `champion` says whether the decided version is the champion, and `against` which one was at the
    time of the decision; None if there was none.
    """

    decision: str
    reason: str
    champion: bool
    digest: str
    registered_model: str
    version: str
    against: str | None


@dataclass(frozen=True)
class Row:
    """One model: the metric that its gate reads, on the test part."""

    model: str
    dataset: str
    source: str
    metric: str
    value: float
    interval: tuple[float, float]
    trivial: tuple[str, float]  # name and score
    best: tuple[str, float]
    gain: tuple[float, float, float]  # over the best baseline, with its interval
    decision: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, under HEADINGS."""
        low, high = self.interval
        gain, gain_low, gain_high = self.gain
        return (
            self.model,
            f"{self.dataset} ({DATA_LABELS[self.source]})",
            self.metric,
            f"{self.value:.4f} [{low:.3f}…{high:.3f}]",
            f"{self.trivial[1]:.4f} {self.trivial[0]}",
            f"{self.best[1]:.4f} {self.best[0]}",
            f"{gain:+.4f} [{gain_low:+.3f}…{gain_high:+.3f}]",
            self.decision,
        )

    @property
    def terminal_cells(self) -> tuple[str, ...]:
        """The same text in fewer and higher cells, under TERMINAL_HEADINGS."""
        model, data, metric, value, trivial, best, gain, decision = self.cells
        return (
            model,
            data.replace(" (", "\n("),
            f"{metric}\n{value}",
            f"{trivial}\n{best}",
            gain.replace(" [", "\n["),
            decision.replace(", ", ",\n"),
        )


def rows(metrics: Iterable[Metrics], decisions: Mapping[str, Decision]) -> list[Row]:
    """One row per model, in the order of `metrics`; `decisions` by model, where there is one."""
    return [_row(record, decisions.get(record["model"])) for record in metrics]


def _row(metrics: Metrics, decision: Decision | None) -> Row:
    """One model's row; raises KeyError, TypeError or ValueError for an incomplete record."""
    metric = metrics["metric"]
    trivial = metrics["trivial"]
    best = metrics["best"]
    baselines = metrics["baselines"]
    low, high = metrics["interval"]
    gain, gain_low, gain_high = metrics["better"]
    return Row(
        model=metrics["model"],
        dataset=metrics["dataset"],
        source=metrics["source"],
        metric=metric,
        value=float(metrics["test"][metric]),
        interval=(float(low), float(high)),
        trivial=(trivial, float(baselines[trivial][metric])),
        best=(best, float(baselines[best][metric])),
        gain=(float(gain), float(gain_low), float(gain_high)),
        decision=describe(decision),
    )


def describe(decision: Decision | None) -> str:
    """A decision in a cell: `promoted, champion`, or that there is none in this registry."""
    if decision is None:
        return UNDECIDED
    return decision["decision"] + CHAMPION * bool(decision["champion"])


# --- reading reports/ ---------------------------------------------------------------------------


def read(path: Path, model: str) -> str:
    """The text of a file that is required for `model`; raises SextantError if it is missing."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SextantError(
            f"{path} is missing, but params.yaml lists model `{model}`; `make repro` creates it"
        ) from None


def read_json(path: Path, model: str) -> Any:
    """Like `read`, parsed; raises SextantError also if the file is not JSON."""
    try:
        return json.loads(read(path, model))
    except json.JSONDecodeError as error:
        raise SextantError(f"{path} is not JSON ({error}); `make repro` rewrites it") from None


def read_metrics(models: Iterable[str]) -> list[Metrics]:
    """reports/metrics/<model>.json of all `models`; raises SextantError if a key is missing."""
    records: list[Metrics] = []
    for model in models:
        path = paths.tracked(model).metrics
        record = read_json(path, model)
        try:
            _row(record, None)
        except (KeyError, TypeError, ValueError) as error:
            raise SextantError(
                f"{path} lacks what evaluate writes ({error!r}); `make repro` rewrites it"
            ) from None
        records.append(record)
    return records


def read_decisions(models: Iterable[str]) -> dict[str, Decision]:
    """The decisions of this registry by model, without those on an older training of the model.

    If models/<model>/ is missing (DVC removes the outputs of a stage before it runs), the age of
    the decision is unknown, and it is kept.
    """
    decisions: dict[str, Decision] = {}
    for model in models:
        path = paths.decision(model)
        folder = paths.tracked(model).model
        if path.is_file():
            decision: Decision = read_json(path, model)
            if not folder.is_dir() or folder_digest(folder) == decision["digest"]:
                decisions[model] = decision
    return decisions


# --- tables -------------------------------------------------------------------------------------


def as_markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown, for a summary."""
    text = _markdown_line(HEADINGS) + _markdown_line(["---"] * len(HEADINGS))
    for row in rows:
        text += _markdown_line(row.cells)
    return text


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def as_text(rows: Sequence[Row], width: int = WIDTH, colors: bool = False) -> str:
    """The table for a terminal: aligned, with its cells folded to fit into `width`."""
    table: list[tuple[str, ...]] = [TERMINAL_HEADINGS]
    for row in rows:
        table.append(row.terminal_cells)
    widths = _column_widths(list(zip(*table, strict=True)), width)
    heading, *body = ["\n".join(_aligned(cells, widths)) for cells in table]
    if colors:
        heading = f"\x1b[1m{heading}\x1b[0m"  # bold
    rule = "  ".join("-" * column_width for column_width in widths)
    return "\n".join([heading, rule, *body]) + "\n"


def _column_widths(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """Start from the longest line of each column, and narrow columns until they fit into `width`.

    The next column to narrow is the widest of those where no token is broken, else of those where
    tokens are broken only at underscores, else of all.
    """
    widths = [_longest(column, at="\n") for column in columns]
    tokens = [_longest(column, at=r"\s") for column in columns]
    parts = [_longest(column, at=r"[\s_]") for column in columns]

    def slack(i: int) -> tuple[bool, bool, int]:
        return widths[i] > tokens[i], widths[i] > parts[i] + 1, widths[i]

    # Columns are separated by two spaces.
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widths[max(range(len(widths)), key=slack)] -= 1
    return widths


def _longest(cells: Sequence[str], at: str) -> int:
    """The length of the longest piece of any cell, split at the pattern `at`."""
    longest = 0
    for cell in cells:
        longest = max(longest, *map(len, re.split(at, cell)))
    return longest


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row of the table."""
    columns = [_fold(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for texts in zip_longest(*columns, fillvalue=""):
        padded = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines


def _fold(cell: str, width: int) -> list[str]:
    """`cell` as lines of at most `width`: broken at spaces, longer tokens after underscores."""
    lines: list[str] = []
    for paragraph in cell.split("\n"):
        lines += _fold_paragraph(paragraph, width)
    return lines


def _fold_paragraph(paragraph: str, width: int) -> list[str]:
    lines: list[str] = []
    for token in paragraph.split():
        if lines and len(f"{lines[-1]} {token}") <= width:
            lines[-1] += f" {token}"
            continue
        lines.append("")
        for chunk in _chunks(token, width):
            if len(lines[-1] + chunk) > width:
                lines.append("")
            lines[-1] += chunk
    return lines


def _chunks(token: str, width: int) -> list[str]:
    """Cut a token that is longer than `width`: after underscores, or anywhere without them."""
    if len(token) <= width:
        return [token]
    return re.findall(rf"[^_]{{1,{width - 1}}}_?|_", token)
