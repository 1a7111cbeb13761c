"""Edit the lists `datasets` and `models` of params.yaml as text: every other character stays."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from . import config, files, paths
from .errors import UsageError


class Entry(NamedTuple):
    """An entry of a list, as it is written.

    comments: the comment lines directly above it, without their indentation.
    text: from its name to the end of its last line, with the comment that ends that line.
    """

    comments: list[str]
    text: str


def entry(text: str, block: str, name: str, where: str) -> Entry:
    """The entry `name` of the list `block` of a file of this form.

    Raises UsageError, which calls the file `where`, if the list is not written in lines.
    """
    start, end, column = _lines_of(text, block, name, where)
    first = _comments_start(text, start, column)
    comments = [line.strip() for line in text[first:start].splitlines()]
    return Entry(comments, text[start + column : end].rstrip("\r\n"))


def with_entry(text: str, block: str, added: Entry, where: str) -> str:
    """The text with an entry at the end of the list `block`.

    Raises UsageError, which calls the file `where`, if the list is not written in lines.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    node = _block(text, block, where, f"add `{added.text}` to it")
    last_key, last_value = node.value[-1]
    column = last_key.start_mark.column
    end = text.find("\n", _content_end(last_value))
    if end < 0:
        text += newline
        end = len(text) - 1
    inserted = ""
    for line in [*added.comments, *added.text.splitlines()]:
        inserted += f"{' ' * column}{line}{newline}"
    return text[: end + 1] + inserted + text[end + 1 :]


def without_entry(text: str, block: str, name: str, comments: list[str], where: str) -> str:
    """The text without an entry, and without the comment lines above it if they are `comments`."""
    start, end, column = _lines_of(text, block, name, where)
    first = _comments_start(text, start, column)
    above = text[first:start].splitlines(keepends=True)
    if comments and [line.strip() for line in above[-len(comments) :]] == comments:
        start -= sum(len(line) for line in above[-len(comments) :])
    return text[:start] + text[end:]


def _block(text: str, block: str, where: str, advice: str) -> yaml.MappingNode:
    """The mapping of a list; raises UsageError unless each of its entries has lines of its own."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes: Mapping[str, yaml.Node] = {}
    if isinstance(root, yaml.MappingNode):
        nodes = {key.value: node for key, node in root.value}
    node = nodes.get(block)
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        raise UsageError(
            f"{where}: `{block}` is no block of lines; {advice} by hand, or write each entry on a"
            " line of its own"
        )
    return node


def _lines_of(text: str, block: str, name: str, where: str) -> tuple[int, int, int]:
    """Where the lines of an entry begin and end in the text, and the column of its name."""
    for key, value in _block(text, block, where, f"edit `{name}` in it").value:
        if key.value == name:
            column = key.start_mark.column
            end = text.find("\n", _content_end(value))
            return key.start_mark.index - column, len(text) if end < 0 else end + 1, column
    raise KeyError(name)


def _content_end(value: yaml.Node) -> int:
    """Where the text of a value ends.

    A block mapping ends where the next token begins, which may be lines below.
    """
    while isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        value = last[1] if isinstance(last, tuple) else last
    return value.end_mark.index


def _comments_start(text: str, start: int, column: int) -> int:
    """Where the comment lines above an entry begin that are indented as it is; else `start`."""
    lines = text[:start].splitlines(keepends=True)
    while lines and lines[-1].startswith(" " * column + "#"):
        start -= len(lines.pop())
    return start


# --- the files ----------------------------------------------------------------------------------


def read(path: Path) -> str:
    """The text of a file, with its line ends."""
    return path.read_bytes().decode("utf-8")


def write_params(text: str) -> None:
    """Write params.yaml; raises UsageError for a fault in the text, and writes nothing."""
    config.check_params(text)
    with files.written_whole(paths.PARAMS) as beside:
        beside.write_text(text, encoding="utf-8", newline="")
