"""YAML as a person would write it: flow lists that wrap, quotes only where they are needed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import yaml

WIDTH = 100  # characters of a line
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
COMMENT_COLUMN = 22  # where the comments of a block begin, unless a line is longer
NON_PRINTABLE = yaml.reader.Reader.NON_PRINTABLE
PLAIN = re.compile(r"[A-Za-z_/][\w .%/()+*<>=-]*", re.ASCII)
# Outside of flow lists more characters are plain.
PLAIN_BLOCK = re.compile(r"[A-Za-z_/0-9][\w .%/()+*<>=,;:`'?-]*", re.ASCII)


def scalar(value: object) -> str:
    """A value as YAML reads it back: text in quotes only where it would be something else."""
    if isinstance(value, str):
        is_plain = PLAIN.fullmatch(value) is not None and value == value.strip()
        if is_plain and yaml.load(value, Loader=LOADER) == value:
            return value
        return _escaped(json.dumps(value, ensure_ascii=False))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        # YAML 1.1 reads 1e-05 as text, and 1.0e-05 as a number.
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return json.dumps(value)


def _escaped(text: str) -> str:
    """A text in which characters that YAML does not allow are escaped; DEL is one, for example."""
    return NON_PRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def comment(text: str) -> str:
    """A text as the comment of one line: words from a file may have line breaks."""
    return f"# {_escaped(' '.join(text.split()))}"


def block(value: object) -> str:
    """A value of a key on a line of its own."""
    if isinstance(value, str) and PLAIN_BLOCK.fullmatch(value) and value == value.strip():
        try:
            if yaml.load(f"a: {value}", Loader=LOADER) == {"a": value}:
                return value
        except yaml.YAMLError:
            pass
    return scalar(value)


def flow(values: Iterable[object]) -> str:
    """A list in one line."""
    return f"[{', '.join(scalar(value) for value in values)}]"


def flow_map(values: Mapping[str, object]) -> str:
    """A mapping in one line."""
    items = []
    for key, value in values.items():
        text = flow(value) if isinstance(value, list) else scalar(value)
        items.append(f"{key}: {text}")
    return f"{{{', '.join(items)}}}"


def line(indent: int, key: str, text: str, note: str = "") -> str:
    """A line `key: text` of a block, with a note in the column of comments."""
    content = f"{' ' * indent}{key}: {text}"
    if not note:
        return content
    return f"{content:<{COMMENT_COLUMN - 1}} {comment(note)}"


def wrapped(indent: int, key: str, values: Sequence[object]) -> list[str]:
    """The lines of `key: [a, b, ...]`, at most WIDTH characters each where an entry allows it."""
    lines = []
    current = f"{' ' * indent}{key}: ["
    for number, value in enumerate(values):
        is_last = number == len(values) - 1
        text = f"{scalar(value)}{']' if is_last else ','}"
        begins = current.endswith("[") or not current.strip()
        if not begins and len(current) + 1 + len(text) > WIDTH:
            lines.append(current)
            current = " " * (indent + 2)
            begins = True
        current += text if begins else f" {text}"
    if not values:
        current += "]"
    return [*lines, current]


def with_reasons(indent: int, key: str, reasons: Mapping[str, str]) -> list[str]:
    """The lines of a list with one entry a line, each with its reason as a comment."""
    if not reasons:
        return [f"{' ' * indent}{key}: []"]
    lines = [f"{' ' * indent}{key}:"]
    for name, reason in reasons.items():
        content = f"{' ' * (indent + 2)}- {scalar(name)}"
        lines.append(f"{content:<{COMMENT_COLUMN - 1}} {comment(reason)}" if reason else content)
    return lines
