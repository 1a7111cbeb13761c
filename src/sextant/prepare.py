"""Stage prepare: repair the raw rows and split them into four parts.

The model is fitted on train. Every choice is made on val. Only register scores gate, and the scores
on test are reported and decide nothing.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import config, paths, plugins, reference
from .errors import DataError
from .files import needed, read_json, write_json, written_whole
from .kinds.parts import scored

if TYPE_CHECKING:
    import pandas as pd

    from . import contracts


def prepare(raw: object, conf: config.DatasetConf) -> "contracts.Parts":
    """Repair and split; raises DataError if a key is in two parts or a class is missing."""
    rows = plugins.kind(conf.kind).rows
    parts = rows.split(rows.repair(raw, conf.columns), conf.columns, conf.split)
    rows.check_parts(parts, conf.columns)
    return parts


def profile(
    parts: "contracts.Parts", conf: config.DatasetConf, validation: dict[str, Any]
) -> dict[str, Any]:
    """The properties of the data that later stages and the report need, as JSON."""
    passed_over = {}
    if "passed_over" in validation:
        passed_over["passed_over"] = validation["passed_over"]
    return {
        "dataset": conf.name,
        "kind": conf.kind,
        "about": conf.about,
        "source": validation["source"],
        "digest": validation["digest"],
        "layout": layout(parts, conf),
        "rows": {name: len(scored(rows)) for name, rows in parts.items()},
        **passed_over,
        **plugins.kind(conf.kind).rows.profile(parts, conf.columns),
    }


def summary(parts: "contracts.Parts", conf: config.DatasetConf) -> dict[str, reference.Summary]:
    """The distributions of the training rows, with which later rows are compared, as JSON."""
    monitored: Callable[..., Mapping[str, pd.Series]] | None
    monitored = plugins.optional(plugins.kind(conf.kind).rows, "monitored", None)
    return reference.summary(monitored(parts, conf.columns)) if monitored else {}


def layout(parts: "contracts.Parts", conf: config.DatasetConf) -> dict[str, Any]:
    """The block `columns` as JSON, patterns for columns replaced by names.

    Keys that the conf leaves out stay out, so that a new one with a default changes no data.
    """
    columns = conf.columns
    resolved = plugins.optional(columns, "resolved", None)
    if resolved:
        columns = resolved(parts["train"].columns)
    block: dict[str, Any] = columns.model_dump(exclude_unset=True)
    return block


def main(argv: list[str]) -> None:
    """`sextant prepare dataset=<name>`: data/raw/<name>/ to data/prepared/<name>/."""
    name, overrides = config.named(argv, "dataset")
    conf = config.dataset(name, overrides)
    report = needed(paths.validation(name))
    validation = read_json(report)
    if not validation["success"]:
        raise DataError(
            f"{name} failed its expectations; see {report}, correct the data, then `make validate`"
        )
    rows = plugins.kind(conf.kind).rows
    parts = prepare(rows.read(needed(paths.raw(name)), conf.columns), conf)
    out = paths.prepared(name) if paths.run_by_dvc() else paths.SCRATCH / "prepared" / name
    with written_whole(out) as folder:
        folder.mkdir()
        for part, part_rows in parts.items():
            rows.write(part_rows, folder / part)
        write_json(folder / "profile.json", profile(parts, conf, validation))
        write_json(folder / reference.FILE, summary(parts, conf))
    remarks = plugins.optional(rows, "remarks", None)
    if remarks:
        for line in remarks(parts, conf.columns):
            print(f"{name}: {line}")
    counts = [f"{part} {len(scored(part_rows)):,}" for part, part_rows in parts.items()]
    print(f"{name}: {', '.join(counts)}")
