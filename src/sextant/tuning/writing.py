"""Write settings into the text of conf/model/<model>.yaml: comments and layout stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .. import config, files
from ..errors import UsageError
from ..yaml_text import Edit, edited, has_content, node_at


def write(path: Path, changes: Mapping[str, object], budget: config.Budget) -> list[str]:
    """Write new values, by names such as `net.dropout`; return where, such as `net.dropout`.

    Raises UsageError if a value cannot be replaced in the text; then nothing is written.
    """
    text = path.read_bytes().decode("utf-8")  # as bytes, so that line ends are kept
    changed, places = with_settings(text, changes, budget, str(path))
    with files.written_whole(path) as beside:
        beside.write_bytes(changed.encode("utf-8"))
    return places


def with_settings(
    text: str, changes: Mapping[str, object], budget: config.Budget, where: str
) -> tuple[str, list[str]]:
    """The text with new values, and the places of these.

    A value stands in the block of the budget where that overrides it, since one above would have
    no effect on that budget.
    """
    expected: dict[str, Any] = yaml.safe_load(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    edits = []
    places = []
    for name, value in changes.items():
        keys = _place(expected, name, budget)
        try:
            node = node_at(root, *keys)
        except StopIteration:
            raise _by_hand(where, changes, f"it has no `{name}`") from None
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            raise _by_hand(where, changes, f"`{name}` stands on several lines")
        written = as_yaml(value)
        edits.append(Edit(node.start_mark.index, node.end_mark.index, written))
        block = expected
        for key in keys[:-1]:
            block = block[key]
        block[keys[-1]] = yaml.safe_load(written)
        places.append(".".join(keys))
    result = edited(text, edits)
    if not has_content(result, expected):
        raise _by_hand(where, changes, "other values would change")
    return result, places


def _place(content: Mapping[str, Any], name: str, budget: config.Budget) -> list[str]:
    """The keys that lead to the value which a budget uses."""
    block, _, key = name.partition(".")
    override = ((content.get("budgets") or {}).get(budget) or {}).get(block) or {}
    if key in override:
        return ["budgets", budget, block, key]
    return [block, key]


def _by_hand(where: str, changes: Mapping[str, object], reason: str) -> UsageError:
    lines = [f"{name}: {as_yaml(value)}" for name, value in changes.items()]
    return UsageError(f"{where}: {reason}; write these values by hand: {', '.join(lines)}")


def as_yaml(value: object) -> str:
    """A value as a conf has it: a list in one line, a number without an exponent.

    YAML reads `1e-05` as a text.
    """
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0")
    if isinstance(value, list):
        return f"[{', '.join(as_yaml(part) for part in value)}]"
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]
