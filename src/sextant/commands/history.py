"""Print every change of a model's champion: when, by whom and why, with the gate's figures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import config
from ..errors import UsageError
from ..tracking import promotions, registry, store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

HEADINGS = ("when (UTC)", "champion", "before", "by", "who", "figures of the gate", "why")


def history(model: str) -> str:
    """The changes of champion as a table, one paragraph for each registered name of the model.

    Raises SextantError if the model is not registered.
    """
    mlflow = store.client()
    parts = []
    for name in registry.registered_names(model):
        if registry.versions(mlflow, name):
            parts.append(_paragraph(mlflow, name))
    if not parts:
        raise registry.no_champion(mlflow, model)
    return "\n\n".join(parts)


def _paragraph(mlflow: "MlflowClient", name: str) -> str:
    champion = registry.champion(mlflow, name)
    present = f"version {champion.version} is champion" if champion else "no champion"
    lines = [f"{name}: {present}"]
    waiting = promotions.challenger(mlflow, name)
    if waiting:
        lines.append(f"version {waiting.version} waits for a person")
    freeze = promotions.frozen(mlflow, name)
    if freeze:
        reason = f": {freeze.why}" if freeze.why else ""
        lines.append(f"frozen since {freeze.time} by {freeze.who}{reason}")
    rows = _earlier_rows(mlflow, name)
    for change in promotions.changes(mlflow, name):
        rows.append(_row(change))
    recorded = rows[-1][1] if rows else None
    if champion and recorded != champion.version:
        rows.append(
            ("?", champion.version, recorded or "", "?", "?", "", "moved outside of Sextant")
        )
    return "\n".join(lines + _table(rows))


def _earlier_rows(mlflow: "MlflowClient", name: str) -> list[tuple[str, ...]]:
    """The champions of earlier versions of Sextant, which recorded their order and last times."""
    changes = promotions.changes(mlflow, name)
    first = changes[0] if changes else None
    rows: list[tuple[str, ...]] = []
    tags = {version.version: version.tags for version in registry.versions(mlflow, name)}
    previous = ""
    for number in promotions.champion_history(mlflow, name):
        if first and number == first.version:
            break
        since = tags.get(number, {}).get("champion_since", "?")
        if first and since >= first.time:
            break
        rows.append((since[:19].replace("T", " "), number, previous, "?", "?", "", ""))
        previous = number
    return rows


def _row(change: promotions.Change) -> tuple[str, ...]:
    when = change.time[:19].replace("T", " ")
    figures = _figures(change.figures)
    return when, change.version, change.previous or "", change.kind, change.who, figures, change.why


def _figures(figures: Mapping[str, float | str | None]) -> str:
    parts = []
    for name, value in figures.items():
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        parts.append(f"{name} {text}")
    return ", ".join(parts)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [len(heading) for heading in HEADINGS]
    for row in rows:
        widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    lines = []
    for row in (HEADINGS, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def main(argv: list[str]) -> None:
    """`sextant history model=<name>`."""
    options, rest = config.named_options(argv, "model")
    if rest or "model" not in options:
        raise UsageError("expected: make history MODEL=<model>")
    print(history(options["model"]))
