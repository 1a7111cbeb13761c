"""Compare rows that were asked with those that the champion was trained on.

The rows are a file, as `make predict` takes it, or a folder of the Parquet files that
`make serve LOG=folder` writes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from .. import config, drift, plugins, reference
from ..errors import DataError, SextantError, UsageError
from ..kinds.levels import texts_of
from ..tracking import packing, registry, store, unpacking

if TYPE_CHECKING:
    from ..saved_model import SavedModel

USAGE = "expected: make drift MODEL=<model> INPUT=<file of rows, or folder of LOG=>"
SERVED, ANSWER = "served_", "answer_"  # the prefixes of what a log has beside the input columns
PREDICTION = f"{ANSWER}prediction"


def compare(model: str, path: Path) -> drift.Report:
    """The rows of a file or of a log against the training rows of the champion.

    Raises SextantError for a champion without a summary of its rows, DataError for rows that cannot
    be read.
    """
    local = registry.champion_here(model)
    if local is None:
        folder = packing.folder_of(registry.champion_of(store.client(), model).model_uri)
    else:
        folder = local[1]
    summary = packing.reference_of(folder)
    if summary is None:
        raise SextantError(
            f"the champion of {model} has no summary of its training rows, since an earlier version"
            f" registered it; `make register MODEL={model}` adds it where its outputs are present"
        )
    thresholds = config.model(model, shelf=True).gate.drift or config.Drift()
    champion = unpacking.load(folder)
    return drift.compare(summary, summary_of(champion, path, summary), thresholds)


def summary_of(
    model: "SavedModel", path: Path, trained: reference.Reference
) -> reference.Reference:
    """The summary of the rows at `path`, in the quantities of the training rows."""
    frame = _log(path) if path.is_dir() else None
    is_log = frame is not None
    if frame is None:
        frame = model.read(path)
    kind = str(model.card["kind"])
    quantities: Mapping[str, pd.Series]
    if kind == "tabular":
        quantities = _columns(frame, trained)
    else:
        monitored: Callable[..., Mapping[str, pd.Series]] | None
        monitored = plugins.optional(plugins.kind(kind).rows, "monitored", None)
        if monitored is None:
            raise UsageError(f"kind {kind} does not say whose drift is looked at")
        quantities = monitored({"train": model.encoder.check(frame)}, model.encoder.columns)
    target = plugins.optional(model.encoder.columns, "target", None)
    if is_log and target in trained and target not in quantities and PREDICTION in frame:
        # What is answered takes the place of the labels, which come later if at all.
        answers = {target: frame[PREDICTION].dropna()}
        quantities = {**quantities, **_columns(pd.DataFrame(answers), trained)}
    return reference.summary(quantities)


def _log(folder: Path) -> "pd.DataFrame | None":
    """The rows of a log, None for a folder without one."""
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        return None
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def _columns(frame: pd.DataFrame, trained: reference.Reference) -> dict[str, pd.Series]:
    """The columns of a table that training had, as numbers or as levels, as they were there."""
    columns: dict[str, pd.Series] = {}
    for name, summary in trained.items():
        if name not in frame:
            continue
        if "points" in summary:
            columns[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
        else:
            columns[name] = texts_of(frame[name])
    if not columns:
        raise DataError(f"no column is one of training: {', '.join(trained)}; name them like this")
    return columns


def lines(report: drift.Report) -> list[str]:
    """The report as a table for a terminal, the largest drift first."""
    rows = [("quantity", "drift", "PSI", "test", "p", "rows", "missing", "new, lost")]
    for part in report.findings:
        beside = [f"new {level}" for level in part.new[: drift.SHOWN]]
        beside += [f"lost {level}" for level in part.lost[: drift.SHOWN]]
        rows.append(
            (
                part.name,
                part.severity,
                f"{part.psi:.3f}",
                f"{part.test} {part.statistic:.4g}",
                f"{part.p:.2g}",
                f"{part.rows[0]:,} -> {part.rows[1]:,}",
                f"{part.missing[0]:.1%} -> {part.missing[1]:.1%}",
                ", ".join(beside),
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    texts = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        texts.append("  ".join(cells).rstrip())
    if report.absent:
        texts.append(f"not compared, since one of the two lacks them: {', '.join(report.absent)}")
    return texts


def main(argv: list[str]) -> None:
    """`sextant drift model=<name> input=<file or folder>`: print how far the rows have moved."""
    named, rest = config.named_options(argv, "model", "input")
    if rest or "model" not in named or "input" not in named:
        raise UsageError(USAGE)
    report = compare(named["model"], Path(named["input"]))
    print("\n".join(lines(report)))
