"""Stage prepare: repair the raw rows and split them into four parts.

The model is fitted on train. Every choice is made on val. Only register reads gate, and the scores
on test are reported and decide nothing.
"""

from typing import TYPE_CHECKING, Any

from . import config, paths, plugins
from .errors import DataError
from .files import needed, read_json, write_json, written_whole
from .kinds.parts import scored

if TYPE_CHECKING:
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
    return {
        "dataset": conf.name,
        "kind": conf.kind,
        "about": conf.about,
        "source": validation["source"],
        "digest": validation["digest"],
        "layout": layout(parts, conf),
        "rows": {name: len(scored(rows)) for name, rows in parts.items()},
        **plugins.kind(conf.kind).rows.profile(parts, conf.columns),
    }


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


def passed_over(raw: object, conf: config.DatasetConf) -> dict[str, dict[str, int]]:
    """How many rows reading left out, by the reason; empty if it left out none."""
    count = plugins.optional(plugins.kind(conf.kind).rows, "passed_over", None)
    counts: dict[str, int] = count(raw) if count else {}
    return {"passed_over": counts} if counts else {}


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
    raw = rows.read(needed(paths.raw(name)), conf.columns)
    parts = prepare(raw, conf)
    left_out = passed_over(raw, conf)
    out = paths.prepared(name) if paths.run_by_dvc() else paths.SCRATCH / "prepared" / name
    with written_whole(out) as folder:
        folder.mkdir()
        for part, part_rows in parts.items():
            rows.write(part_rows, folder / part)
        write_json(folder / "profile.json", {**profile(parts, conf, validation), **left_out})
    counts = [f"{part} {len(scored(part_rows)):,}" for part, part_rows in parts.items()]
    for reason, count in left_out.get("passed_over", {}).items():
        counts.append(f"{reason} passed over {count:,}")
    print(f"{name}: {', '.join(counts)}")
