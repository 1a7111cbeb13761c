"""Decisions as files: what the gate decided, for the report and for the next call of register."""

import json
from collections.abc import Mapping
from typing import Any

from . import files, paths
from .gate import Candidate, changed_rules
from .tracking import registry, store


def write_decision(record: Mapping[str, Any]) -> None:
    """Write reports/decisions/<model>.json and reports/decisions.js, which the page includes."""
    files.write_json(paths.decision(record["model"]), record)
    decisions = {}
    for path in sorted(paths.DECISIONS.glob("*.json")):
        decision = files.read_json(path)
        decisions[decision["model"]] = decision
    # A reason that contains `</script>` must not end the script.
    text = json.dumps(decisions, indent=2).replace("</", "<\\/")
    with files.written_whole(paths.DECISIONS_SCRIPT) as beside:
        beside.write_text(f"window.decisions = {text};\n", encoding="utf-8")


def judged_here(candidate: Candidate) -> dict[str, Any] | None:
    """The decision on this digest in this registry, if the files and a local database have it.

    None if the gate has been edited since: then the model is judged again. MLflow is not imported,
    which would take two seconds for each model that is judged already.
    """
    path = paths.decision(candidate.name)
    if not path.is_file():
        return None
    record: dict[str, Any] = files.read_json(path)
    recorded = (record["digest"], record["registered_model"], record["tracking_uri"])
    if recorded != (candidate.digest, candidate.registered, store.address()):
        return None
    if changed_rules(record, candidate.gate):
        return None
    if not registry.is_judged_here(candidate.registered, candidate.digest):
        return None
    champion = registry.is_champion_here(candidate.registered, record["version"])
    return {**record, "champion": champion}


def print_decision(record: Mapping[str, Any]) -> None:
    """One line: model, decision, version, whether it is champion, and why."""
    version = record["registered_model"]
    if "version" in record:
        version += f" version {record['version']}"
    if record.get("champion"):
        version += ", champion"
    print(f"{record['model']}: {record['decision']} ({version}): {record['reason']}")


def record_champion(model: str, name: str, version: str) -> None:
    """Update the decision file after the champion of `name` was changed by hand."""
    path = paths.decision(model)
    if not path.is_file():
        return
    record = files.read_json(path)
    if record["registered_model"] == name:
        write_decision({**record, "champion": record["version"] == version})


def print_champion(name: str, version: str, previous: registry.Version | None) -> None:
    """Print which version is champion after a change by hand, and which one no longer is."""
    suffix = ""
    if previous and previous.version != version:
        suffix = f", version {previous.version} is not"
    print(f"{name}: version {version} is champion now{suffix}")
