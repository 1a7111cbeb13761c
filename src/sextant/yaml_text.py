"""Replace values in the text of a YAML file: every other character stays as it is.

YAML writers, even those that keep comments, change the layout. So the parser gives the positions of
the values, only these are replaced, and the result is parsed again as a check.
"""

from collections.abc import Sequence
from typing import NamedTuple

import yaml


class Edit(NamedTuple):
    """Replaces the characters from `start` up to `end` by `new`."""

    start: int
    end: int
    new: str


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text with all edits, which must not overlap."""
    parts = []
    done = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        parts += [text[done : edit.start], edit.new]
        done = edit.end
    parts.append(text[done:])
    return "".join(parts)


def node_at(node: yaml.Node, *keys: str) -> yaml.Node:
    """The node that `keys` lead to below a mapping node; raises StopIteration if there is none."""
    for key in keys:
        node = next(value for name, value in node.value if name.value == key)
    return node


def has_content(text: str, expected: object) -> bool:
    """Whether a text is YAML with this content."""
    try:
        return bool(yaml.safe_load(text) == expected)
    except yaml.YAMLError:
        return False
