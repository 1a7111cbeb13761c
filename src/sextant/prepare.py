"""From raw rows to four parts: train, val (every choice), gate (read by register alone), test (reported alone)."""

import json
import os
from pathlib import Path
from typing import Any

from . import config, data, rooms
from .errors import DataError, run
from .files import needed, write_json, written_whole


def prepare(raw: Any, conf: config.DatasetConf) -> dict[str, Any]:
    """Repair and split; raises DataError where one key lies in two parts or a class is missing."""
    kind = rooms.module("data", conf.kind)
    parts: dict[str, Any] = kind.split(kind.repair(raw, conf.columns), conf.columns, conf.split)
    kind.check_parts(parts, conf.columns)
    return parts


def profile(
    parts: dict[str, Any], conf: config.DatasetConf, validation: dict[str, Any]
) -> dict[str, Any]:
    """What later stages and the report need to know of the data without reading them."""
    return {
        "dataset": conf.name,
        "kind": conf.kind,
        "about": conf.about,
        "source": validation["source"],
        "digest": validation["digest"],
        "layout": conf.columns.model_dump(),
        "rows": {name: len(data.scored(rows)) for name, rows in parts.items()},
        **rooms.module("data", conf.kind).profile(parts, conf.columns),
    }


def main(argv: list[str]) -> None:
    """`python -m sextant.prepare dataset=<name>`: data/raw/<name>/ to data/prepared/<name>/."""
    name, overrides = config.one(argv, "dataset")
    conf = config.dataset(name, overrides)
    by_dvc = "DVC_STAGE" in os.environ
    validation = json.loads(
        needed(Path(f"reports/validation/{name}.json")).read_text(encoding="utf-8")
    )
    if not validation["success"]:
        raise DataError(
            f"{name} failed its expectations; see reports/validation/{name}.json, then `make validate`"
        )
    kind = rooms.module("data", conf.kind)
    parts = prepare(kind.read(needed(Path("data/raw") / name), conf.columns), conf)
    with written_whole(Path("data/prepared" if by_dvc else ".scratch/prepared") / name) as folder:
        folder.mkdir()
        for part, rows in parts.items():
            kind.write(rows, folder / part)
        write_json(folder / "profile.json", profile(parts, conf, validation))
    print(
        f"{name}: "
        + ", ".join(f"{part} {len(data.scored(rows)):,}" for part, rows in parts.items())
    )


if __name__ == "__main__":
    run(main)
