"""What a guess comes to: the confs, and a summary for the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Result:
    """The three confs as text, the words for params.yaml, and the lines of the summary.

    lines: what was understood. doubts: what was unsure, each with the option that overrules it.
    """

    kind: str
    family: str
    task: str
    dataset: str
    expectations: str
    model: str
    lines: list[str]
    doubts: list[str] = field(default_factory=list)


SHOWN = 12  # columns that a line of the summary names


def listed_reasons(reasons: Mapping[str, str]) -> str:
    """Columns that are left aside, each with its reason."""
    items = [f"{name} ({reason})" for name, reason in reasons.items()]
    more = f", and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{', '.join(items[:SHOWN])}{more}"
